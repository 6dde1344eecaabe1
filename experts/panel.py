"""Runs the folders of models/ as the program does, using only their manifests."""
import tomllib
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from embed import Encoder, session
from rules_expert import Rules


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def logit(p):
    p = np.clip(np.asarray(p, np.float64), 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


class Panel:
    def __init__(self, models: Path, cache: Path, threads: int = 1):
        self._models = models
        self.manifests = {p.parent.name: tomllib.loads(p.read_text(encoding="utf-8"))
                          for p in sorted(models.glob("*/manifest.toml"))}
        self.experts = [n for n, m in self.manifests.items() if m["kind"] != "encoder"]
        self.encoders = {n: Encoder(models / n, cache, threads)
                         for n, m in self.manifests.items() if m["kind"] == "encoder"}
        self._threads = threads

    def scores(self, expert: str, texts) -> np.ndarray:
        """Returns the output of the graph for each label: [texts, labels]."""
        m = self.manifests[expert]
        folder = self._models / expert
        if m["kind"] == "rules":
            rules = Rules(folder / m["rules"]["file"])
            return np.array([[rules.score(t)] for t in texts])
        graph = session(folder / m["model"]["file"], self._threads)
        out = [m["outputs"]["scores"]]
        if m["kind"] == "head":
            embeddings = self.encoders[m["encoder"]].embed(texts)
            return graph.run(out, {m["inputs"]["embedding"]: embeddings})[0]
        if "text" in m["inputs"]:
            name, rows = m["inputs"]["text"], strings(texts, m["text"]["max_chars"])
        else:
            name, rows = m["inputs"]["ids"], tokens(folder, m["tokenizer"], texts)
        parts = [graph.run(out, {name: rows[i:i + 256]})[0] for i in range(0, len(rows), 256)]
        return np.concatenate(parts)

    def probability(self, expert: str, texts, calibrated: bool = True) -> np.ndarray:
        m = self.manifests[expert]
        scores = self.scores(expert, texts)
        if m["kind"] == "rules":
            return scores[:, 0]
        p = scores[:, [label["unsafe"] for label in m["labels"]]].max(axis=1)
        if calibrated and "calibration" in m:
            p = sigmoid(m["calibration"]["a"] * logit(p) + m["calibration"]["b"])
        return p


def strings(texts, most: int) -> np.ndarray:
    """Returns the first `most` characters of each text, without NUL, which would end a string for the runtime."""
    return np.array([text[:most].replace("\0", " ") for text in texts], dtype=object)


def tokens(folder: Path, spec: dict, texts) -> np.ndarray:
    """Returns ids of a fixed length: unknown words are dropped, the first `to` are kept and padded."""
    tokenizer = Tokenizer.from_file(str(folder / spec["file"]))
    drop, pad = set(spec.get("drop_ids", [])), spec["pad"]
    ids = np.full((len(texts), pad["to"]), pad["id"], np.int64)
    for row, encoding in enumerate(tokenizer.encode_batch(list(texts))):
        kept = [i for i in encoding.ids if i not in drop][:min(spec["max_tokens"], pad["to"])]
        if kept and pad["side"] == "left":
            ids[row, -len(kept):] = kept
        elif kept:
            ids[row, :len(kept)] = kept
    return ids
