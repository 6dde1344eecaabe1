"""Builds the profanity classifier from its package: words weighted by TF-IDF, five linear classifiers.

The package stores scikit-learn objects as joblib files. They are read here without scikit-learn, joblib or
numpy, and without running their code: a pickle can only create containers and `_Anything`, and the arrays
between its parts are read as numbers.
"""
import pickle
import struct

from onnxfile import FLOAT, STRING, Graph, floats

FOLDER = "profanity_check/data/"
# The settings of the package that this graph implements; other settings would need another graph.
SETTINGS = {"analyzer": "word", "lowercase": True, "token_pattern": r"(?u)\b\w\w+\b", "ngram_range": (1, 1),
            "binary": False, "norm": "l2", "use_idf": True, "sublinear_tf": False}
# Python's \w in the runtime's syntax, whose own \w is only ASCII. Stop words are in no vocabulary.
WORD = r"[\p{L}\p{N}_]{2,}"


class _Anything:
    """Replaces the classes that the pickle names; only plain fields are read."""

    def __init__(self, *args, **kwargs):
        self.args = args

    def __setstate__(self, state):
        if isinstance(state, dict):
            self.__dict__.update(state)


class _Reader(pickle._Unpickler):  # the implementation in Python, because the other one reads ahead
    """A pickle can call any function; this reader only creates `_Anything` and reads arrays of numbers."""

    def __init__(self, file):
        super().__init__(file)
        self._file = file

    def find_class(self, module, name):
        if name != "NumpyArrayWrapper":
            return type(name, (_Anything,), {})
        file = self._file

        class Wrapper(_Anything):
            """joblib's marker of an array, whose bytes follow."""

            def __setstate__(self, state):
                file.read(file.read(1)[0])  # up to the alignment
                count = 1
                for n in state["shape"]:
                    count *= n
                code = {"f8": "d", "i8": "q"}[state["dtype"].args[0]]
                self.numbers = struct.unpack(f"<{count}{code}", file.read(8 * count))
        return Wrapper


def _number(value) -> float:
    """Returns a plain number, or the value of numpy's (type, eight bytes)."""
    if not isinstance(value, _Anything):
        return value
    kind, raw = value.args
    return struct.unpack({"f8": "<d", "i8": "<q"}[kind.args[0]], raw)[0]


def _read(package, name: str):
    with package.open(FOLDER + name) as file:
        return _Reader(file).load()


def build_profanity(package, out) -> None:
    """Writes a graph from strings to P(profane): the mean of five classifiers, each calibrated by its own sigmoid."""
    words, machines = _read(package, "vectorizer.joblib"), _read(package, "model.joblib")
    found = {key: getattr(words, key) for key in SETTINGS}
    assert found == SETTINGS, f"alt-profanity-check reads text otherwise: {found}"
    numbers = {word: _number(number) for word, number in words.vocabulary_.items()}
    vocabulary = sorted(numbers, key=numbers.get)
    assert [numbers[word] for word in vocabulary] == list(range(len(vocabulary)))
    folds = machines.calibrated_classifiers_
    weights = [x for fold in folds for x in fold.estimator.coef_.numbers]
    biases = [fold.estimator.intercept_.numbers[0] for fold in folds]
    # P = 1 / (1 + exp(a f + b)) = sigmoid(-a f - b)
    slopes = [-_number(fold.calibrators[0].a_) for fold in folds]
    shifts = [-_number(fold.calibrators[0].b_) for fold in folds]

    g = Graph("profanity")
    text = g.input("text", STRING, ["batch"])
    # Without this setting the graph requests a locale that a minimal system lacks.
    text = g.node("StringNormalizer", text, case_change_action="LOWER", is_case_sensitive=0, locale="C.UTF-8")
    found = g.node("Tokenizer", text, domain="com.microsoft", mark=0, mincharnum=2, pad_value="#", tokenexp=WORD)
    many = g.node("TfIdfVectorizer", found, mode="TF", min_gram_length=1, max_gram_length=1, max_skip_count=0,
                  ngram_counts=[0], ngram_indexes=list(range(len(vocabulary))), pool_strings=vocabulary)
    weighed = g.node("Mul", many, g.constant(floats(words._tfidf.idf_.numbers), [len(vocabulary)]))
    unit = g.node("Normalizer", weighed, domain="ai.onnx.ml", norm="L2")
    f = g.node("Gemm", unit, g.constant(floats(weights), [len(folds), len(vocabulary)]),
               g.constant(floats(biases), [len(folds)]), transB=1)
    f = g.node("Add", g.node("Mul", f, g.constant(floats(slopes), [len(folds)])),
               g.constant(floats(shifts), [len(folds)]))
    g.node("ReduceMean", g.node("Sigmoid", f), g.ints(1), out="scores", keepdims=1)
    # The number of known words in the text: with none, the expert abstains.
    g.node("ReduceSum", many, g.ints(1), out="read", keepdims=1)
    g.output("scores", FLOAT, ["batch", 1])
    g.output("read", FLOAT, ["batch", 1])
    g.save(out)
