#!/usr/bin/env python3
"""Compares the int8 encoder with float32: speed, kernels, AUC of the heads, dependence on the batch, and the learner's mistakes.

    python3 experts/compare_int8.py --data ../shared/data --aegis target/release/aegis

For developers; needs requirements.txt, models/ and, for the mistakes, the program. The first parts need no more than
models/: without --data only speed, kernels and dependence on the batch are measured, on the demo's text. Speed is
processor time of one thread, both graphs in turn, and each round's ratio.
"""
import argparse
import collections
import json
import math
import os
import statistics
import sys
import tempfile
import time
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
if "--without-amx" in sys.argv:
    import without_amx  # noqa: F401 (before the runtime)
import numpy as np  # noqa: E402

from embed import Encoder, session  # noqa: E402
import joint  # noqa: E402
from fetch import ROOT  # noqa: E402
from runtime import onnxruntime  # noqa: E402
from panel import Panel, logit, sigmoid  # noqa: E402

FLOAT, INT8 = "float32", "int8"
FILES = {FLOAT: "model.onnx", INT8: "model-int8.onnx"}
MINILM = ROOT / "models" / "minilm"
BUDGET, ROWS = 256, 32  # padded tokens and rows of a batch, the defaults of the panel


class Graphs:
    """Both graphs of the encoder behind one tokenizer."""

    def __init__(self, cache: Path):
        self._folder = tempfile.TemporaryDirectory()
        self.encoders = {FLOAT: Encoder(MINILM, cache), INT8: self._int8(cache)}
        self._multilingual = Encoder(ROOT / "models" / "multilingual", cache)

    def _int8(self, cache: Path) -> Encoder:
        """Returns the encoder of a folder whose model is the int8 graph."""
        folder = Path(self._folder.name) / "minilm-int8"
        folder.mkdir()
        manifest = (MINILM / "manifest.toml").read_text(encoding="utf-8")
        of = tomllib.loads(manifest)
        (folder / "manifest.toml").write_text(manifest.replace(of["model"]["sha256"], of["int8"]["sha256"], 1))
        (folder / "tokenizer.json").symlink_to(MINILM / "tokenizer.json")
        (folder / "model.onnx").symlink_to(MINILM / FILES[INT8])
        return Encoder(folder, cache)

    def outputs(self, name, texts):
        """Returns the embedding of each text, and the features together with the multilingual encoder."""
        e = self.encoders[name].embed(texts)
        return e, joint.features(e, self._multilingual.embed(texts), is_english=True)


def batches(encoder, texts) -> list:
    """Returns the inputs of batches as the panel cuts them: by length, with few padded tokens."""
    rows = [inputs for _, inputs in encoder.inputs(texts, batch=1)]
    cut, open_rows = [], []
    for ids, mask in rows:
        if open_rows and (len(open_rows) >= ROWS or (len(open_rows) + 1) * ids.shape[1] > BUDGET):
            cut, open_rows = cut + [open_rows], []
        open_rows.append(ids[0])
    inputs = []
    for rows in cut + [open_rows]:
        ids, mask = np.zeros((2, len(rows), max(map(len, rows))), np.int64)
        for place, row in enumerate(rows):
            ids[place, :len(row)], mask[place, :len(row)] = row, 1
        inputs.append({"input_ids": ids, "attention_mask": mask})
    return inputs


def speed(graphs, texts, rounds) -> None:
    inputs = batches(graphs.encoders[FLOAT], texts)
    sessions = {name: session(MINILM / file) for name, file in FILES.items()}

    def measured(name):
        started = time.process_time()
        for one in inputs:
            sessions[name].run(["embedding", "features"], one)
        return time.process_time() - started

    for name in FILES:
        measured(name)
    taken = [{name: measured(name) for name in FILES} for _ in range(rounds)]
    ratios = [t[FLOAT] / t[INT8] for t in taken]
    tokens = sum(int(one["attention_mask"].sum()) for one in inputs) / len(texts)
    speeds = {name: len(texts) / statistics.median(t[name] for t in taken) for name in FILES}
    print(f"speed: {len(texts)} texts, {tokens:.0f} tokens on average, {rounds} rounds; texts per second of processor time: "
          f"{speeds[FLOAT]:.0f} in float32, {speeds[INT8]:.0f} in int8; ratio {statistics.median(ratios):.2f} "
          f"({min(ratios):.2f} to {max(ratios):.2f}), of the least times "
          f"{min(t[FLOAT] for t in taken) / min(t[INT8] for t in taken):.2f}")


