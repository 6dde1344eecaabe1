"""Compares the default learner on unseen label streams with batch models chosen in hindsight.

    aegis evaluate --texts 100000 --streams target/streams
    python3 -m venv .cache/streams && .cache/streams/bin/pip install -r benches/streams/requirements.txt
    .cache/streams/bin/python benches/streams/compare.py target/release/aegis target/streams/*.jsonl

With `--strangers`, experts that were trained on texts of a stream's source do not vote. With `--no-batch`, only the
learner runs.

A batch model is fitted on all rounds so far at each of 24 positions, at growing distances, and predicts the rounds up
to the next position. There are three kinds (logistic regression, support vectors with radial kernels, boosted trees),
on votes alone and with features, each with several settings. The row has the fewest mistakes of all of them, a choice
that is only possible in hindsight. Prints a table in Markdown: mistakes, and the Brier loss in brackets.
"""

import base64
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

# Stream -> the experts that were trained on its source.
TRAINED_ON = json.loads((Path(__file__).parent / "trained_on.json").read_text())
FIRST, PLACES, DIMENSIONS = 40, 24, 384
# The least share of a stream's rounds on which a best expert voted.
AWAKE = .95


def replayed(aegis, lines):
    """Returns the output of `aegis replay` for the lines of a stream."""
    with tempfile.TemporaryDirectory() as folder:
        stream, figures = Path(folder) / "stream.jsonl", Path(folder) / "figures.json"
        stream.write_text("".join(json.dumps(line) + "\n" for line in lines))
        subprocess.run([aegis, "replay", stream, "--json", figures], check=True, stdout=subprocess.DEVNULL)
        return json.loads(figures.read_text())


def without_features(line):
    return {name: value for name, value in line.items() if name not in ("features", "encoder")}


def models():
    """Returns the name, the inputs and the constructor of each model."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    for strength in (0.01, 0.1, 1):
        yield "votes", lambda strength=strength: LogisticRegression(C=strength)
    for strength in (0.003, 0.01, 0.03, 0.1):
        yield "text", lambda strength=strength: LogisticRegression(C=strength, max_iter=300)
    for strength in (0.3, 1, 3):
        for width in (0.003, 0.01, 0.03):
            yield "text", lambda strength=strength, width=width: SVC(C=strength, gamma=width)
    yield "text", lambda: HistGradientBoostingClassifier(
        max_iter=80, learning_rate=0.08, max_leaf_nodes=8, min_samples_leaf=20, random_state=0
    )


def inputs(lines):
    """Returns the log-odds of the votes, alone and with the features, whose weights decrease as in the learner."""
    experts = sorted(lines[0]["votes"])
    votes = [[line["votes"][expert] for expert in experts] for line in lines]
    votes = np.array([[0.5 if vote is None else vote for vote in row] for row in votes]).clip(0.005, 0.995)
    odds = np.log(votes / (1 - votes))
    blank = base64.b64encode(bytes(DIMENSIONS)).decode()
    raw = b"".join(base64.b64decode(line.get("features", blank)) for line in lines)
    features = np.frombuffer(raw, np.int8).reshape(len(lines), DIMENSIONS) / 127
    falling = 1 / np.sqrt(1 + np.arange(DIMENSIONS) / 16)
    return {"votes": odds, "text": np.hstack([features * falling, odds / 2])}


def mistakes(make, read, unsafe):
    """Returns the mistakes of a batch model that is fitted again at each position."""
    places = np.unique(np.geomspace(FIRST, len(unsafe), PLACES + 1).round().astype(int))
    wrong = int(unsafe[:FIRST].sum())
    for start, end in zip(places, places[1:]):
        known = unsafe[:start]
        one_kind = known.min() == known.max()
        said = known[0] if one_kind else make().fit(read[:start], known).predict(read[start:end])
        wrong += int((said != unsafe[start:end]).sum())
    return wrong


def strangers(line, stream):
    votes = {name: vote for name, vote in line["votes"].items() if name not in TRAINED_ON.get(stream, [])}
    return line | {"votes": votes}


def row(aegis, path, batch, strange):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    if strange:
        lines = [strangers(line, path.stem) for line in lines]
    text, votes = replayed(aegis, lines), replayed(aegis, [without_features(line) for line in lines])
    # An expert may abstain from a few texts, whose language it does not read. Its mistakes are those on the others.
    awake = {name: one for name, one in text["experts"].items() if one["awake"] >= AWAKE * text["rounds"]}
    name, best = min(awake.items(), key=lambda item: item[1]["mistakes"])
    least = {}
    if batch:
        unsafe, read = np.array([int(line["unsafe"]) for line in lines]), inputs(lines)
        if unsafe.min() != unsafe.max():
            for kind, make in models():
                least[kind] = min(least.get(kind, len(lines)), mistakes(make, read[kind], unsafe))
    harmful = sum(bool(line["unsafe"]) for line in lines)
    cells = [
        path.stem, f"{len(lines):,}", f"{100 * harmful / len(lines):.0f} %", f"{min(harmful, len(lines) - harmful):,}",
        f"{best['mistakes']:,} `{name}`", f"{votes['mistakes']:,} ({votes['brier']:.3f})",
        f"**{text['mistakes']:,}** ({text['brier']:.3f})",
        *(f"{least[kind]:,}" if kind in least else "" for kind in ("votes", "text") if batch),
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    batch, strange = "--no-batch" not in sys.argv, "--strangers" in sys.argv
    heads = ["stream", "rounds", "unsafe", "constant prediction", "best expert", "default, votes alone", "**default, with text**"]
    heads += ["batch, votes alone", "batch, with text"] if batch else []
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    warnings.filterwarnings("ignore")
    for path in sorted(map(Path, words[1:])):
        row(words[0], path, batch, strange)


if __name__ == "__main__":
    main()
