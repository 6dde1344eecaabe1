#!/usr/bin/env bash
# Prints the path of Chromium and that of its driver, each on a line: AEGIS_CHROMIUM and AEGIS_CHROMEDRIVER, those on the
# path, or those of Debian's packages, which are fetched once into .cache/chromium with the libraries that this machine
# lacks. Root is not needed.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/once.sh

# Succeeds if all programs run.
run() {
  for program in "$@"; do
    "$program" --version >/dev/null 2>&1 || return 1
  done
}

chromium=${AEGIS_CHROMIUM:-}
for name in chromium chromium-browser google-chrome google-chrome-stable; do
  [ -n "$chromium" ] || chromium=$(command -v "$name" || true)
done
driver=${AEGIS_CHROMEDRIVER:-$(command -v chromedriver || true)}
if [ -n "$chromium" ] && [ -n "$driver" ] && run "$chromium" "$driver"; then
  printf '%s\n' "$chromium" "$driver"
  exit
fi
if [ -n "${AEGIS_CHROMIUM:-}${AEGIS_CHROMEDRIVER:-}" ]; then
  echo "AEGIS_CHROMIUM (${chromium:-not found}) and AEGIS_CHROMEDRIVER (${driver:-not found}) do not both run." >&2
  exit 69
fi

fetch() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "Chromium or its driver is not installed: install both (Debian: chromium chromium-driver), or name them in" >&2
    echo "AEGIS_CHROMIUM and AEGIS_CHROMEDRIVER." >&2
    exit 69
  fi
  echo "Fetching Chromium and its driver with apt-get (133 MB or less, once)" >&2
  new=$PWD/.cache/chromium.$$
  mkdir -p "$new/cache/archives/partial" "$new/lists/partial" "$new/root" "$new/bin"
  trap 'rm -rf "$new"' EXIT
  # Nothing is installed, so that no lock of the system is needed: the packages that an installation would add are
  # downloaded into a folder of ours, and the browser's own also if they are installed. If the lists of packages are
  # missing or old, they are updated there too.
  packages=(chromium chromium-common chromium-driver fonts-dejavu-core)
  apt=(apt-get -q -y -o APT::Sandbox::User=root -o Debug::NoLocking=1 -o Dir::Cache="$new/cache"
    -o APT::Keep-Downloaded-Packages=true)
  own=("${apt[@]}" -o Dir::State::lists="$new/lists")
  download=(--no-install-recommends --reinstall --download-only install "${packages[@]}")
  { "${apt[@]}" "${download[@]}" || { "${own[@]}" update && "${own[@]}" "${download[@]}"; }; } >"$new/log" 2>&1 ||
    { cat "$new/log" >&2; echo "Install chromium and chromium-driver, or let apt-get know them (apt-get update)." >&2; exit 69; }
  for package in "$new"/cache/archives/*.deb; do
    case ${package##*/} in
      libc6_*) ;; # the system's loader needs the C library of the system
      *) dpkg -x "$package" "$new/root" ;;
    esac
  done
  rm -rf "$new/cache" "$new/lists"
  # The libraries of these packages are found before those of the system, of which none is replaced.
  for program in chromium:lib/chromium/chromium chromedriver:bin/chromedriver; do
    cat >"$new/bin/${program%%:*}" <<'WRAPPER'
#!/bin/sh
root=$(cd "$(dirname "$0")/../root" && pwd)
for folder in "$root"/lib/*-linux-gnu* "$root"/usr/lib/*-linux-gnu* "$root"/usr/lib/*-linux-gnu*/*/; do
  [ -d "$folder" ] && LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
done
export LD_LIBRARY_PATH
WRAPPER
    echo "exec \"\$root/usr/${program#*:}\" \"\$@\"" >>"$new/bin/${program%%:*}"
    chmod +x "$new/bin/${program%%:*}"
  done
  for program in "$new/bin/chromium" "$new/bin/chromedriver"; do
    "$program" --version >&2 || { echo "the fetched ${program##*/} does not run on this machine: install it" >&2; exit 69; }
  done
  rm -rf .cache/chromium
  mv "$new" .cache/chromium
}

bin=$PWD/.cache/chromium/bin
if ! run "$bin/chromium" "$bin/chromedriver"; then
  alone chromium
  run "$bin/chromium" "$bin/chromedriver" || fetch
fi
printf '%s\n' "$bin/chromium" "$bin/chromedriver"
