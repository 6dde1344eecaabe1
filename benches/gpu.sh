#!/usr/bin/env bash
# The panel on an NVIDIA card against the processor, on the same texts: `make bench-gpu`. It needs `make cuda` and a
# card; without one it says so and measures nothing. Figures go to docs/benchmarks.md with the device's name.
#
#   benches/gpu.sh [CARGO'S FLAGS]     PROVIDERS="cpu cuda tensorrt", TEXTS, ROUNDS and OUT change what is measured;
#                                      AEGIS and BENCH name programs that are built already (aegis, benches/experts)
set -euo pipefail
cd "$(dirname "$0")/.."
PROVIDERS=${PROVIDERS:-cpu cuda}
TEXTS=${TEXTS:-20000}
ROUNDS=${ROUNDS:-5}
OUT=${OUT:-target/gpu}
cuda=$PWD/models/cuda

if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L >/dev/null 2>&1; then
  echo "There is no NVIDIA card here (nvidia-smi finds none): nothing was measured." >&2
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

mkdir -p "$OUT"
if [ -z "${AEGIS:-}" ]; then
  cargo build --release --locked "$@"
  AEGIS=target/release/aegis
fi
bench() {
  if [ -n "${BENCH:-}" ]; then "$BENCH" "$@"; else cargo bench --locked --bench experts -- "$@"; fi
}
export LD_LIBRARY_PATH=$cuda${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
{
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  grep -m1 '^model name' /proc/cpuinfo | cut -d: -f2-
  nproc
} | tee "$OUT/machine.txt"

# One library for all, so that only the provider differs. A provider that cannot run ends this: none is replaced.
for provider in $PROVIDERS; do
  folder=$OUT/$provider
  rm -rf "$folder"
  mkdir -p "$folder"
  printf '[experts]\nfolder = "%s"\nruntime = "%s"\nprovider = "%s"\n' \
    "$PWD/models" "$cuda/libonnxruntime.so" "$provider" >"$folder/aegis.toml"
  echo "== $provider: sessions, threads, budget and window, in texts a second"
  "$AEGIS" tune --config "$folder/aegis.toml" --texts "$TEXTS" --rounds "$ROUNDS"
done
# Ours against the bare loop on the card, then the whole panel there and on the processor, in speed and in votes.
if [[ " $PROVIDERS " == *" cuda "* ]]; then
  bench cuda "$TEXTS" "$ROUNDS" | tee "$OUT/limit.txt"
  bench cuda compare | tee "$OUT/compare.txt"
fi
echo "Tables: $OUT/*/tuned.toml, $OUT/limit.txt, $OUT/compare.txt"
