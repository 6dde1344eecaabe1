#!/usr/bin/env python3
"""Trains the heads on the multilingual encoder and its whitening; writes experts/weights/.

    python3 experts/train_multilingual.py --data ../shared/data --packages FOLDER

For developers only. FOLDER has the packages of parallel.json. The texts are those of the heads on MiniLM (train.py), harmless
sentences in fifteen languages, and for hate the functional tests in five languages. Never uses the demo's text, streams/ or
hatecheck. How a network is fitted was chosen by leaving out one language at a time (evaluate_multilingual.py).
"""
import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import catalogue  # noqa: E402
import datasets  # noqa: E402
import joint  # noqa: E402
import network  # noqa: E402
import parallel_text  # noqa: E402
import train  # noqa: E402
from demo_text import bucket  # noqa: E402
from fetch import ROOT  # noqa: E402
from panel import Panel, logit, sigmoid  # noqa: E402

WEIGHTS = ROOT / "experts" / "weights"
ENCODER = catalogue.MULTILINGUAL_ENCODER["id"]
TESTS = "multilingual_hatecheck"
HATE, HARM = "multilingual-hate", "multilingual-harm"
# Harmless sentences that every head reads in all fifteen languages.
SENTENCES = 40
# Harmless sentences over which the embedding is whitened, beside English texts of many kinds.
WHITENING_SENTENCES = 600
# The sets of the whitening of MiniLM that no measurement reads.
WHITENING = {name: count for name, count in train.WHITENING.items() if name not in ("openai_moderation", "surge")}
# The weight of all other texts of a head beside that of the functional tests.
OTHERS = 1.0
# The parts of the functional tests, by the beginnings of their functions' names: related functions are in one part, in all
# languages, and each part has harmful and harmless ones.
PARTS = (("derog_", "ident_neutral_"), ("threat_", "negate_"), ("slur_", "profanity_"), ("ref_", "phrase_", "ident_pos_"),
         ("spell_", "target_", "counter_"))
FOLDS = len(PARTS)


def fold(row) -> int:
    """Returns the number of the part of the functional tests that a text belongs to."""
    return next(i for i, part in enumerate(PARTS) if row.labels["function"].startswith(part))


def sentences(parallel: dict, count: int = SENTENCES) -> list:
    """Returns harmless sentences, each in all languages that it is there in."""
    chosen = sorted((s for s in parallel if len(parallel[s]) >= 8), key=lambda s: bucket(s, 1 << 30))[:count]
    texts = [text for s in chosen for text in [s, *parallel[s].values()]]
    return [datasets.Row("sentence", text, False, "train") for text in texts]


def whiten(sets: dict, parallel: dict, encoders: dict) -> None:
    """Writes the whitening of both encoders' embeddings. The functional tests are not among its texts."""
    texts = [r.text for r in sentences(parallel, WHITENING_SENTENCES)]
    is_english = [text in parallel for text in texts]
    for name, count in WHITENING.items():
        rows = sorted((r for r in sets[name] if r.split == "train"), key=lambda r: bucket(r.text, 1 << 30))[:count]
        texts += [r.text for r in rows]
        is_english += [True] * len(rows)
    embedded = (encoders[name].embed(texts) for name in (catalogue.ENCODER["id"], ENCODER))
    joint.fit(*embedded, np.array(is_english))


def english_rows(about: dict, sets: dict) -> list:
    """Returns the training texts that a head shares with its twin on MiniLM."""
    if about["id"] == HARM:
        return [row for _, row in train.general_rows(sets)]
    own = train.OWN[about["id"].removeprefix("multilingual-")]
    return [r for name in own for r in sets[name] if r.split == "train"] + train.background(sets, own)


def targets(about: dict, rows: list) -> tuple:
    """Returns (y, weight) of the shape [texts, labels]. A label's texts of both kinds have the same total weight."""
    y, weight = [], []
    many = len(about["labels"]) > 1
    for label, _ in about["labels"]:
        unsafe = np.array([bool(r.labels.get(label)) if many else r.unsafe for r in rows])
        known = np.array([not many or r.labels.get(label) is not None or not r.labels for r in rows])
        of_label = np.zeros(len(rows))
        of_label[known] = train.balanced(unsafe[known])
        y.append(unsafe)
        weight.append(of_label)
    return np.array(y).T, np.array(weight).T


