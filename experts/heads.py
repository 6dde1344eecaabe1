"""Builds the small graphs that read the encoder's embedding."""
import json
import re

from encoder import DIM
from onnxfile import FLOAT, Graph, floats, transposed


def build_linear(weights, biases, out) -> None:
    """Writes a graph with one logistic output per label; `weights[label]` has a number for each of the embedding."""
    labels, width = len(weights), len(weights[0])
    g = Graph("head")
    e = g.input("embedding", FLOAT, ["batch", width])
    kernel = g.constant(floats([x for row in weights for x in row]), [labels, width])
    logits = g.node("Gemm", e, kernel, g.constant(floats(biases), [labels]), transB=1)
    g.node("Sigmoid", logits, out="scores")
    g.output("scores", FLOAT, ["batch", labels])
    g.save(out)


def build_network(hidden, bias, kernel, kernel_bias, sizes, out) -> None:
    """Writes the graph of a network of one hidden layer. `sizes` are its numbers of inputs, units and labels; the
    others are raw float32."""
    inputs, units, labels = sizes
    g = Graph("head")
    e = g.input("embedding", FLOAT, ["batch", inputs])
    h = g.node("Gemm", e, g.constant(hidden, [inputs, units]), g.constant(bias, [units]))
    logits = g.node("Gemm", g.node("Relu", h), g.constant(kernel, [units, labels]), g.constant(kernel_bias, [labels]))
    g.node("Sigmoid", logits, out="scores")
    g.output("scores", FLOAT, ["batch", labels])
    g.save(out)


def build_jailguard(package, out) -> None:
    """Writes the graph of jailguard's network (384, 256, 128, 1), read from its extension module.

    The package stores its weights as one JSON text inside the library. The wheel is
    pinned by hash, so the text is always at the same position.
    """
    library = package.read("jailguard/_jailguard.abi3.so")
    start = library.index(b'{"w_h1":[[')
    net = json.loads(re.match(rb'[\x20-\x7e]+?"dropout_rate":[0-9.]+\}', library[start:]).group())
    g = Graph("jailguard")
    h = g.input("embedding", FLOAT, ["batch", DIM])
    width = DIM
    for weights, biases, activation in (("w_h1", "b_h1", "Relu"), ("w_h2", "b_h2", "Relu"),
                                        ("w_out", "b_out", "Sigmoid")):
        matrix, bias = net[weights], net[biases]
        raw = floats([x for row in matrix for x in row])
        if len(matrix) == width and len(matrix[0]) == len(bias):
            kernel = g.constant(raw, [width, len(bias)])
        else:
            kernel = g.constant(transposed(raw, len(bias), width), [width, len(bias)])
        h = g.node("Gemm", h, kernel, g.constant(floats(bias), [len(bias)]))
        h = g.node(activation, h, out="scores" if activation == "Sigmoid" else None)
        width = len(bias)
    g.output("scores", FLOAT, ["batch", 1])
    g.save(out)
