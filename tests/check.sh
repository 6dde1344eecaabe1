#!/usr/bin/env bash
# Runs the tests that need no Java, no fetched models and no network except loopback. Arguments are passed to cargo.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo test --locked "$@" --features crash-points --lib --test structure --test codec --test store --test protocol --test ops
cargo test --locked "$@" --features crash-points --test replay -- --skip texts_are_read_and_kept
cargo test --locked "$@" --features crash-points --test kafka -- embedded::
cargo test --locked -p aegis-core --tests
