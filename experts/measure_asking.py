#!/usr/bin/env python3
"""Measures what asking the language model only when decisive saves: texts a second, and the decisions that differ.

    target/release/aegis demo --out DEMO
    python3 experts/measure_asking.py --rounds DEMO/rounds.jsonl

Scores texts of models/demo with the predictor that the demo's labels teach, once with the bundled panel and once with a copy
whose experts are all asked always. The time to load the panel, measured with one text, does not count.
"""
import argparse
import json
import os
import random
import re
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ASK = re.compile(r'^ask = "when_decisive"$', re.MULTILINE)


def events(count: int) -> list:
    rows = [json.loads(line) for file in sorted((ROOT / "models" / "demo").glob("*.jsonl"))
            for line in file.read_text(encoding="utf-8").split("\n") if line]
    random.Random(3).shuffle(rows)
    return [{"id": f"e{i}", "conversation": f"c{i}", **{k: row[k] for k in ("text", "turns") if k in row}}
            for i, row in enumerate(rows[:count])]


def copy_models(target: Path) -> list:
    """Makes a copy of models/ whose experts are always asked. Returns the experts that were not."""
    deferred = []
    for source in (ROOT / "models").rglob("*"):
        place = target / source.relative_to(ROOT / "models")
        if source.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text(encoding="utf-8") if source.name == "manifest.toml" else ""
        if ASK.search(text):
            place.write_text(ASK.sub('ask = "always"', text), encoding="utf-8")
            deferred.append(source.parent.name)
        else:
            place.symlink_to(source)
    return deferred


def score(aegis: str, folder: Path, models: Path, count: int) -> tuple:
    """Returns (seconds, processor seconds, decisions) of the first `count` events."""
    (folder / "aegis.toml").write_text(f'[experts]\nfolder = "{models}"\ncache_mib = 0\n', encoding="utf-8")
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").split("\n")
    (folder / "some.jsonl").write_text("\n".join(lines[:count]), encoding="utf-8")
    command = [aegis, "score", folder / "some.jsonl", "--config", folder / "aegis.toml", "--weights", folder / "weights"]
    before, began = os.times(), time.monotonic()
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - began, used, [json.loads(line) for line in out.split("\n") if line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=Path, required=True, help="the rounds of a demo")
    parser.add_argument("--aegis", default=str(ROOT / "target/release/aegis"), help="the program")
    parser.add_argument("--texts", type=int, default=1_600, help="texts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [json.dumps(event) + "\n" for event in events(arguments.texts)]
        (folder / "events.jsonl").write_text("".join(lines), encoding="utf-8")
        command = [arguments.aegis, "replay", arguments.rounds, "--predictor", folder / "weights"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        deferred = copy_models(folder / "always")
        found = {}
        for word, models in (("when decisive", ROOT / "models"), ("always", folder / "always")):
            load = score(arguments.aegis, folder, models, 1)
            seconds, used, decisions = score(arguments.aegis, folder, models, arguments.texts)
            found[word] = len(lines) / (seconds - load[0]), (used - load[1]) / len(lines) * 1e3, decisions
            asked = sum(any(v["expert"] in deferred and v.get("score") is not None for v in d["votes"]) for d in decisions)
            print(f"{word}: {found[word][0]:.1f} texts a second, {found[word][1]:.1f} ms of processor time each, "
                  f"asked on {asked / len(decisions):.1%}")
        one, other = ({d["event_id"]: d["action"] for d in found[w][2]} for w in found)
        print(f"{found['when decisive'][0] / found['always'][0]:.2f} times the texts a second, "
              f"{found['always'][1] / found['when decisive'][1]:.2f} times in processor time; "
              f"{sum(one[e] != other[e] for e in one)} of {len(one)} actions differ")


if __name__ == "__main__":
    main()
