#!/usr/bin/env bash
# Prints the folder that contains `chromium` and `chromedriver`: those on the path, or those of Debian's packages, which
# are fetched once into .cache/chromium with the libraries that this machine lacks. Root is not needed.
set -euo pipefail
cd "$(dirname "$0")/../.."

found=$(command -v chromium || true)
if [ -n "$found" ] && command -v chromedriver >/dev/null; then
  dirname "$found"
  exit
fi
bin=.cache/chromium/bin
if [ ! -x "$bin/chromium" ]; then
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "Chromium is not installed: install chromium and chromedriver (Debian: chromium chromium-driver)." >&2
    exit 69
  fi
  echo "Fetching Chromium and its driver with apt-get (133 MB or less, once)" >&2
  new=$PWD/.cache/chromium.$$
  mkdir -p "$new/cache/archives/partial" "$new/lists/partial" "$new/root" "$new/bin"
  trap 'rm -rf "$new"' EXIT
  # Nothing is installed, so that no lock of the system is needed: the packages that an installation would add are
  # downloaded into a folder of ours. If the lists of packages are missing or old, they are updated there too.
  packages=(chromium chromium-driver fonts-dejavu-core)
  apt=(apt-get -q -y -o APT::Sandbox::User=root -o Debug::NoLocking=1 -o Dir::Cache="$new/cache"
    -o APT::Keep-Downloaded-Packages=true)
  own=("${apt[@]}" -o Dir::State::lists="$new/lists")
  download=(--no-install-recommends --download-only install "${packages[@]}")
  { "${apt[@]}" "${download[@]}" || { "${own[@]}" update && "${own[@]}" "${download[@]}"; }; } >"$new/log" 2>&1 ||
    { cat "$new/log" >&2; echo "Install chromium and chromium-driver, or let apt-get know them (apt-get update)." >&2; exit 69; }
  for package in "$new"/cache/archives/*.deb; do
    dpkg -x "$package" "$new/root"
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
  rm -rf .cache/chromium
  [ -e .cache/chromium ] || mv "$new" .cache/chromium
fi
"$bin/chromium" --version >&2 || { echo "$bin/chromium does not run on this machine" >&2; exit 69; }
echo "$PWD/$bin"