def fit(about: dict, sets: dict, harmless: list, embed, tests: list) -> network.Network:
    """Trains one head. `tests` are the functional tests that it learns from."""
    rows = english_rows(about, sets) + harmless
    y, weight = targets(about, rows)
    if tests:
        y_tests, weight_tests = targets({"labels": about["labels"][:1]}, tests)
        weight *= OTHERS * weight_tests.sum() / weight.sum()
        rows, y, weight = rows + tests, np.vstack([y, y_tests]), np.vstack([weight, weight_tests])
    print(f"  {about['id']}: {len(rows)} texts, {y.any(axis=1).sum()} unsafe", flush=True)
    return _trained(embed([r.text for r in rows]), y, weight)


def _trained(x, y, weight) -> network.Network:
    """Returns the network of `network.train`, from a file of .cache if it was trained there before."""
    source = (ROOT / "experts" / "network.py").read_bytes()
    name = hashlib.sha256(source + x.tobytes() + y.tobytes() + weight.tobytes()).hexdigest()[:32]
    path = ROOT / ".cache" / "networks" / f"{name}.npz"
    if path.is_file():
        with np.load(path) as stored:
            return network.Network(*(stored[key] for key in stored.files))
    path.parent.mkdir(parents=True, exist_ok=True)
    head = network.train(x, y, weight)
    np.savez(path, *head.arrays)
    return head


def learns_tests(about: dict) -> bool:
    """Returns True for the head for hate: what the functional tests call harmless may be harmful in another way."""
    return about["id"] == HATE


def unseen_languages(about: dict, sets: dict, harmless: list, embed) -> tuple:
    """Returns (rows, logits) of the functional tests, each by a head that has not learnt from their language."""
    tests = sets[TESTS]
    found = np.zeros(len(tests))
    languages = np.array([r.labels["language"] for r in tests])
    for language in sorted(set(languages)):
        head = fit(about, sets, harmless, embed, [r for r in tests if r.labels["language"] != language])
        left_out = np.flatnonzero(languages == language)
        found[left_out] = head.logits(embed([tests[i].text for i in left_out]))[:, 0]
    return tests, found


def calibrate(about: dict, head: network.Network, sets: dict, harmless: list, embed) -> dict:
    """Calibrates on the calibration split of the head's own harm. A head that learns from functional tests is calibrated
    on them as well, in languages that a head fitted in the same way has not seen."""
    if about["id"] == HARM:
        rows = [r for _, r in train.general_rows(sets, "calibrate", each=100)]
    else:
        own = train.OWN[about["id"].removeprefix("multilingual-")]
        rows = [r for name in own for r in sets[name] if r.split == "calibrate"]
    p = sigmoid(head.logits(embed([r.text for r in rows])).max(axis=1).astype(np.float64))
    unsafe = np.array([r.unsafe for r in rows])
    weight = train.balanced(unsafe)
    if learns_tests(about):
        tests, logits = unseen_languages(about, sets, harmless, embed)
        of_tests = np.array([r.unsafe for r in tests])
        p, unsafe = np.concatenate([p, sigmoid(logits)]), np.concatenate([unsafe, of_tests])
        weight = np.concatenate([weight, train.balanced(of_tests) * len(rows) / len(tests)])
    w = train.fit_logistic(logit(p)[:, None], unsafe, weight, 1e-3)
    return {"a": round(float(w[0]), 4), "b": round(float(w[1]), 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    parser.add_argument("--packages", type=Path, required=True, help="folder of the packages of parallel.json")
    parser.add_argument("--step", choices=["whitening", "heads"], help="one step only")
    arguments = parser.parse_args()
    sets = datasets.load(arguments.data)
    encoders = Panel(ROOT / "models", ROOT / ".cache").encoders
    embed = encoders[ENCODER].embed
    parallel = parallel_text.load(arguments.packages)
    if arguments.step in (None, "whitening"):
        whiten(sets, parallel, encoders)
    if arguments.step in (None, "heads"):
        train_heads(sets, sentences(parallel), embed)


def train_heads(sets: dict, harmless: list, embed) -> None:
    stored, fitted = b"", {}
    for about in catalogue.MULTILINGUAL_HEADS:
        tests = sets[TESTS] if learns_tests(about) else []
        head = fit(about, sets, harmless, embed, tests)
        stored += b"".join(a.astype("<f2").tobytes() for a in head.arrays)
        fitted[about["id"]] = {"calibration": calibrate(about, head, sets, harmless, embed)}
        print(f"  {about['id']}: {fitted[about['id']]}", flush=True)
    (WEIGHTS / "multilingual.f16").write_bytes(stored)
    train.write_json("multilingual.json", {"units": network.UNITS, "heads": fitted})


if __name__ == "__main__":
    main()
