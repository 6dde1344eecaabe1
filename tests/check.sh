#!/usr/bin/env bash
# The tests that need neither Java nor fetched models nor any network but loopback. Arguments go to cargo.
set -euo pipefail
cd "$(dirname "$0")/.."

set -- --locked --features crash-points "$@"
cargo test "$@" --lib --test structure --test codec --test store --test protocol --test ops
cargo test "$@" --test replay -- --skip texts_are_read_and_kept
cargo test "$@" --test kafka -- embedded::
cargo test "$@" -p aegis-core --tests
