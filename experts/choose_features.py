#!/usr/bin/env python3
"""Measures which features serve the learner best: those of one encoder or of both, on English streams and on one of five
languages in turn.

    python3 experts/choose_features.py --data ../shared/data --packages FOLDER --aegis target/release/aegis

For developers; needs requirements.txt, models/, the packages of parallel.json in FOLDER and the program. English streams
are those of held_out.py, with the votes of experts that were not trained on the stream's source; the judges' stream is that of
DATA/streams, with its own votes. The other stream has functional tests of one part of the functions, of which its heads
learnt the other parts. All features are 384 signed bytes. *multilingual* is what the multilingual encoder computes alone.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import catalogue  # noqa: E402
import datasets  # noqa: E402
import held_out  # noqa: E402
import joint  # noqa: E402
import parallel_text  # noqa: E402
import train  # noqa: E402
import train_multilingual as training  # noqa: E402
from demo_text import bucket  # noqa: E402
from encoder import DIM, FEATURES, read_whitening  # noqa: E402
from evaluate import test_sets  # noqa: E402
from fetch import ROOT  # noqa: E402
from panel import Panel, sigmoid  # noqa: E402

HELD_OUT_FOLD = 0


def minilm_alone(embeddings) -> np.ndarray:
    mean, v, variance = read_whitening(train.WEIGHTS / "whitening.f32")
    z = (embeddings.astype(np.float64) - np.frombuffer(mean, "<f4")) @ np.frombuffer(v, "<f4").reshape(DIM, FEATURES)
    return np.clip(np.rint(z * (joint.SIGNED_BYTE / np.sqrt(np.array(variance)))), -127, 127).astype(np.int8)


def kinds(panel, texts, is_english: bool) -> dict:
    """Returns name -> features. Of both encoders, MiniLM reads only English."""
    minilm, multilingual = (panel.encoders[name].embed(texts) for name in (catalogue.ENCODER["id"], training.ENCODER))
    return {"MiniLM": minilm_alone(minilm), "multilingual": joint.features(minilm, multilingual, is_english=False),
            "both": joint.features(minilm, multilingual, is_english)}


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