def kernels(graphs, texts) -> None:
    """Prints what ran after the runtime's own optimisation: a graph that falls back to float would show here."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling, options.log_severity_level = 1, True, 3
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = os.path.join(folder, "profile")
        profiled = onnxruntime.InferenceSession(str(MINILM / FILES[INT8]), options, providers=["CPUExecutionProvider"])
        for one in batches(graphs.encoders[INT8], texts):
            profiled.run(["embedding"], one)
        events = json.loads(Path(profiled.end_profiling()).read_text())
    time_of, nodes = collections.Counter(), collections.defaultdict(set)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            time_of[event["args"]["op_name"]] += event["dur"]
            nodes[event["args"]["op_name"]].add(event["name"])
    total = sum(time_of.values())
    print("kernels: " + ", ".join(f"{op} x{len(nodes[op])} {t / total:.0%}" for op, t in time_of.most_common(8)))
    assert len(nodes["MatMulIntegerToFloat"]) == 24, "24 dense layers run in integers"
    assert "DynamicQuantizeMatMul" not in nodes and "DynamicQuantizeLinear" not in nodes, "scales must be static"


def invariance(graphs, texts) -> None:
    """Texts alone, and in batches of eight whose lengths differ, so that nearly all are padded."""
    mixed = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]
    for name, encoder in graphs.encoders.items():
        embeddings = {}
        for way in ("alone", "together"):
            rows = []
            for at in range(0, len(mixed), 8):
                groups = [[t] for t in mixed[at:at + 8]] if way == "alone" else [mixed[at:at + 8]]
                for group in groups:
                    found = np.zeros((len(group), 384 * 2))
                    for places, (e, f) in encoder.run(group, ("embedding", "features"), batch=8):
                        found[places] = np.hstack([e, f])
                    rows.append(found)
            embeddings[way] = np.concatenate(rows)
        difference = np.abs(embeddings["alone"] - embeddings["together"])
        print(f"batch, {name}: {len(mixed)} texts, an embedding differs by at most {difference[:, :384].max():.1e}, "
              f"{(difference[:, 384:] > 0).mean():.1e} of the features, by at most {difference[:, 384:].max():.0f}")
        votes = {way: heads_votes(e[:, :384].astype(np.float32)) for way, e in embeddings.items()}
        worst = max((float(np.abs(p - votes["together"][x]).max()), x) for x, p in votes["alone"].items())
        print(f"batch, {name}: a vote differs by at most {worst[0]:.1e} ({worst[1]})")


def heads_votes(embeddings) -> dict:
    """Returns P(unsafe) of each head on the encoder."""
    votes = {}
    for path in sorted((ROOT / "models").glob("*/manifest.toml")):
        m = tomllib.loads(path.read_text(encoding="utf-8"))
        if m.get("encoder") != "minilm":
            continue
        scores = session(path.parent / m["model"]["file"]).run([m["outputs"]["scores"]], {"embedding": embeddings})[0]
        p = scores[:, [label["unsafe"] for label in m["labels"]]].max(axis=1)
        if "calibration" in m:
            p = sigmoid(m["calibration"]["a"] * logit(p) + m["calibration"]["b"])
        votes[m["id"]] = p
    return votes


def quality(graphs, data, aegis, own, most, cache) -> None:
    import datasets
    import evaluate
    tests = evaluate.test_sets(datasets.load(data))
    chosen = {name: evaluate.by_hash(texts, most) for name, (texts, _) in tests.items()}
    asked, votes, read = {}, {}, {}
    for name, (texts, _) in tests.items():
        # The AUC of a head needs more texts of its own harm than a stream has.
        places = evaluate.by_hash(texts, max(own, most)) if name in evaluate.OWN.values() else chosen[name]
        asked[name] = places
        votes[name], read[name] = {}, {}
        for graph in FILES:
            e, f = graphs.outputs(graph, [texts[i] for i in places])
            votes[name][graph] = {x: spread(p, places, len(texts)) for x, p in heads_votes(e).items()}
            read[name][graph] = spread(f, places, len(texts))
    print("| head | own harm | texts | float32 | int8 | difference |\n|" + " --- |" * 6)
    for head in sorted(next(iter(votes.values()))[FLOAT]):
        name = evaluate.OWN[head]
        places, unsafe = asked[name], tests[name][1]
        auc = {graph: evaluate.auc(unsafe[places], votes[name][graph][head][places]) for graph in FILES}
        print(f"| `{head}` | {name} | {len(places)} | {auc[FLOAT]:.4f} | {auc[INT8]:.4f} | {auc[INT8] - auc[FLOAT]:+.4f} |",
              flush=True)
    if aegis:
        mistakes(aegis, tests, chosen, votes, read, Panel(ROOT / "models", cache))


def spread(values, places, count):
    """Returns the values at their places among `count`."""
    whole = np.zeros((count, *values.shape[1:]), values.dtype)
    whole[list(places)] = values
    return whole


def mistakes(aegis, tests, chosen, votes, read, panel) -> None:
    """Prints the mistakes of the learner with text. No vote comes from an expert that was trained on the stream's source."""
    import held_out
    print("| stream | texts | mistakes (Brier loss), float32 | int8 |\n|" + " --- |" * 4)
    totals, ratios = collections.Counter(), []
    for name, (texts, unsafe) in tests.items():
        places, silent = chosen[name], held_out.SOURCES.get(name, ([], []))[1]
        part = [texts[i] for i in places]
        others = [x for x in panel.experts if panel.manifests[x]["kind"] != "head" and x not in silent]
        same = {x: panel.probability(x, part) for x in others}
        figures = {}
        for graph in FILES:
            cast = {x: p[places] for x, p in votes[name][graph].items() if x not in silent}
            figures[graph] = held_out.learned(aegis, part, unsafe[places], {**same, **cast}, read[name][graph][places])
            totals[graph] += figures[graph][0]
        print(f"| {name} | {len(places)} | " + " | ".join(f"{n} ({brier:.3f})" for n, brier in figures.values()) + " |", flush=True)
        ratios.append(math.log((figures[INT8][0] + 0.5) / (figures[FLOAT][0] + 0.5)))
    print(f"mistakes with text: {totals[FLOAT]} in float32, {totals[INT8]} in int8, {totals[INT8] / totals[FLOAT] - 1:+.1%}; "
          f"geometric mean of the streams {math.exp(np.mean(ratios)) - 1:+.1%}")


