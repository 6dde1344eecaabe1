# Sourced by scripts that fetch something once, in the folder of the repository. Tests run them at the same time.

# alone NAME: waits until no other process fetches NAME, and keeps others away until this one ends. What the other one
# fetched is there then, so the caller looks again.
alone() {
  command -v flock >/dev/null || return 0 # macOS: tests that start at once may fetch twice
  mkdir -p .cache
  exec 9>".cache/$1.lock"
  flock -w 1800 9 || { echo "another process has been fetching $1 for half an hour: stop it, and try again" >&2; exit 69; }
}
