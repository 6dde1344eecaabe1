"""Builds ONNX graphs of SmolLM2-135M-Instruct from its GGUF file: an encoder of the lower layers, and the whole model.

The matrices are float32. Four-bit matrices that nodes of the graph convert when the session is
created would make files of a quarter of the size, but the runtime does not give back the memory
that the conversion takes, and products of 4-bit matrices take twice as long.

The ids of the encoder's prefix are constants of the graph. Therefore its keys and values are as
well, and the runtime calculates them once, when it creates the session (constant folding).
"""
import struct
from decimal import Decimal, localcontext

from gguffile import BLOCK, F32, Q4_1, Q8_0, Gguf, split_blocks, to_floats
from onnxfile import FLOAT, FLOAT16, INT64, INT8, Graph, floats

LAYERS, WIDTH, INNER, VOCABULARY = 30, 576, 1536, 49152
HEADS, KV_HEADS, HEAD = 9, 3, 64
GROUP = HEADS // KV_HEADS
KEYS = KV_HEADS * HEAD
THETA, EPSILON = 100_000, 1e-5
# Added to the scores of what a token must not see. An infinite number would make NaN of rows that see nothing.
HIDDEN = -1e9


def frequencies() -> bytes:
    """Returns the angle of each pair of a head for position one. Decimals give the same digits on every machine."""
    with localcontext() as context:
        context.prec = 40
        return floats([float(Decimal(THETA) ** (Decimal(-2 * i) / HEAD)) for i in range(HEAD // 2)])


def half_split(raw: bytes, heads: int) -> bytes:
    """Undoes the order of the rows of Q and K in the file, which is made for a rotation of neighbouring pairs."""
    row = len(raw) // (heads * HEAD)
    order = [head * HEAD + 2 * pair + half for head in range(heads) for half in range(2) for pair in range(HEAD // 2)]
    return b"".join(raw[i * row:(i + 1) * row] for i in order)


class Model:
    """Adds the parts of the model to a graph."""

    def __init__(self, g: Graph, weights: Gguf):
        self.g, self._weights = g, weights
        self._epsilon = g.scalar(EPSILON)
        self._two = g.scalar(2.0)
        self._frequencies = g.constant(frequencies(), [HEAD // 2])

    def vector(self, name: str) -> str:
        return self.g.constant(self._weights.tensor(name, F32, 1, WIDTH), [WIDTH])

    def matrix(self, parts, columns: int) -> str:
        """Returns a matrix [outputs, columns], joined from parts of (name, rows, heads to reorder)."""
        raw, rows = b"", 0
        for name, count, heads in parts:
            part = self._weights.tensor(name, Q4_1, count, columns)
            raw, rows = raw + (half_split(part, heads) if heads else part), rows + count
        return self.g.constant(to_floats(raw, Q4_1), [rows, columns])

    def _embedding(self) -> bytes:
        return self._weights.tensor("token_embd.weight", Q8_0, VOCABULARY, WIDTH)

    def compact_embedding(self):
        """Returns a function from ids [tokens] to states [tokens, width]. The matrix stays in 8 bits."""
        g = self.g
        scales, values = split_blocks(self._embedding(), Q8_0)
        blocks = WIDTH // BLOCK
        scales = g.constant(scales, [VOCABULARY, blocks, 1], FLOAT16)
        values = g.constant(values, [VOCABULARY, blocks, BLOCK], INT8)

        def embed(ids: str) -> str:
            rows, scale = (g.node("Cast", g.node("Gather", x, ids), to=FLOAT) for x in (values, scales))
            return g.node("Reshape", g.node("Mul", rows, scale), g.ints(-1, WIDTH))

        return embed

    def embedding(self) -> str:
        """Returns the matrix [vocabulary, width], which is also that of the logits."""
        return self.g.constant(to_floats(self._embedding(), Q8_0), [VOCABULARY, WIDTH])

    def norm(self, h: str, weight: str) -> str:
        g = self.g
        mean = g.node("ReduceMean", g.node("Pow", h, self._two), g.ints(-1), keepdims=1)
        root = g.node("Sqrt", g.node("Add", mean, self._epsilon))
        return g.node("Mul", g.node("Div", h, root), weight)

    def angles(self, positions: str) -> tuple:
        """Returns cosine and sine [..., tokens, 1, 32] of positions [..., tokens], int64."""
        g = self.g
        place = g.node("Unsqueeze", g.node("Cast", positions, to=FLOAT), g.ints(-1, -2))
        angle = g.node("Mul", place, self._frequencies)
        return g.node("Cos", angle), g.node("Sin", angle)

    def rotate(self, x: str, angles: tuple) -> str:
        g, (cos, sin) = self.g, angles
        a, b = self.split(x, [HEAD // 2, HEAD // 2], 3)
        first = g.node("Sub", g.node("Mul", a, cos), g.node("Mul", b, sin))
        second = g.node("Add", g.node("Mul", b, cos), g.node("Mul", a, sin))
        return g.node("Concat", first, second, axis=3)

    def split(self, x: str, sizes, axis: int) -> list:
        names = [self.g.name_for("split") for _ in sizes]
        self.g.node("Split", x, self.g.ints(*sizes), out=names, axis=axis)
        return names


class Layer:
    """The constants of one layer. They may be used for several texts, for example the prefix and the rest."""

    def __init__(self, model: Model, number: int):
        self.model, self.number = model, number
        p = f"blk.{number}."
        self.attention_norm = model.vector(p + "attn_norm.weight")
        self.inner_norm = model.vector(p + "ffn_norm.weight")
        self.qkv = model.matrix([(p + "attn_q.weight", WIDTH, HEADS), (p + "attn_k.weight", KEYS, KV_HEADS),
                                 (p + "attn_v.weight", KEYS, 0)], WIDTH)
        self.output = model.matrix([(p + "attn_output.weight", WIDTH, 0)], WIDTH)
        self.gate = model.matrix([(p + "ffn_gate.weight", INNER, 0)], WIDTH)
        self.up = model.matrix([(p + "ffn_up.weight", INNER, 0)], WIDTH)
        self.down = model.matrix([(p + "ffn_down.weight", WIDTH, 0)], INNER)

    def run(self, h: str, angles: tuple, shapes: dict, past=None, bias=None, adapters=None, names=None):
        """Returns the new state [rows * tokens, width], and keys and values [rows, 3, past + tokens, 64]."""
        g, m = self.model.g, self.model
        normed = m.norm(h, self.attention_norm)
        joined = g.node("Gemm", normed, self.qkv, transB=1)
        if adapters:
            joined = g.node("Add", joined, adapters.qkv(self.number, normed))
        joined = g.node("Reshape", joined, shapes["heads"])  # [rows, tokens, 15, 64]
        turned, values = m.split(joined, [HEADS + KV_HEADS, KV_HEADS], 2)
        queries, keys = m.split(m.rotate(turned, angles), [HEADS, KV_HEADS], 2)
        keys, values = (g.node("Transpose", x, perm=[0, 2, 1, 3]) for x in (keys, values))
        if past:
            out = names or (None, None)
            keys, values = (g.node("Concat", g.node("Expand", old, shapes["rows"]), new, out=name, axis=2)
                            for old, new, name in zip(past, (keys, values), out))
        mixed = self._attend(queries, keys, values, shapes, bias)
        out = g.node("Gemm", mixed, self.output, transB=1)
        if adapters:
            out = g.node("Add", out, adapters.output(self.number, mixed))
        h = g.node("Add", h, out)
        normed = m.norm(h, self.inner_norm)
        gate = g.node("Gemm", normed, self.gate, transB=1)
        gate = g.node("Mul", gate, g.node("Sigmoid", gate))
        inner = g.node("Mul", gate, g.node("Gemm", normed, self.up, transB=1))
        return g.node("Add", h, g.node("Gemm", inner, self.down, transB=1)), (keys, values)

    def _attend(self, queries: str, keys: str, values: str, shapes: dict, bias: str) -> str:
        """The three queries of a group are rows of one product with the group's keys."""
        g = self.model.g
        queries = g.node("Mul", queries, g.scalar(HEAD ** -0.5))
        queries = g.node("Reshape", queries, shapes["groups"])  # [rows, tokens, 3, 3, 64]
        queries = g.node("Transpose", queries, perm=[0, 2, 3, 1, 4])
        queries = g.node("Reshape", queries, shapes["queries"])  # [rows, 3, 3 * tokens, 64]
        scores = g.node("MatMul", queries, g.node("Transpose", keys, perm=[0, 1, 3, 2]))
        scores = g.node("Reshape", scores, shapes["scores"])  # [rows, 3, 3, tokens, all]
        weights = g.node("Softmax", g.node("Add", scores, bias), axis=4)
        weights = g.node("Reshape", weights, shapes["weights"])  # [rows, 3, 3 * tokens, all]
        mixed = g.node("Reshape", g.node("MatMul", weights, values), shapes["mixed"])  # [rows, 3, 3, tokens, 64]
        mixed = g.node("Transpose", mixed, perm=[0, 3, 1, 2, 4])
        return g.node("Reshape", mixed, g.ints(-1, WIDTH))


def shapes_of(g: Graph, rows: str, tokens: str, total: str) -> dict:
    """Returns the shapes of a layer's reshapes. `rows`, `tokens` and `total`: int64 [1]; no size is guessed
    with -1, which fails when another one is 0."""
    def shape(*sizes):
        return g.node("Concat", *(g.ints(s) if isinstance(s, int) else s for s in sizes), axis=0)

    thrice = g.node("Mul", tokens, g.ints(GROUP))
    return {"rows": shape(rows, 1, 1, 1),
            "heads": shape(rows, tokens, HEADS + 2 * KV_HEADS, HEAD),
            "groups": shape(rows, tokens, KV_HEADS, GROUP, HEAD),
            "queries": shape(rows, KV_HEADS, thrice, HEAD),
            "scores": shape(rows, KV_HEADS, GROUP, tokens, total),
            "weights": shape(rows, KV_HEADS, thrice, total),
            "mixed": shape(rows, KV_HEADS, GROUP, tokens, HEAD)}


def causal_bias(g: Graph, tokens: str, before: str) -> str:
    """Returns [tokens, before + tokens]: HIDDEN where a column lies after the row's own."""
    flat = g.ints()  # the shape of a scalar
    one, zero = g.constant(struct.pack("<q", 1), [], INT64), g.constant(struct.pack("<q", 0), [], INT64)
    count, start = g.node("Reshape", tokens, flat), g.node("Reshape", before, flat)
    end = g.node("Add", start, count)
    own = g.node("Unsqueeze", g.node("Range", start, end, one), g.ints(1))
    later = g.node("Greater", g.node("Unsqueeze", g.node("Range", zero, end, one), g.ints(0)), own)
    return g.node("Where", later, g.scalar(HIDDEN), g.scalar(0.0))


def build_encoder(weights: Gguf, prefix: list, layers, out) -> None:
    """Writes an encoder: the mean over a text's tokens of the state after a layer, behind the prefix.

    `layers`: the number of layers, or a list of them for one output each (`embedding.N`; for experiments)."""
    several = layers if isinstance(layers, list) else []
    g = Graph("smollm2-mid")
    ids = g.input("input_ids", INT64, ["batch", "tokens"])
    mask = g.input("attention_mask", INT64, ["batch", "tokens"])
    m = Model(g, weights)
    length = len(prefix)
    rows, tokens = (g.node("Shape", ids, start=i, end=i + 1) for i in range(2))
    before = g.ints(length)
    shapes = shapes_of(g, rows, tokens, g.node("Add", tokens, before))
    bias = causal_bias(g, tokens, before)
    positions = g.node("Add", _range(g, tokens), before)
    angles = m.angles(positions)
    # The prefix, from constants only.
    own_shapes = shapes_of(g, g.ints(1), g.ints(length), g.ints(length))
    own_bias = causal_bias(g, g.ints(length), g.ints(0))
    own_angles = m.angles(g.ints(*range(length)))
    embed = m.compact_embedding()
    before_h, h = embed(g.ints(*prefix)), embed(g.node("Reshape", ids, g.ints(-1)))
    weight = g.node("Unsqueeze", g.node("Cast", mask, to=FLOAT), g.ints(1))  # [rows, 1, tokens]
    count = g.node("Max", g.node("ReduceSum", weight, g.ints(2), keepdims=0), g.scalar(1.0))
    state = g.node("Concat", rows, tokens, g.ints(WIDTH), axis=0)
    for number in range(max(several) if several else layers):
        layer = Layer(m, number)
        before_h, past = layer.run(before_h, own_angles, own_shapes, bias=own_bias)
        h, _ = layer.run(h, angles, shapes, past, bias)
        last = not several and number + 1 == layers
        if last or number + 1 in several:
            name = "embedding" if last else f"embedding.{number + 1}"
            total = g.node("Squeeze", g.node("MatMul", weight, g.node("Reshape", h, state)), g.ints(1))
            g.node("Div", total, count, out=name)
            g.output(name, FLOAT, ["batch", WIDTH])
    g.save(out)


def _range(g: Graph, count: str) -> str:
    one, zero = g.constant(struct.pack("<q", 1), [], INT64), g.constant(struct.pack("<q", 0), [], INT64)
    return g.node("Range", zero, g.node("Reshape", count, g.ints()), one)


class Adapters:
    """The optional inputs of LoRA adapters: y = W x + B (A x). Their initialisers have rank 0, which adds zeros."""

    def __init__(self, g: Graph):
        self._g = g

    def qkv(self, layer: int, x: str) -> str:
        parts = [self._product(layer, name, x, outputs) for name, outputs in (("q", WIDTH), ("k", KEYS), ("v", KEYS))]
        return self._g.node("Concat", *parts, axis=1)

    def output(self, layer: int, x: str) -> str:
        return self._product(layer, "o", x, WIDTH)

    def _product(self, layer: int, name: str, x: str, outputs: int) -> str:
        g, stem = self._g, f"layers.{layer}.{name}_proj.lora_"
        a, b = (g.input(stem + half, FLOAT, shape) for half, shape in (("a", [WIDTH, "rank"]), ("b", ["rank", outputs])))
        g.constant(b"", [WIDTH, 0], name=a)
        g.constant(b"", [0, outputs], name=b)
        return g.node("MatMul", g.node("MatMul", x, a), b)


def build_causal_lm(weights: Gguf, out) -> None:
    """Writes the whole model, in the layout of Optimum's exports, with the logits of the last column only."""
    g = Graph("smollm2")
    ids = g.input("input_ids", INT64, ["batch", "tokens"])
    mask = g.input("attention_mask", INT64, ["batch", "total"])
    positions = g.input("position_ids", INT64, ["batch", "tokens"])
    m, adapters = Model(g, weights), Adapters(g)
    rows, tokens = (g.node("Shape", ids, start=i, end=i + 1) for i in range(2))
    total = g.node("Shape", mask, start=1, end=2)
    shapes = shapes_of(g, rows, tokens, total)
    angles = m.angles(positions)
    padding = g.node("Equal", mask, g.ints(0))
    padding = g.node("Where", padding, g.scalar(HIDDEN), g.scalar(0.0))
    bias = g.node("Min", causal_bias(g, tokens, g.node("Sub", total, tokens)),
                  g.node("Unsqueeze", padding, g.ints(1, 2, 3)))  # [rows, 1, 1, tokens, total]
    embedding = m.embedding()
    h = g.node("Gather", embedding, g.node("Reshape", ids, g.ints(-1)))
    for number in range(LAYERS):
        past = [g.input(f"past_key_values.{number}.{part}", FLOAT, ["past_batch", KV_HEADS, "past", HEAD])
                for part in ("key", "value")]
        names = [f"present.{number}.{part}" for part in ("key", "value")]
        h, _ = Layer(m, number).run(h, angles, shapes, past, bias, adapters, names)
        for name in names:
            g.output(name, FLOAT, ["batch", KV_HEADS, "total", HEAD])
    h = g.node("Reshape", h, g.node("Concat", rows, tokens, g.ints(WIDTH), axis=0))
    last = g.node("Gather", h, g.constant(struct.pack("<q", -1), [], INT64), axis=1)
    logits = g.node("Gemm", m.norm(last, m.vector("output_norm.weight")), embedding, transB=1)
    g.node("Unsqueeze", logits, g.ints(1), out="logits")
    g.output("logits", FLOAT, ["batch", 1, VOCABULARY])
    g.save(out)
