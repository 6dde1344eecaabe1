"""Runs the frozen lower half of the model once for each text and keeps the states on disk.

Both adapters, the zero-shot measurement and every epoch start from these states.
"""
import hashlib
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import model

BATCH = 24


@dataclass
class States:
    """`prefix`: [1, P, WIDTH]. The tokens of row i are values[ends[i - 1]:ends[i]]."""
    prefix: np.ndarray
    values: np.ndarray
    ends: np.ndarray

    def lengths(self) -> np.ndarray:
        return np.diff(self.ends, prepend=0)

    def rows(self, indices, width: int) -> np.ndarray:
        """Returns the chosen rows, padded on the right with zeros."""
        x = np.zeros((len(indices), width, model.WIDTH), np.float32)
        for row, i in enumerate(indices):
            begin = self.ends[i - 1] if i else 0
            x[row, :self.ends[i] - begin] = self.values[begin:self.ends[i]]
        return x


def padded(length: int) -> int:
    """Returns the width of a batch with this longest row. Each width is compiled once, so there are few."""
    return next((w for w in (24, 40, 72) if w >= length), -(-length // 64) * 64)


def batches(lengths: np.ndarray, size: int = BATCH) -> list:
    """Returns index arrays of rows of similar length."""
    order = np.argsort(lengths, kind="stable")
    return [order[at:at + size] for at in range(0, len(order), size)]


def compute(weights: dict, layers: int, prefix: list, rows: list, progress=print) -> States:
    """Runs the first `layers` layers over the prefix and over each row behind it."""
    embedding, lower = weights["embedding"], [jax.device_put(w) for w in weights["layers"][:layers]]
    run = jax.jit(model.run_layers)
    lengths = np.array([len(r) for r in rows])
    parts, out = [None] * len(rows), None
    first = jnp.asarray(embedding[np.array(prefix)][None])
    for n, chosen in enumerate(batches(lengths)):
        # The last batch is filled up, so that its shape is compiled already.
        ids = np.full((BATCH, padded(lengths[chosen].max())), prefix[0])
        for row, i in enumerate(chosen):
            ids[row, :lengths[i]] = rows[i]
        out, x = run(lower, first, jnp.asarray(embedding[ids]))
        x = np.asarray(x)
        for row, i in enumerate(chosen):
            parts[i] = x[row, :lengths[i]]
        if n % 10 == 0:
            progress(f"  lower half: {(n + 1) * BATCH} of {len(rows)} texts", flush=True)
    return States(np.asarray(out), np.concatenate(parts), np.cumsum(lengths))


def cached(folder: Path, package: str, weights: dict, layers: int, prefix: list, rows: list) -> States:
    """Returns the states from `folder`, and computes them if the model or the ids have changed."""
    digest = hashlib.sha256(repr((package, layers, prefix, rows)).encode()).hexdigest()[:16]
    path = folder / f"states-{digest}.npz"
    if path.is_file():
        with np.load(path) as saved:
            return States(saved["prefix"], saved["values"], saved["ends"])
    states = compute(weights, layers, prefix, rows)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, prefix=states.prefix, values=states.values, ends=states.ends)
    part.rename(path)
    return states