def demo_texts(most) -> list:
    """Returns texts of the demo, short and long ones as in a chat."""
    texts = []
    for name in ("injection", "everyday", "answers", "jailbreaks"):
        with open(ROOT / "models" / "demo" / f"{name}.jsonl", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        found = [r["text"] if "text" in r else r["turns"][-1]["text"] for r in rows]
        texts += [found[i] for i in np.random.default_rng(0).permutation(len(found))[:most]]
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:most]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the public data")
    parser.add_argument("--aegis", help="the program, for the learner's mistakes")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache", help="folder of cached embeddings")
    parser.add_argument("--texts", type=int, default=400, help="texts of the speed and of the dependence on the batch")
    parser.add_argument("--own", type=int, default=10_000, help="texts of each head's own harm, chosen by hash")
    parser.add_argument("--stream", type=int, default=1000, help="texts of each stream, chosen by hash")
    parser.add_argument("--without-amx", action="store_true", help="refuse AMX to this process, for figures of VNNI alone")
    parser.add_argument("--speed", action="store_true", help="speed and kernels only")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    graphs, texts = Graphs(arguments.cache), demo_texts(arguments.texts)
    speed(graphs, texts, arguments.rounds)
    kernels(graphs, texts[:50])
    if arguments.speed:
        return
    invariance(graphs, texts)
    if arguments.data:
        quality(graphs, arguments.data, arguments.aegis, arguments.own, arguments.stream, arguments.cache)


if __name__ == "__main__":
    main()
