#!/usr/bin/env bash
# Runs every test of Aegis. Arguments are passed to cargo.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v mvn >/dev/null; then
  echo "make test needs Maven: it fetches the real Apache Kafka that the tests run against." >&2
  echo "Install it (Debian, Ubuntu: apt-get install maven; macOS: brew install maven) and try again." >&2
  exit 69
fi

# The tests of the console need Chromium and its driver.
tests/console/fetch.sh >/dev/null || {
  echo "make test needs Chromium and chromedriver for the pages of the console: see above." >&2
  exit 69
}

# The tests of the Helm chart and of docs/asyncapi.json need Helm and schemas.
tests/kubernetes/fetch.sh >/dev/null || {
  echo "make test needs Helm, and schemas of Kubernetes and AsyncAPI: see above." >&2
  exit 69
}

case " $* " in
  *" oidc "*) ;;
  *) echo "SKIPPED: tokens of OIDC: install CMake, pkg-config and the headers of OpenSSL and zlib" ;;
esac

# Most tests wait for a broker or a process most of their time, so twice as many run as there are processors.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((2 * $(getconf _NPROCESSORS_ONLN)))}"

# Tests kill the program at the named points of src/crash.rs.
set -- --features crash-points "$@"

echo "Building the tests (several minutes in a clean clone, seconds afterwards)"
cargo test --locked "$@" --no-run
echo "Running the tests"
cargo test --locked "$@"
