#!/usr/bin/env bash
# Fetches a schema registry with Maven, once, and prints the path of its folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/once.sh

pom=tests/registry/pom.xml
app=.cache/schema-registry

is_there() { cmp -s "$pom" "$app/pom.xml"; }

is_there || alone schema-registry
if ! is_there; then
  if ! command -v mvn >/dev/null; then
    echo "A real schema registry is fetched with Maven, which is not installed." >&2
    echo "Install it (Debian, Ubuntu: apt-get install maven; macOS: brew install maven) and try again." >&2
    exit 69
  fi
  echo "Fetching a schema registry with Maven (159 MB, once)" >&2
  new=$app.$$
  rm -rf "$new"
  mkdir -p "$new"
  trap 'rm -rf "$new"' EXIT
  mvn -q -B -f "$pom" dependency:copy -DoutputDirectory="$PWD/$new" >&2
  tar -xzf "$new"/*.tar.gz -C "$new"
  rm "$new"/*.tar.gz
  cp "$pom" "$new/pom.xml"
  rm -rf "$app"
  mv "$new" "$app"
fi
echo "$PWD/$app"
