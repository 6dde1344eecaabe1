"""Trains small networks of one hidden layer, for train_multilingual.py. Deterministic on one machine."""
import numpy as np

UNITS, BATCH, RATE, DECAY, DROPOUT = 128, 512, 4e-3, 1e-2, 0.4
EPOCHS, FEWEST_STEPS = 12, 150
# Coordinates of an embedding of length one are small. This factor is part of the stored weights.
SCALE = 8.0


class Network:
    """`hidden` [inputs, units], `bias` [units], `out` [units, labels], `out_bias` [labels]."""

    def __init__(self, hidden, bias, out, out_bias):
        self.arrays = [np.asarray(a, np.float32) for a in (hidden, bias, out, out_bias)]

    def logits(self, x) -> np.ndarray:
        hidden, bias, out, out_bias = self.arrays
        return np.maximum(np.asarray(x, np.float32) @ hidden + bias, 0) @ out + out_bias

    def rounded(self):
        """Returns the network with the precision in which it is stored: half."""
        return Network(*(a.astype(np.float16).astype(np.float32) for a in self.arrays))


def train(x, y, weight) -> Network:
    """Fits `y` [texts, labels] with weights of the same shape: 0 leaves out a label of a text."""
    x, y = np.asarray(x, np.float32) * SCALE, y.astype(np.float32)
    weight = (weight / weight.mean()).astype(np.float32)
    draw = np.random.default_rng(0)
    inputs, labels = x.shape[1], y.shape[1]
    arrays = [draw.normal(0, np.sqrt(2 / inputs), (inputs, UNITS)), np.zeros(UNITS),
              draw.normal(0, np.sqrt(1 / UNITS), (UNITS, labels)), np.zeros(labels)]
    arrays = [a.astype(np.float32) for a in arrays]
    moments = [np.zeros_like(a) for a in arrays], [np.zeros_like(a) for a in arrays]
    batches = max(len(x) // BATCH, 1)
    steps = max(EPOCHS * batches, FEWEST_STEPS)
    for step in range(steps):
        if step % batches == 0:
            order = draw.permutation(len(x))
        chosen = order[step % batches * BATCH:][:BATCH]
        gradients = _gradients(arrays, x[chosen], y[chosen], weight[chosen], draw)
        _adam(arrays, gradients, *moments, step + 1, RATE * 0.5 * (1 + np.cos(np.pi * step / steps)))
    hidden, bias, out, out_bias = arrays
    return Network(hidden * SCALE, bias, out, out_bias).rounded()


def _gradients(arrays, x, y, weight, draw) -> list:
    hidden, bias, out, out_bias = arrays
    z = x @ hidden + bias
    kept = (draw.random(z.shape) >= DROPOUT).astype(np.float32) / np.float32(1 - DROPOUT)
    h = np.maximum(z, 0) * kept
    error = (1 / (1 + np.exp(-(h @ out + out_bias))) - y) * weight / np.float32(len(x))
    back = error @ out.T * (z > 0) * kept
    return [x.T @ back, back.sum(axis=0), h.T @ error, error.sum(axis=0)]


def _adam(arrays, gradients, first, second, step: int, rate: float) -> None:
    """One step of Adam with decoupled weight decay of the matrices."""
    for a, g, m, v in zip(arrays, gradients, first, second):
        m += 0.1 * (g - m)
        v += 0.001 * (g * g - v)
        a -= np.float32(rate) * (m / (1 - 0.9 ** step) / (np.sqrt(v / (1 - 0.999 ** step)) + 1e-8)).astype(np.float32)
        if a.ndim == 2:
            a *= np.float32(1 - rate * DECAY)
