#!/usr/bin/env python3
"""Measures which encoder's features serve the learner best, on English streams and on one of five languages in turn.

    python3 experts/choose_features.py --data ../shared/data --packages FOLDER --aegis target/release/aegis

For developers; needs requirements.txt, models/, the packages of parallel.json in FOLDER and the program. English streams
are those of held_out.py, with the votes of experts that were not trained on the stream's source; the judges' stream is that of
DATA/streams, with its own votes. The other stream has functional tests of one part of the functions, of which its heads
learnt the other parts. All features are 384 signed bytes, with the whitening of each encoder.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import catalogue  # noqa: E402
import datasets  # noqa: E402
import encoder_multilingual  # noqa: E402
import held_out  # noqa: E402
import parallel_text  # noqa: E402
import train  # noqa: E402
import train_multilingual as training  # noqa: E402
from demo_text import bucket  # noqa: E402
from encoder import DIM, FEATURES, read_whitening  # noqa: E402
from evaluate import test_sets  # noqa: E402
from fetch import ROOT  # noqa: E402
from panel import Panel, sigmoid  # noqa: E402

HELD_OUT_FOLD = 0


class Whitening:
    """The first directions of an encoder's embeddings, as signed bytes: four standard deviations are 127."""

    def __init__(self, mean, v, variance):
        self._mean, self._v, self._step = mean, v, 127 / 4 / np.sqrt(variance)

    @classmethod
    def read(cls, name: str, width: int):
        """Returns the whitening that an encoder's graph has."""
        mean, v, variance = read_whitening(train.WEIGHTS / name, width)
        return cls(np.frombuffer(mean, "<f4"), np.frombuffer(v, "<f4").reshape(width, FEATURES), np.array(variance))

    def __call__(self, embeddings) -> np.ndarray:
        z = (embeddings.astype(np.float64) - self._mean) @ self._v * self._step
        return np.clip(np.rint(z), -127, 127).astype(np.int8)


def alternate(first, second):
    """Returns coordinates of both encoders: of the first at even places, of the second at odd ones."""
    joined = np.zeros_like(first)
    joined[:, 0::2], joined[:, 1::2] = first[:, :FEATURES // 2], second[:, :FEATURES // 2]
    return joined


def kinds(panel, texts, is_english: bool) -> dict:
    """Returns name -> features. Of both encoders, MiniLM reads only English."""
    minilm = Whitening.read("whitening.f32", DIM)(panel.encoders["minilm"].embed(texts))
    whitening = Whitening.read("whitening-multilingual.f32", encoder_multilingual.DIM)
    multilingual = whitening(panel.encoders[training.ENCODER].embed(texts))
    second = minilm if is_english else np.zeros_like(minilm)
    return {"MiniLM": minilm, "multilingual": multilingual, "both": alternate(multilingual, second)}


def judges(data: Path):
    """Returns (texts, unsafe, votes) of the stream of eight language models, in its order."""
    stream = data / "streams" / "hatexplain_eight_llm_judges.jsonl"
    lines = [json.loads(line) for line in stream.read_text(encoding="utf-8").split("\n") if line]
    votes = {x: [line["votes"][x] for line in lines] for x in lines[0]["votes"]}
    return [line["text"] for line in lines], np.array([line["unsafe"] for line in lines]), votes


def mistakes(aegis, texts, unsafe, votes, features, in_order) -> tuple:
    figures = held_out.measure_one(aegis, texts, unsafe, votes, features, in_order)
    return figures["mistakes"], figures["brier"]


def five_languages(panel, sets, harmless, count: int):
    """Returns (texts, unsafe, votes) of a stream in which the language changes five times."""
    tests = sets[training.TESTS]
    embed = panel.encoders[training.ENCODER].embed
    known = [r for r in tests if training.fold(r) != HELD_OUT_FOLD]
    chosen = []
    for language in sorted({r.labels["language"] for r in tests}):
        rows = [r for r in tests if r.labels["language"] == language and training.fold(r) == HELD_OUT_FOLD]
        chosen += sorted(rows, key=lambda r: bucket(r.text, 1 << 30))[:count]
    texts, unsafe = [r.text for r in chosen], np.array([r.unsafe for r in chosen])
    votes = {head: panel.probability(head, texts) for head in held_out.MULTILINGUAL if head != training.HATE}
    about = next(h for h in catalogue.MULTILINGUAL_HEADS if h["id"] == training.HATE)
    head = training.fit(about, sets, harmless, embed, known)
    votes[training.HATE] = sigmoid(head.logits(embed(texts))[:, 0].astype(np.float64))
    return texts, unsafe, votes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    parser.add_argument("--packages", type=Path, required=True, help="folder of the packages of parallel.json")
    parser.add_argument("--aegis", default="target/release/aegis", help="the program")
    parser.add_argument("--texts", type=int, default=500, help="texts of each stream, chosen by hash")
    arguments = parser.parse_args()
    sets, parallel = datasets.load(arguments.data), parallel_text.load(arguments.packages)
    panel = Panel(ROOT / "models", ROOT / ".cache")
    columns = [f"{panel_name}, {kind}" for panel_name in ("English panel", "with multilingual heads")
               for kind in ("no text", "MiniLM", "multilingual", "both")]
    print("| stream | texts | " + " | ".join(columns) + " |\n|" + " --- |" * (len(columns) + 2))
    totals = np.zeros(len(columns))

    def measure(name, texts, unsafe, panels, is_english=True, in_order=False):
        read = (None, *kinds(panel, texts, is_english).values())
        found = [mistakes(arguments.aegis, texts, unsafe, votes, of, in_order) for votes in panels for of in read]
        cells = [f"{m} ({b:.3f})" for m, b in found] + ["–" for _ in columns[len(found):]]
        print("| " + " | ".join([name, str(len(texts)), *cells]) + " |", flush=True)
        return np.log([m + 0.5 for m, _ in found])

    streams = 0
    for name, (texts, unsafe) in test_sets(sets).items():
        chosen = sorted(range(len(texts)), key=lambda i: bucket(texts[i], 1 << 30))[:arguments.texts]
        texts, unsafe = [texts[i] for i in chosen], unsafe[chosen]
        votes = {x: panel.probability(x, texts) for x in panel.experts
                 if x not in held_out.silent_on(name) and x not in train.MID_OWN}
        english = {x: p for x, p in votes.items() if x not in held_out.MULTILINGUAL}
        totals += measure(name, texts, unsafe, (english, votes))
        streams += 1
    print("| geometric mean | | " + " | ".join(f"{m:.1f}" for m in np.exp(totals / streams) - 0.5) + " |")
    texts, unsafe, votes = five_languages(panel, sets, training.sentences(parallel), arguments.texts)
    english = {x: panel.probability(x, texts) for x in panel.experts if x not in held_out.MULTILINGUAL and x not in train.MID_OWN}
    measure("five languages in turn", texts, unsafe, (english, votes), is_english=False, in_order=True)
    texts, unsafe, votes = judges(arguments.data)
    measure("eight LLM judges", texts, unsafe, (votes,), in_order=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
