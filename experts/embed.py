"""Embeds texts with the bundled encoder and caches the vectors, for train.py and evaluate.py."""
import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from encoder import DIM


def session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Encoder:
    def __init__(self, folder: Path, cache: Path, threads: int = 1):
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._session = session(folder / "model.onnx", threads)
        self._cache = cache
        self._known = {}
        if cache.is_file():
            raw = np.fromfile(cache, dtype=np.dtype([("key", "S16"), ("e", "<f4", DIM)]))
            # A numpy bytes field drops trailing zero bytes, and so does the key below.
            self._known = dict(zip(raw["key"].tolist(), raw["e"]))

    def run(self, texts, outputs=("embedding",), batch: int = 16):
        """Runs all texts, sorted by length; yields (positions, arrays)."""
        ids = [e.ids[:256] for e in self._tokenizer.encode_batch(list(texts))]
        for i in ids:
            if i[-1] != 102:
                i[-1] = 102  # a truncated text still ends with [SEP]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for at in range(0, len(order), batch):
            group = order[at:at + batch]
            width = len(ids[group[-1]])
            tokens = np.zeros((len(group), width), np.int64)
            mask = np.zeros_like(tokens)
            for row, i in enumerate(group):
                tokens[row, :len(ids[i])] = ids[i]
                mask[row, :len(ids[i])] = 1
            yield group, self._session.run(list(outputs), {"input_ids": tokens, "attention_mask": mask})

    def embed(self, texts, progress=None) -> np.ndarray:
        keys = [hashlib.sha256(t.encode()).digest()[:16].rstrip(b"\0") for t in texts]
        todo = list({k: t for k, t in zip(keys, texts) if k not in self._known}.items())
        for at in range(0, len(todo), 2048):
            part = todo[at:at + 2048]
            with open(self._cache, "ab") as file:
                for group, (e,) in self.run([t for _, t in part]):
                    block = np.empty(len(group), dtype=np.dtype([("key", "S16"), ("e", "<f4", DIM)]))
                    block["key"], block["e"] = [part[i][0] for i in group], e
                    file.write(block.tobytes())
                    self._known.update((part[i][0], e[row]) for row, i in enumerate(group))
            if progress:
                progress(at + len(part), len(todo))
        return np.stack([self._known[k] for k in keys])
