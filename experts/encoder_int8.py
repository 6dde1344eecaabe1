"""The sentence encoder with static int8 arithmetic: the dense layers multiply bytes, and the rest stays in float32.

The scales in weights/minilm-int8.json were measured by quantise.py and do not depend on the texts of a batch. Weights are
rounded here, by single operations on float64 numbers, so that the bytes are the same on every machine.
"""
import json
from array import array

from onnxfile import INT8, UINT8, Graph, floats

# The greatest weight in bytes. Processors without VNNI add two products of an unsigned and a signed byte in 16 bits.
# 2 * 255 * 64 fits, so the sums are exact, and therefore equal, on all processors.
LIMIT = 64


class StaticInt8:
    """Adds dense layers with static scales: the argument `dense` of build_encoder."""

    def __init__(self, path):
        self._scales = json.loads(path.read_text(encoding="utf-8"))

    def __call__(self, g: Graph, place: str, h: str, weight: bytes, bias: bytes, inputs: int, outputs: int) -> str:
        scales = self._scales[place]
        smoothing = scales["smoothing"]
        # SmoothQuant: channels with great values are divided, and their weights are multiplied by the same number.
        h = g.node("Mul", h, g.constant(floats([1.0 / s for s in smoothing]), [inputs]))
        scale, zero = g.scalar(scales["scale"]), g.constant(bytes([scales["zero"]]), [], UINT8)
        kernel, steps = quantised(weight, smoothing, outputs)
        return g.node("MatMulIntegerToFloat", g.node("QuantizeLinear", h, scale, zero),
                      g.constant(kernel, [inputs, outputs], INT8), scale, g.constant(floats(steps), [outputs]), zero,
                      g.constant(bytes(1), [], INT8), g.constant(bias, [outputs]), domain="com.microsoft")


def quantised(weight: bytes, smoothing, outputs: int):
    """Returns the transposed matrix in signed bytes, and for each output the value of one step."""
    values, inputs = array("f"), len(smoothing)
    values.frombytes(weight)
    if floats([1.0]) != array("f", [1.0]).tobytes():
        values.byteswap()
    kernel, steps = array("b", bytes(inputs * outputs)), array("f")
    for row in range(outputs):
        scaled = [w * s for w, s in zip(values[row * inputs:(row + 1) * inputs], smoothing)]
        steps.append(max(max(scaled), -min(scaled), 1e-9) / LIMIT)
        step = steps[row]
        kernel[row::outputs] = array("b", [min(max(round(w / step), -LIMIT), LIMIT) for w in scaled])
    return kernel.tobytes(), steps
