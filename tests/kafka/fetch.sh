#!/usr/bin/env bash
# Fetches Apache Kafka's jars with Maven, once, and prints the path of their folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/once.sh

pom=tests/kafka/pom.xml
libs=.cache/kafka-libs

is_there() { cmp -s "$pom" "$libs/pom.xml"; }

is_there || alone kafka-libs
if ! is_there; then
  if ! command -v mvn >/dev/null; then
    echo "A real Apache Kafka is fetched with Maven, which is not installed." >&2
    echo "Install it (Debian, Ubuntu: apt-get install maven; macOS: brew install maven) and try again." >&2
    exit 69
  fi
  echo "Fetching Apache Kafka with Maven (47 jars, 43 MB, once)" >&2
  new=$libs.$$
  rm -rf "$new"
  mkdir -p "$new"
  trap 'rm -rf "$new"' EXIT
  mvn -q -B -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PWD/$new" >&2
  cp "$pom" "$new/pom.xml"
  rm -rf "$libs"
  mv "$new" "$libs"
fi
echo "$PWD/$libs"
