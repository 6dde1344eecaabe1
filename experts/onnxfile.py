"""Writes ONNX files with the standard library alone.

An ONNX model is a protobuf message. The few message types that a graph needs are
written here by field number. The set-up therefore needs no compiled packages, works
with every Python since 3.9, and gives the same bytes on every machine (the output of
a protobuf library may change with its version).
"""
import struct
from array import array

FLOAT, UINT8, INT8, INT16, INT32, INT64, STRING, FLOAT16 = 1, 2, 3, 5, 6, 7, 8, 10
IR_VERSION, OPSET = 9, 20
# Versions of the operator sets other than ONNX's own, by domain.
DOMAINS = {"ai.onnx.ml": 1, "com.microsoft": 1}


def _varint(n: int) -> bytes:
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _int(field: int, n: int) -> bytes:
    return _varint(field << 3) + _varint(n)


def _bytes(field: int, data) -> bytes:
    if isinstance(data, str):
        data = data.encode("utf-8")
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _attribute(name: str, value) -> bytes:
    head = _bytes(1, name)
    if isinstance(value, float):
        return head + b"\x15" + struct.pack("<f", value) + _int(20, 1)
    if isinstance(value, int):
        return head + _int(3, value) + _int(20, 2)
    if isinstance(value, str):
        return head + _bytes(4, value) + _int(20, 3)
    if isinstance(value[0], float):
        return head + b"".join(b"\x3d" + struct.pack("<f", v) for v in value) + _int(20, 6)
    if isinstance(value[0], int):
        return head + b"".join(_int(8, v) for v in value) + _int(20, 7)
    return head + b"".join(_bytes(9, v) for v in value) + _int(20, 8)


def floats(values) -> bytes:
    """Returns little-endian float32, rounded to nearest, on machines of any byte order."""
    return struct.pack("<%df" % len(values), *values)


def transposed(raw: bytes, rows: int, cols: int) -> bytes:
    """Returns the transpose of a row-major float32 matrix. Only moves words."""
    words = array("I")
    assert words.itemsize == 4 and len(raw) == 4 * rows * cols
    words.frombytes(raw)
    out = array("I")
    for column in range(cols):
        out.extend(words[column::cols])
    return out.tobytes()


class Graph:
    """Collects nodes and constants; `save` writes the file."""

    def __init__(self, name: str):
        self.name = name
        self._nodes, self._constants = [], []
        self._inputs, self._outputs = [], []
        self._names = 0
        self._domains = set()

    def input(self, name: str, kind: int, shape) -> str:
        self._inputs.append(_value_info(name, kind, shape))
        return name

    def output(self, name: str, kind: int, shape) -> None:
        self._outputs.append(_value_info(name, kind, shape))

    def constant(self, raw: bytes, shape, kind: int = FLOAT, name: str = "") -> str:
        name = name or self.name_for("c")
        head = b"".join(_int(1, d) for d in shape) + _int(2, kind) + _bytes(8, name)
        self._constants.append(head + _bytes(9, raw))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(struct.pack("<%dq" % len(values), *values), [len(values)], INT64)

    def scalar(self, value: float) -> str:
        return self.constant(struct.pack("<f", value), [])

    def node(self, op: str, *inputs: str, out=None, domain: str = "", **attributes) -> str:
        """Adds a node; returns its first output. `out` names them (a name or a list)."""
        outs = [out] if isinstance(out, str) else list(out or [self.name_for(op.lower())])
        message = b"".join(_bytes(1, i) for i in inputs)
        message += b"".join(_bytes(2, o) for o in outs)
        message += _bytes(3, outs[0] or self.name_for(op.lower())) + _bytes(4, op)
        for key in sorted(attributes):
            message += _bytes(5, _attribute(key, attributes[key]))
        if domain:
            self._domains.add(domain)
            message += _bytes(7, domain)
        self._nodes.append(message)
        return outs[0]

    def name_for(self, stem: str) -> str:
        self._names += 1
        return f"{stem}_{self._names}"

    def save(self, path) -> None:
        parts = [_bytes(1, n) for n in self._nodes] + [_bytes(2, self.name)]
        parts += [_bytes(5, c) for c in self._constants]
        parts += [_bytes(11, i) for i in self._inputs] + [_bytes(12, o) for o in self._outputs]
        size = sum(len(p) for p in parts)
        with open(path, "wb") as file:
            file.write(_int(1, IR_VERSION) + _bytes(2, "aegis experts"))
            file.write(_varint(7 << 3 | 2) + _varint(size))
            for part in parts:
                file.write(part)
            file.write(_bytes(8, _bytes(1, "") + _int(2, OPSET)))
            for domain in sorted(self._domains):
                file.write(_bytes(8, _bytes(1, domain) + _int(2, DOMAINS[domain])))


def _value_info(name: str, kind: int, shape) -> bytes:
    dims = b""
    for d in shape:
        dims += _bytes(1, _int(1, d) if isinstance(d, int) else _bytes(2, d))
    return _bytes(1, name) + _bytes(2, _bytes(1, _int(1, kind) + _bytes(2, dims)))
