"""Fits the features of two encoders together, for train_multilingual.py; reads and applies the result for measurements.

A text in English has two embeddings, which are whitened as one vector. MiniLM reads no other language, so the embedding
that it would give to another text is estimated from the multilingual one by a ridge regression over English texts. The features of such a
text are therefore estimates of those that an English one with this meaning would have.
"""
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import encoder_multilingual  # noqa: E402
import train  # noqa: E402
from encoder import DIM, FEATURES, PART_STEPS, read_joint  # noqa: E402
from fetch import ROOT  # noqa: E402

TARGET = ROOT / "experts" / "weights" / "whitening-joint.f32"
# The penalty of the regression, as a share of the mean variance of a coordinate.
RIDGE = 0.01
SIGNED_BYTE = 127 / 4  # four standard deviations are 127
LARGEST_PART = 32767 / PART_STEPS


def fit(minilm: np.ndarray, multilingual: np.ndarray, is_english: np.ndarray) -> None:
    """Writes the whitening of embeddings of the shapes [texts, 384] and [texts, 512]. MiniLM's count only where the
    text is in English. Both encoders get the same total variance there, so that neither counts more."""
    first, second = minilm.astype(np.float64), multilingual.astype(np.float64)
    means = first[is_english].mean(axis=0), second[is_english].mean(axis=0)
    regression = _regression(second[is_english] - means[1], first[is_english] - means[0])
    first[~is_english] = (second[~is_english] - means[1]) @ regression + means[0]
    scale = np.sqrt(second[is_english].var(axis=0).sum() / first[is_english].var(axis=0).sum())
    mean, v, variance = train.whitened(np.hstack([first * scale, second]))
    centre = mean[:DIM] / scale, mean[DIM:]
    parts = v[:DIM] * scale, v[DIM:]
    # The estimate of MiniLM's mean embedding is its mean, so one mean serves both uses of the other encoder.
    alone = regression @ parts[0] + parts[1]
    arrays = variance, *centre, *parts, alone
    TARGET.write_bytes(b"".join(np.ascontiguousarray(a, "<f4").tobytes() for a in arrays))
    greatest = max(np.abs(w(e)).max() for w, e in zip(_whitenings(), (minilm[is_english], multilingual)))
    print(f"  the greatest part is {greatest:.0f} steps of a feature; {LARGEST_PART:.0f} fit")
    assert greatest < LARGEST_PART / 2, "a part that does not fit would make the sum wrong"


def _regression(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    penalty = RIDGE * np.trace(x.T @ x) / x.shape[1]
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)


def features(minilm: np.ndarray, multilingual: np.ndarray, is_english: bool) -> np.ndarray:
    """Returns the features of texts from their embeddings. The program rounds each part before the sum, so that single
    features may differ by one."""
    first, second, alone = _whitenings()
    z = first(minilm) + second(multilingual) if is_english else alone(multilingual)
    return np.clip(np.rint(z), -127, 127).astype(np.int8)


def _whitenings() -> list:
    return [_Whitening(*w) for w in read_joint(TARGET, DIM, encoder_multilingual.DIM)]


class _Whitening:
    def __init__(self, mean: bytes, v: bytes, variance):
        self._mean = np.frombuffer(mean, "<f4").astype(np.float64)
        self._v = np.frombuffer(v, "<f4").reshape(len(self._mean), FEATURES) * (SIGNED_BYTE / np.sqrt(np.array(variance)))

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        return (embeddings.astype(np.float64) - self._mean) @ self._v
