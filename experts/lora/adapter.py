"""LoRA matrices: their shapes, their names in the ONNX graph, and `.onnx_adapter` files."""
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from runtime import onnxruntime  # noqa: E402

from model import HEAD, HEADS, KV_HEADS, WIDTH  # noqa: E402

RANK, SCALE = 8, 2.0
# Matrix -> (inputs, outputs).
ADAPTED = {"q": (WIDTH, HEADS * HEAD), "k": (WIDTH, KV_HEADS * HEAD),
           "v": (WIDTH, KV_HEADS * HEAD), "o": (HEADS * HEAD, WIDTH)}


def input_name(layer: int, matrix: str, part: str) -> str:
    """Returns the name of the graph input of one matrix (see experts/README.md)."""
    return f"layers.{layer}.{matrix}_proj.lora_{part}"


def start(layers: int, seed: int) -> list:
    """Returns untrained matrices: A random, B zero, so that the first step sees the plain model."""
    keys = iter(jax.random.split(jax.random.key(seed), layers * len(ADAPTED)))
    return [{name: {"a": jax.random.normal(next(keys), (n, RANK)) / np.sqrt(n), "b": jnp.zeros((RANK, m))}
             for name, (n, m) in ADAPTED.items()} for _ in range(layers)]


def scaled(trained: list) -> list:
    """Returns the matrices as the model applies them: the scale is folded into B."""
    return [{name: {"a": m["a"], "b": SCALE * m["b"]} for name, m in layer.items()} for layer in trained]


def export(path: Path, loras: list, first_layer: int) -> None:
    """Writes scaled matrices as float32 tensors."""
    values, tensors = [], {}  # a tensor only refers to the memory of its array
    for i, layer in enumerate(loras, first_layer):
        for matrix, parts in layer.items():
            for part, value in parts.items():
                values.append(np.array(value, np.float32, order="C"))
                tensors[input_name(i, matrix, part)] = onnxruntime.OrtValue.ortvalue_from_numpy(values[-1])
    file = onnxruntime.AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    file.set_parameters(tensors)
    file.export_adapter(str(path))


def load(path: Path, first_layer: int, layers: int) -> list:
    file = onnxruntime.AdapterFormat.read_adapter(str(path))
    parameters = file.get_parameters()
    tensors = {name: np.array(value.numpy()) for name, value in parameters.items()}
    return [{matrix: {part: tensors[input_name(i, matrix, part)] for part in "ab"} for matrix in ADAPTED}
            for i in range(first_layer, first_layer + layers)]
