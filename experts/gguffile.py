"""Reads GGUF files, the format of llama.cpp, with the standard library alone."""
import struct

F32, Q4_1, Q8_0 = 0, 3, 8
BLOCK = 32
# Type -> (values in a block, bytes of a block).
SIZES = {F32: (1, 4), Q4_1: (BLOCK, 20), Q8_0: (BLOCK, 34)}
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


class Gguf:
    """`fields` holds the metadata; `tensor` returns the bytes of a tensor."""

    def __init__(self, data: bytes):
        self._data, self._at = data, 4
        version, tensors, fields = self._read("I"), self._read("Q"), self._read("Q")
        assert data[:4] == b"GGUF" and version == 3, "not a GGUF file of version 3"
        self.fields = {self._string(): self._value(self._read("I")) for _ in range(fields)}
        self._tensors = dict(self._tensor_info() for _ in range(tensors))
        align = self.fields.get("general.alignment", 32)
        self._base = -(-self._at // align) * align

    def tensor(self, name: str, kind: int, rows: int, columns: int) -> bytes:
        """Returns the bytes of a matrix, by row. A vector has one row."""
        found, shape, offset = self._tensors[name]
        wanted = [columns, rows] if rows > 1 else [columns]
        assert (found, shape) == (kind, wanted), f"{name} has type {found} and shape {shape}"
        values, size = SIZES[kind]
        begin = self._base + offset
        return self._data[begin:begin + rows * columns // values * size]

    def _read(self, code: str):
        value, = struct.unpack_from("<" + code, self._data, self._at)
        self._at += struct.calcsize("<" + code)
        return value

    def _string(self) -> str:
        size = self._read("Q")
        self._at += size
        return self._data[self._at - size:self._at].decode("utf-8")

    def _value(self, kind: int):
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            item, count = self._read("I"), self._read("Q")
            return [self._value(item) for _ in range(count)]
        return self._read(_SCALARS[kind])

    def _tensor_info(self):
        name = self._string()
        shape = [self._read("Q") for _ in range(self._read("I"))]
        return name, (self._read("I"), shape, self._read("Q"))


def split_blocks(raw: bytes, kind: int):
    """Returns the fields of the blocks, each in one piece: Q4_1: scales, minima (float16) and
    nibbles; Q8_0: scales and signed bytes."""
    size = SIZES[kind][1]
    count = len(raw) // size
    halves = 2 if kind == Q4_1 else 1
    fields = []
    for half in range(halves):
        field = bytearray(2 * count)
        for byte in range(2):
            field[byte::2] = raw[2 * half + byte::size]
        fields.append(bytes(field))
    head = 2 * halves
    values = bytearray((size - head) * count)
    for byte in range(size - head):
        values[byte::size - head] = raw[head + byte::size]
    return (*fields, bytes(values))


def to_floats(raw: bytes, kind: int) -> bytes:
    """Returns the values of blocks as little-endian float32: scale * number (+ minimum), exact and then rounded once."""
    scales, *minima, values = split_blocks(raw, kind)
    count = len(scales) // 2
    scales = struct.unpack(f"<{count}e", scales)
    if kind == Q8_0:
        pack, numbers = struct.Struct(f"<{BLOCK}f").pack, struct.unpack(f"<{len(values)}b", values)
        return b"".join(pack(*[scale * n for n in numbers[at:at + BLOCK]])
                        for scale, at in zip(scales, range(0, len(numbers), BLOCK)))
    # A block has only sixteen different values, so each byte of its floats comes from a table.
    minima = struct.unpack(f"<{count}e", minima[0])
    low, high = (values.translate(bytes(table)) for table in ([i & 15 for i in range(256)], [i >> 4 for i in range(256)]))
    pack, rest, half = struct.Struct("<16f").pack, bytes(240), BLOCK // 2
    planes = [[] for _ in range(4)]
    for scale, least, at in zip(scales, minima, range(0, len(values), half)):
        numbers = low[at:at + half] + high[at:at + half]
        table = pack(*[scale * n + least for n in range(16)])
        for byte, plane in enumerate(planes):
            plane.append(numbers.translate(table[byte::4] + rest))
    out = bytearray(4 * BLOCK * count)
    for byte, plane in enumerate(planes):
        out[byte::4] = b"".join(plane)
    return bytes(out)
