#!/usr/bin/env python3
"""Measures the heads on the multilingual encoder by language; fills the tables of docs/languages.md.

    python3 experts/evaluate_multilingual.py --data ../shared/data --packages FOLDER

For developers only. FOLDER has the packages of parallel.json. Also writes the quality of each head into
experts/weights/multilingual.json, which the next `python3 experts/setup.py --pin` copies into the manifests. Heads that the
tables call "without ..." are fitted here, in the way of train_multilingual.py; some twenty fits of a few seconds; fits are kept in .cache.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import catalogue  # noqa: E402
import datasets  # noqa: E402
import parallel_text  # noqa: E402
import train_multilingual as training  # noqa: E402
from demo_text import bucket  # noqa: E402
from evaluate import ABOUT, auc, fill, number, table, test_sets  # noqa: E402
from fetch import ROOT  # noqa: E402
from panel import Panel  # noqa: E402
from train import write_json  # noqa: E402

PAGE = ROOT / "docs" / "languages.md"
# Head -> the set with its own harm, and the expert of the same kind that reads English.
OWN = {"multilingual-injection": ("injection", "injection"), "multilingual-hate": ("hate", "hate"),
       "multilingual-sexism": ("sexism", "sexism"), "multilingual-abuse": ("abuse", "abuse"),
       "multilingual-harmful-request": ("requests", "harmful-request"),
       "multilingual-moderation": ("moderation", "moderation"), "multilingual-harm": ("toxicity", "smollm2-harm")}
# The English head reads one of this number of functional tests, chosen by hash: it is slow and next to chance.
ENGLISH_SHARE = 8
# Harmless sentences in each language.
ALARM_SENTENCES = 200
TWINS = ROOT / "experts" / "twins.json"


def english_table(panel, tests) -> tuple:
    """Returns the table of English sets, and head -> quality."""
    rows, quality = [], {}
    everyday = [t for t, unsafe in zip(*tests["jailbreaks"]) if not unsafe]
    for head, (own, twin) in OWN.items():
        texts, unsafe = tests[own]
        p, other = (panel.probability(x, texts) for x in (head, twin)) if twin != "smollm2-harm" else (
            panel.probability(head, texts), None)
        quality[head] = {"set": ABOUT[own], "auc": round(auc(unsafe, p), 3)}
        of_twin = number(auc(unsafe, other)) if other is not None else number(
            panel.manifests[twin]["quality"]["auc"])
        alarms = panel.probability(head, everyday) >= 0.5
        rows.append([f"`{head}`", own, f"{of_twin} (`{twin}`)", number(quality[head]["auc"]),
                     f"{100 * (p[unsafe] >= .5).mean():.0f} %", f"{100 * (p[~unsafe] >= .5).mean():.0f} %",
                     f"{100 * alarms.mean():.1f} %"])
    return table(["head", "own harm", "AUC of its English twin", "AUC", "caught", "false alarms",
                  "alarms on everyday prompts"], rows), quality


class Transfer:
    """Heads for hate that have not learnt from some languages or functions, and their scores on functional tests."""

    def __init__(self, panel, sets, harmless):
        self._about = next(h for h in catalogue.MULTILINGUAL_HEADS if h["id"] == training.HATE)
        self._embed = panel.encoders[training.ENCODER].embed
        self._sets, self._harmless = sets, harmless
        self.tests = sets[training.TESTS]
        self.language = np.array([r.labels["language"] for r in self.tests])
        self.fold = np.array([training.fold(r) for r in self.tests])
        self.unsafe = np.array([r.unsafe for r in self.tests])
        self.embedded = self._embed([r.text for r in self.tests])

    def fitted(self, known):
        """Returns a head that learnt from these functional tests."""
        rows = [self.tests[i] for i in np.flatnonzero(known)]
        return training.fit(self._about, self._sets, self._harmless, self._embed, rows)

    def scores(self, known_of) -> np.ndarray:
        """Returns the scores of all tests. `known_of` gives parts of the tests, each with what its head learnt from."""
        found = np.full(len(self.tests), np.nan)
        for part, known in known_of:
            if part.any():
                found[part] = self.fitted(known).logits(self.embedded[part])[:, 0]
        return found

    def by_language(self, score) -> list:
        """Returns the AUC of each language, and their mean."""
        at = [self.language == language for language in sorted(set(self.language))]
        values = [auc(self.unsafe[part], score[part]) for part in at]
        return [number(v) for v in [*values, np.mean(values)]]

    def within(self, score) -> list:
        """Returns for each language the mean of the AUC within each part of the functions, and the mean of languages."""
        values = []
        for language in sorted(set(self.language)):
            at = (self.language == language) & ~np.isnan(score)
            values.append(np.mean(aucs_within(self.unsafe[at], score[at], self.fold[at])))
        return [number(v) for v in [*values, np.mean(values)]]


def aucs_within(unsafe, score, fold) -> list:
    """Returns the AUC within each part of the functions. Scores of heads that were fitted on different parts are not
    compared, and a part needs texts of both kinds."""
    parts = [fold == f for f in sorted(set(fold))]
    return [auc(unsafe[part], score[part]) for part in parts if len(set(unsafe[part])) == 2]


def transfer_table(panel, t: Transfer) -> str:
    languages, folds = sorted(set(t.language)), range(training.FOLDS)
    nothing, everything = np.zeros(len(t.tests), bool), np.ones(len(t.tests), bool)
    english = np.full(len(t.tests), np.nan)
    chosen = np.array([bucket(r.text, ENGLISH_SHARE) == 0 for r in t.tests])
    english[chosen] = panel.probability("hate", [r.text for r in np.array(t.tests, object)[chosen]])
    without = t.scores([(everything, nothing)])
    other = t.scores([(t.language == x, t.language != x) for x in languages])
    seen = t.scores([(t.fold == f, t.fold != f) for f in folds])
    # One fifth of the functions for each language, because each row of this table costs as many fits as it has parts.
    unseen = t.scores([((t.language == x) & (t.fold == f), (t.language != x) & (t.fold != f))
                       for x, f in zip(languages, folds)])
    rows = [["`hate` (MiniLM, English)", "all", *t.by_language(english)],
            ["trained on English only", "all", *t.by_language(without)],
            ["and on the tests in the four other languages", "all", *t.by_language(other)],
            ["`hate` (MiniLM, English)", "within a fifth", *t.within(english)],
            ["trained on English only", "within a fifth", *t.within(without)],
            ["and on the tests of the other functions in all five languages", "within a fifth", *t.within(seen)],
            ["and on the tests of the other functions in the four other languages", "within one fifth",
             *t.within(unseen)],
            ["trained on English only", "within that fifth", *t.within(np.where(np.isnan(unseen), np.nan, without))]]
    return table(["head", "functions", *languages, "mean"], rows)


def hatecheck_table(panel, t: Transfer, sets) -> str:
    rows = sets["hatecheck"]
    unsafe, texts = np.array([r.unsafe for r in rows]), [r.text for r in rows]
    embedded = panel.encoders[training.ENCODER].embed(texts)
    nothing, everything = np.zeros(len(t.tests), bool), np.ones(len(t.tests), bool)
    fold = np.array([training.fold(r) for r in rows])
    english = panel.probability("hate", texts)
    without, shown = (t.fitted(known).logits(embedded)[:, 0] for known in (nothing, everything))
    unseen = np.zeros(len(rows))
    for f in range(training.FOLDS):
        unseen[fold == f] = t.fitted(t.fold != f).logits(embedded[fold == f])[:, 0]

    def within(score):
        return number(np.mean(aucs_within(unsafe, score, fold)))

    lines = [["`hate` (MiniLM)", number(auc(unsafe, english)), within(english)],
             ["multilingual, trained on English posts only", number(auc(unsafe, without)), within(without)],
             ["and on other functions in five languages", "–", within(unseen)],
             ["and on the same functions in five languages (`multilingual-hate` as it is shipped)",
              f"({number(auc(unsafe, shown))})", f"({within(shown)})"]]
    return table(["head", "AUC, all functions", "AUC within a fifth of the functions"], lines)


def twins_table(panel) -> str:
    twins = json.loads(TWINS.read_text(encoding="utf-8"))
    heads = ["hate", "multilingual-hate", "multilingual-harm", "multilingual-abuse", "multilingual-moderation"]
    rows = []
    for language, pairs in twins.items():
        first, second = ([pair[i] for pair in pairs] for i in (0, 1))
        p = {h: (panel.probability(h, first), panel.probability(h, second)) for h in heads}
        rows.append([language, len(pairs)] + [int((p[h][0] > p[h][1]).sum()) for h in heads])
    rows.append(["all"] + [sum(row[i] for row in rows) for i in range(1, len(rows[0]))])
    return table(["language", "pairs"] + [f"`{h}`" for h in heads], rows)


def alarms_table(panel, parallel: dict) -> str:
    """Returns the share of harmless sentences, other than those that the heads learnt, that each head calls unsafe."""
    ranked = sorted((x for x in parallel if len(parallel[x]) >= 8), key=lambda x: bucket(x, 1 << 30))
    chosen = ranked[training.SENTENCES:][:ALARM_SENTENCES]
    rows = []
    for language in catalogue.LANGUAGES:
        texts = [x if language == "en" else parallel[x].get(language) for x in chosen]
        texts = [text for text in texts if text]
        rows.append([language, len(texts)] + [f"{100 * (panel.probability(head, texts) >= .5).mean():.1f} %" for head in OWN])
    return table(["language", "sentences"] + [f"`{head}`" for head in OWN], rows)


def write(name: str, text: str) -> None:
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8"), name, text), encoding="utf-8")
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    parser.add_argument("--packages", type=Path, required=True, help="folder of the packages of parallel.json")
    arguments = parser.parse_args()
    panel = Panel(ROOT / "models", ROOT / ".cache")
    sets = datasets.load(arguments.data)
    english, quality = english_table(panel, test_sets(sets))
    write("multilingual english", english)
    write("multilingual twins", twins_table(panel))
    parallel = parallel_text.load(arguments.packages)
    write("multilingual alarms", alarms_table(panel, parallel))
    stored = json.loads((training.WEIGHTS / "multilingual.json").read_text(encoding="utf-8"))
    for head, of_head in quality.items():
        stored["heads"][head]["quality"] = of_head
        print(f"{head:30} AUC {of_head['auc']:.3f}", flush=True)
    write_json("multilingual.json", stored)
    transfer = Transfer(panel, sets, training.sentences(parallel))
    write("multilingual transfer", transfer_table(panel, transfer))
    write("multilingual hatecheck", hatecheck_table(panel, transfer, sets))
    return 0


if __name__ == "__main__":
    sys.exit(main())
