"""Embeds texts with the bundled encoders and caches the vectors, for train.py and evaluate.py."""
import hashlib
import tomllib
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from runtime import onnxruntime


def session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # else a warning for each input that has an initialiser
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Encoder:
    """An encoder of models/. `cache` is a folder; the file's name has the hash of the graph."""

    def __init__(self, folder: Path, cache: Path, threads: int = 1):
        manifest = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
        self._most = manifest["tokenizer"]["max_tokens"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.encode_special_tokens = True  # control tokens in a text are ordinary text
        self._session = session(folder / "model.onnx", threads)
        # The token that ends every text, truncated or not, if the tokenizer has one.
        self._end = (self._tokenizer.encode("").ids or [None])[-1]
        width = next(o.shape[1] for o in self._session.get_outputs() if o.name == "embedding")
        self._record = np.dtype([("key", "S16"), ("e", "<f4", width)])
        self._cache = cache / f"embeddings-{folder.name}-{manifest['model']['sha256'][:16]}.f32"
        self._known = {}
        if self._cache.is_file():
            raw = np.fromfile(self._cache, dtype=self._record)
            # A numpy bytes field drops trailing zero bytes, and so does the key below.
            self._known = dict(zip(raw["key"].tolist(), raw["e"]))

    def inputs(self, texts, batch: int = 16):
        """Yields the inputs of all texts, sorted by length: (positions, (ids, mask))."""
        ids = [e.ids[:self._most] or [0] for e in self._tokenizer.encode_batch(list(texts))]
        for i in ids:
            if self._end is not None:
                i[-1] = self._end
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for at in range(0, len(order), batch):
            group = order[at:at + batch]
            width = len(ids[group[-1]])
            tokens = np.zeros((len(group), width), np.int64)
            mask = np.zeros_like(tokens)
            for row, i in enumerate(group):
                tokens[row, :len(ids[i])] = ids[i]
                mask[row, :len(ids[i])] = 1
            yield group, (tokens, mask)

    def run(self, texts, outputs=("embedding",), batch: int = 16):
        """Runs all texts, sorted by length; yields (positions, arrays)."""
        for group, (tokens, mask) in self.inputs(texts, batch):
            yield group, self._session.run(list(outputs), {"input_ids": tokens, "attention_mask": mask})

    def embed(self, texts, progress=None) -> np.ndarray:
        keys = [hashlib.sha256(t.encode()).digest()[:16].rstrip(b"\0") for t in texts]
        todo = list({k: t for k, t in zip(keys, texts) if k not in self._known}.items())
        for at in range(0, len(todo), 2048):
            part = todo[at:at + 2048]
            with open(self._cache, "ab") as file:
                for group, (e,) in self.run([t for _, t in part]):
                    block = np.empty(len(group), dtype=self._record)
                    block["key"], block["e"] = [part[i][0] for i in group], e
                    file.write(block.tobytes())
                    self._known.update((part[i][0], e[row]) for row, i in enumerate(group))
            if progress:
                progress(at + len(part), len(todo))
        return np.stack([self._known[k] for k in keys])
