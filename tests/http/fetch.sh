#!/usr/bin/env bash
# Prints the Python and the folder of node_modules with the clients that tests/http runs, each on a line. They are
# installed once into .cache/http-clients, at the versions of tests/http/clients.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/once.sh

for program in python3 node npm; do
  command -v "$program" >/dev/null || {
    echo "make test needs $program for the clients of the moderation API (Debian: python3 python3-venv nodejs npm)." >&2
    exit 69
  }
done

pins=tests/http/clients
version=$(cat $pins/requirements.txt $pins/package.json $pins/package-lock.json | sha256sum | cut -c1-16)
folder=$PWD/.cache/http-clients/$version

fetch() {
  echo "Installing the clients of the moderation API (60 MB, once)" >&2
  new=$PWD/.cache/http-clients/new.$$
  trap 'rm -rf "$new"' EXIT
  mkdir -p "$new"
  cp $pins/package.json $pins/package-lock.json "$new"
  python3 -m venv --copies "$new/python" >&2
  "$new/python/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile -r $pins/requirements.txt >&2
  (cd "$new" && npm ci --silent --no-audit --no-fund --ignore-scripts >&2)
  mkdir -p "$(dirname "$folder")"
  rm -rf "$folder"
  mv "$new" "$folder"
}

if [ ! -d "$folder" ]; then
  alone http-clients
  [ -d "$folder" ] || fetch
fi
printf '%s\n' "$folder/python/bin/python" "$folder/node_modules"
