#!/usr/bin/env bash
# Provides the images that docker-compose.yml names to the Docker engine:
#
#     tests/stack/images.sh WORK
#
# Images that can be pulled are pulled, and the Dockerfile is built as it is. The others are replaced by images of the
# same names: a Debian made by debootstrap, Apache Kafka and the registry from Maven's jars, Debian's Prometheus, and
# the last stage of the Dockerfile on that Debian, with the program and the experts of this checkout.
# WORK is a folder for temporary files. Prints one line per image, which describes it.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$1
kafka=apache/kafka:4.1.1 registry=apicurio/apicurio-registry:3.3.3 prometheus=prom/prometheus:v3.5.0
product=aegis:0.1.0

have() { docker image inspect "$1" >/dev/null 2>&1; }
build() { docker build -q -t "$1" "$2" >>"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log" >&2; exit 70; }; }
# Succeeds if the image exists or can be pulled within the time limit.
pull() { have "$1" || timeout "${AEGIS_STACK_PULL_SECONDS:-20}" docker pull -q "$1" >/dev/null 2>&1; }
need() {
  command -v "$1" >/dev/null && return
  echo "No image can be pulled, and for stand-ins $1 is missing. Install it (Debian: apt-get install $2)." >&2
  exit 69
}

base() {
  have aegis-stand-in/base && return
  need debootstrap debootstrap
  [ "$(id -u)" = 0 ] || { echo "debootstrap makes a Debian only for root." >&2; exit 69; }
  debootstrap --variant=minbase bookworm "$work/debian" >"$work/debootstrap.log" 2>&1 ||
    { tail -n 20 "$work/debootstrap.log" >&2; exit 69; }
  tar -C "$work/debian" -c . | docker import - aegis-stand-in/base >/dev/null
  rm -rf "$work/debian"
}

if pull "$kafka"; then
  echo "$kafka: as it is"
else
  base
  libs=$(tests/kafka/fetch.sh)
  cp -r tests/stack/images/kafka "$work/kafka"
  cp -rL "$libs" "$work/kafka/libs"
  cp tests/kafka/log4j2.properties "$work/kafka/"
  build "$kafka" "$work/kafka"
  echo "$kafka: a stand-in, Apache Kafka $(basename "$work"/kafka/libs/kafka_2.13-*.jar) on Debian"
fi

if pull "$registry"; then
  echo "$registry: as it is"
else
  base
  java=$(readlink -f "$(tests/registry/java.sh 21 "A schema registry")")
  app=$(tests/registry/fetch.sh)
  cp -r tests/stack/images/registry "$work/registry"
  cp -rL "$(dirname "$(dirname "$java")")" "$work/registry/java"
  cp -rL "$app" "$work/registry/app"
  build "$registry" "$work/registry"
  echo "$registry: a stand-in, the same program from Maven on Debian"
fi

if pull "$prometheus"; then
  echo "$prometheus: as it is"
else
  base
  build "$prometheus" tests/stack/images/prometheus
  echo "$prometheus: a stand-in, Debian's $(docker run --rm "$prometheus" --version 2>&1 | sed -n '1s/ (.*//p')"
fi

if pull debian:12.11-slim && pull rust:1.95.0-bookworm && pull python:3.13.5-slim-bookworm; then
  docker build -q -t "$product" --target aegis . >>"$work/build.log" 2>&1 ||
    { tail -n 40 "$work/build.log" >&2; exit 70; }
  echo "$product: the Dockerfile"
else
  base
  program=${CARGO_TARGET_DIR:-target}/release/aegis
  [ -x "$program" ] && [ -e models/.stamp ] ||
    { echo "$program or models/ is missing: make setup build" >&2; exit 69; }
  mkdir -p "$work/product/deploy" "$work/product/aegis"
  cp "$program" "$work/product/aegis/aegis"
  cp -rL models "$work/product/aegis/models"
  cp -r config "$work/product/config"
  cp deploy/ready "$work/product/deploy/"
  # Replacements of the first stages contain only their results; the last stage is the Dockerfile's own.
  {
    printf 'FROM aegis-stand-in/base AS program\nCOPY aegis /aegis\n'
    printf 'FROM aegis-stand-in/base AS experts\nCOPY aegis /aegis\n'
    sed -n '/^FROM debian:/,$p' Dockerfile | sed 's/^FROM debian:[^ ]*/FROM aegis-stand-in\/base/'
  } >"$work/product/Dockerfile"
  build "$product" "$work/product"
  echo "$product: the Dockerfile's last stage on a stand-in Debian, with $program and models/ of this checkout"
fi
size=$(docker image inspect -f '{{.Size}}' "$product")
echo "$product: $((size / 1000000)) MB"
[ "$size" -lt 600000000 ] || { echo "$product is larger than 600 MB" >&2; exit 70; }
