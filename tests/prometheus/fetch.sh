#!/usr/bin/env bash
# Prints the folder that contains `prometheus` and `promtool`: those on the path, or those of Debian's package, which is
# fetched once into .cache/prometheus. Root is not needed.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/once.sh

found=$(command -v prometheus || true)
if [ -n "$found" ] && command -v promtool >/dev/null; then
  dirname "$found"
  exit
fi
bin=.cache/prometheus/usr/bin
[ -x "$bin/prometheus" ] || alone prometheus
if [ ! -x "$bin/prometheus" ]; then
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "Prometheus is not installed: install the package prometheus (macOS: brew install prometheus)." >&2
    exit 69
  fi
  echo "Fetching Prometheus 2 or newer with apt-get (19 MB, once)" >&2
  new=$PWD/.cache/prometheus.$$
  mkdir -p "$new/deb"
  trap 'rm -rf "$new"' EXIT
  # As root, apt-get would download as another user, who cannot write to this folder. If the lists of packages are
  # missing or old, they are updated in a folder of ours.
  mkdir -p "$new/lists/partial"
  download=(apt-get -q -o APT::Sandbox::User=root)
  own=("${download[@]}" -o Dir::State::lists="$new/lists" -o Dir::Cache="$new/cache")
  (cd "$new/deb" && { "${download[@]}" download prometheus ||
    { "${own[@]}" update && "${own[@]}" download prometheus; }; } >"$new/log" 2>&1) ||
    { cat "$new/log" >&2; echo "Install the package prometheus, or let apt-get know it (apt-get update)." >&2; exit 69; }
  dpkg -x "$new"/deb/*.deb "$new"
  rm -rf "$new/deb" "$new/lists" "$new/cache"
  rm -rf .cache/prometheus
  mv "$new" .cache/prometheus
fi
"$bin/prometheus" --version 2>&1 | grep -qE 'version ([2-9]|[1-9][0-9])\.' ||
  { echo "$bin/prometheus is older than 2" >&2; exit 69; }
echo "$PWD/$bin"
