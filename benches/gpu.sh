#!/usr/bin/env bash
# Compares an NVIDIA GPU with the CPU on the same texts: `make bench-gpu`. It needs `make cuda` and a GPU, and fails
# with a message if there is none. The figures belong in docs/benchmarks.md, with the name of the device.
#
#   benches/gpu.sh [FLAGS OF CARGO]
#
# The parts, all of which are measured unless PARTS names some:
#   tune     the whole panel with its best settings, by provider
#   limit    the panel and a bare loop on the GPU
#   compare  the whole panel on the GPU and on the CPU, in speed and in votes
#   guards   a guard on the GPU: its cached prefix and its batches
#   flow     from Apache Kafka to Apache Kafka, exactly once, on both, and Python consumers on the GPU
#
# PROVIDERS="cpu cuda tensorrt", TEXTS, ROUNDS and OUT change the measurement. AEGIS, BENCH, GUARDS and FLOW name programs
# that are already built: aegis, and the benches experts, guards and flow.
set -euo pipefail
cd "$(dirname "$0")/.."
PARTS=${PARTS:-tune limit compare guards flow}
PROVIDERS=${PROVIDERS:-cpu cuda}
TEXTS=${TEXTS:-20000}
ROUNDS=${ROUNDS:-5}
OUT=${OUT:-target/gpu}
cuda=$PWD/models/cuda

has() { [[ " $PARTS " == *" $1 "* ]]; }
for part in $PARTS; do
  [[ " tune limit compare guards flow " == *" $part "* ]] || { echo "PARTS has no $part: tune, limit, compare, guards, flow." >&2; exit 64; }
done
if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L >/dev/null 2>&1; then
  echo "There is no NVIDIA GPU here (nvidia-smi finds none): nothing was measured." >&2
  exit 69
fi
if [ ! -e "$cuda/libonnxruntime.so" ]; then
  echo "models/cuda has no libraries: run \`make cuda\` first." >&2
  exit 69
fi
if [[ " $PROVIDERS " == *" tensorrt "* ]] && ! ldconfig -p | grep -q libnvinfer.so.10; then
  echo "TensorRT 10 (libnvinfer.so.10) is not installed: leave tensorrt out of PROVIDERS, or install it." >&2
  exit 69
fi
if has flow; then
  # The scripts print what is missing.
  if ! tests/kafka/fetch.sh >/dev/null || ! tests/registry/java.sh 17 "Apache Kafka" >/dev/null; then
    echo "Without Apache Kafka the flow cannot be measured: leave flow out of PARTS." >&2
    exit 69
  fi
fi

mkdir -p "$OUT"
if has tune && [ -z "${AEGIS:-}" ]; then
  cargo build --release --locked "$@"
  AEGIS=target/release/aegis
fi
flags=("$@")
bench() { # NAME PROGRAM ARGUMENT...
  local name=$1 program=$2
  shift 2
  if [ -n "$program" ]; then "$program" "$@"; else cargo bench --locked "${flags[@]}" --bench "$name" -- "$@"; fi
}
export LD_LIBRARY_PATH=$cuda${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
{
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  grep -m1 '^model name' /proc/cpuinfo | cut -d: -f2-
  nproc
} | tee "$OUT/machine.txt"

# All providers use the same library. A provider that cannot run is an error: it is not replaced by another one.
if has tune; then
  for provider in $PROVIDERS; do
    folder=$OUT/$provider
    rm -rf "$folder"
    mkdir -p "$folder"
    printf '[experts]\nfolder = "%s"\nruntime = "%s"\nprovider = "%s"\n' \
      "$PWD/models" "$cuda/libonnxruntime.so" "$provider" >"$folder/aegis.toml"
    echo "== $provider: sessions, threads, window and budgets, in texts a second"
    "$AEGIS" tune --config "$folder/aegis.toml" --texts "$TEXTS" --rounds "$ROUNDS"
  done
fi
if has limit; then bench experts "${BENCH:-}" cuda "$TEXTS" "$ROUNDS" | tee "$OUT/limit.txt"; fi
if has compare; then bench experts "${BENCH:-}" cuda compare | tee "$OUT/compare.txt"; fi
if has guards; then bench guards "${GUARDS:-}" cuda "$ROUNDS" | tee "$OUT/guards.txt"; fi
if has flow; then
  # The GPU gets ten times as many texts as the CPU.
  bench flow "${FLOW:-}" cuda --rounds "$ROUNDS" --texts "$((TEXTS / 10))" | tee "$OUT/flow.txt"
fi
echo "Measured: $PARTS. Tables are in $OUT."
