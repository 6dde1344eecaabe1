"""Builds the two bidirectional LSTM classifiers from their packages.

Both were trained in Keras on the Jigsaw comments and have the same shape: words ->
vectors of 50 -> LSTM of 50 in each direction -> maximum over time -> 50 -> six labels.
"""
import json
import pickle
from array import array

from onnxfile import FLOAT, INT64, Graph, floats

WORDS, WIDTH, UNITS, LENGTH, LABELS = 20000, 50, 50, 100, 6

# The offset of each array in its HDF5 file. The files are pinned by hash, and the arrays
# are contiguous, so reading them needs no HDF5 library.
TOXIC_BILSTM = {
    "file": "toxic_classifier/model/model.weights.h5",
    "tokenizer": "toxic_classifier/model/tokenizer.pickle",
    "embedding": 6608,
    "forward": (4099192, 4141240, 4095264), "backward": (4012416, 4054464, 4094464),
    "dense": (4187320, 4096064), "out": (4211664, 4096264),
    "gate": "Sigmoid", "rescale": None,
}
TOX_BLOCK = {
    "file": "tox_block/trained_models/lstm_model_0.1.2.h5",
    "tokenizer": "tox_block/trained_models/encoder_0.1.2.pkl",
    "embedding": 10280,
    "forward": (4014040, 4056088, 4096088), "backward": (4096888, 4138936, 4178936),
    "dense": (4183032, 4179736), "out": (4206304, 4179936),
    "gate": "HardSigmoid",
    # The package scales each label's smallest and greatest score to 0 and 1.
    "rescale": ([0.002116, 0.000011, 0.000347, 0.000040, 0.000373, 0.000074],
                [0.999858, 0.648682, 0.997533, 0.918887, 0.986303, 0.901117]),
}


class _Arrays:
    def __init__(self, data: bytes):
        self._data = data

    def read(self, offset: int, *shape: int) -> array:
        count = 1
        for d in shape:
            count *= d
        words = array("I")  # 32-bit words, which are only moved
        words.frombytes(self._data[offset:offset + 4 * count])
        return words


def _lstm_direction(arrays: _Arrays, offsets):
    """Converts Keras' gates (in, forget, cell, out), input by row, to ONNX' (in, out, forget, cell)."""
    kernel = arrays.read(offsets[0], WIDTH, 4 * UNITS)
    recurrent = arrays.read(offsets[1], UNITS, 4 * UNITS)
    bias = arrays.read(offsets[2], 4 * UNITS)
    gates = (0, 3, 1, 2)
    w, r, b = array("I"), array("I"), array("I")
    for gate in gates:
        for unit in range(gate * UNITS, (gate + 1) * UNITS):
            w.extend(kernel[unit::4 * UNITS])
            r.extend(recurrent[unit::4 * UNITS])
        b.extend(bias[gate * UNITS:(gate + 1) * UNITS])
    b.extend([0] * (4 * UNITS))  # ONNX has a second, recurrent bias
    return w.tobytes(), r.tobytes(), b.tobytes()


def build_recurrent(package, spec: dict, out) -> None:
    arrays = _Arrays(package.read(spec["file"]))
    g = Graph("bilstm")
    ids = g.input("input_ids", INT64, ["batch", LENGTH])
    table = g.constant(arrays.read(spec["embedding"], WORDS, WIDTH).tobytes(), [WORDS, WIDTH])
    x = g.node("Gather", table, g.node("Transpose", ids, perm=[1, 0]))
    both = [_lstm_direction(arrays, spec[d]) for d in ("forward", "backward")]
    w, r, b = (b"".join(part) for part in zip(*both))
    y = g.node("LSTM", x, g.constant(w, [2, 4 * UNITS, WIDTH]), g.constant(r, [2, 4 * UNITS, UNITS]),
               g.constant(b, [2, 8 * UNITS]), direction="bidirectional", hidden_size=UNITS,
               activations=[spec["gate"], "Tanh", "Tanh"] * 2)
    top = g.node("ReduceMax", y, g.ints(0), keepdims=0)  # without the time axis: [2, batch, 50]
    top = g.node("Reshape", g.node("Transpose", top, perm=[1, 0, 2]), g.ints(0, 2 * UNITS))
    h = g.node("Relu", _dense(g, arrays, spec["dense"], top, 2 * UNITS, UNITS))
    logits = _dense(g, arrays, spec["out"], h, UNITS, LABELS)
    if spec["rescale"]:
        low, high = spec["rescale"]
        p = g.node("Sub", g.node("Sigmoid", logits), g.constant(floats(low), [LABELS]))
        p = g.node("Mul", p, g.constant(floats([1 / (b - a) for a, b in zip(low, high)]), [LABELS]))
        g.node("Clip", p, g.scalar(0.0), g.scalar(1.0), out="scores")
    else:
        g.node("Sigmoid", logits, out="scores")
    g.output("scores", FLOAT, ["batch", LABELS])
    g.save(out)


def _dense(g: Graph, arrays: _Arrays, offsets, h: str, inputs: int, outputs: int) -> str:
    kernel = g.constant(arrays.read(offsets[0], inputs, outputs).tobytes(), [inputs, outputs])
    return g.node("Gemm", h, kernel, g.constant(arrays.read(offsets[1], outputs).tobytes(), [outputs]))


class _Anything:
    """Replaces the classes that the pickle names; only plain fields are read."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        self.__dict__.update(state)


class _PlainUnpickler(pickle.Unpickler):
    """A pickle can call any function; this reader only creates containers and `_Anything`."""

    def find_class(self, module, name):
        if (module, name) in {("collections", "OrderedDict"), ("collections", "defaultdict"),
                              ("builtins", "int")}:
            return super().find_class(module, name)
        return type(name, (_Anything,), {})


def tokenizer_json(package, spec: dict) -> bytes:
    """Returns Keras' text.Tokenizer as a Hugging Face tokenizer: lower case, filtered
    characters become spaces, split at spaces, look each word up. Unknown words get id 0
    and are dropped (`drop_ids`); 0 is the padding and never a word."""
    with package.open(spec["tokenizer"]) as file:
        source = _PlainUnpickler(file).load()
    source = getattr(source, "tokenizer", source)
    vocab = {"[UNK]": 0}
    for word, number in sorted(source.word_index.items(), key=lambda pair: pair[1]):
        if number < WORDS:
            vocab[word] = number
    filtered = "[" + "".join("\\" + c if c in "\\]^-[&~" else c for c in source.filters) + "]"
    document = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Lowercase"},
            {"type": "Replace", "pattern": {"Regex": filtered}, "content": " "}]},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "},
                          "behavior": "Removed", "invert": False},
        "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"},
    }
    return (json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
