"""SmolLM2 in JAX: reads the GGUF file and runs ranges of layers, with optional LoRA matrices.

Shapes: a state is [rows, tokens, WIDTH]; matrices are [input, output], so that y = x @ w.
The prefix is the text that all prompts share. It has one row, and every row attends to it.
"""
import jax
import jax.numpy as jnp
import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD = 30, 576, 9, 3, 64
THETA, EPSILON = 100_000.0, 1e-5
# Our name of a matrix -> its name in the file.
MATRICES = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
            "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}
NORMS = {"attention_norm": "attn_norm", "mlp_norm": "ffn_norm"}


def half_split(w: np.ndarray, heads: int) -> np.ndarray:
    """Undoes the file's order of Q and K rows, which is made for a rotation of neighbouring pairs."""
    return w.reshape(heads, HEAD // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)


def read_weights(path) -> dict:
    """Returns {"embedding", "norm", "layers": [{...}]} in float32. The embedding is also the output matrix."""
    tensors = {t.name: t for t in GGUFReader(str(path)).tensors}

    def get(name):
        t = tensors[name]
        return np.asarray(dequantize(t.data, t.tensor_type), np.float32)

    layers = []
    for i in range(LAYERS):
        layer = {ours: get(f"blk.{i}.{theirs}.weight") for ours, theirs in {**MATRICES, **NORMS}.items()}
        layer["q"] = half_split(layer["q"], HEADS)
        layer["k"] = half_split(layer["k"], KV_HEADS)
        layers.append({k: np.ascontiguousarray(v.T) for k, v in layer.items()})
    return {"embedding": get("token_embd.weight"), "norm": get("output_norm.weight"), "layers": layers}


def norm(x, weight):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON) * weight


def rotate(x, positions):
    """Rotary embedding, half-split. x: [rows, tokens, heads, HEAD]; positions: [tokens]."""
    frequency = THETA ** (-jnp.arange(0, HEAD, 2, dtype=jnp.float32) / HEAD)
    angle = positions[:, None] * frequency
    cos, sin = jnp.cos(angle)[:, None, :], jnp.sin(angle)[:, None, :]
    a, b = x[..., :HEAD // 2], x[..., HEAD // 2:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def project(x, layer, name, lora):
    y = x @ layer[name]
    if lora and name in lora:
        y = y + (x @ lora[name]["a"]) @ lora[name]["b"]
    return y


def run_layer(layer, x, positions, past, lora):
    """Returns the new state, and the keys and values of its tokens. past: (keys, values) of the prefix, or None."""
    rows, tokens, _ = x.shape
    h = norm(x, layer["attention_norm"])
    q = rotate(project(h, layer, "q", lora).reshape(rows, tokens, HEADS, HEAD), positions)
    k = rotate(project(h, layer, "k", lora).reshape(rows, tokens, KV_HEADS, HEAD), positions)
    v = project(h, layer, "v", lora).reshape(rows, tokens, KV_HEADS, HEAD)
    q = q.reshape(rows, tokens, KV_HEADS, HEADS // KV_HEADS, HEAD) / np.sqrt(HEAD)
    scores = jnp.einsum("rtkgh,rskh->rkgts", q, k)
    scores = jnp.where(jnp.tril(jnp.ones((tokens, tokens), bool)), scores, -1e9)
    if past is not None:
        scores = jnp.concatenate([jnp.einsum("rtkgh,skh->rkgts", q, past[0][0]), scores], axis=-1)
    p = jax.nn.softmax(scores, axis=-1)
    mixed = jnp.einsum("rkgts,rskh->rtkgh", p[..., -tokens:], v)
    if past is not None:
        mixed = mixed + jnp.einsum("rkgts,skh->rtkgh", p[..., :-tokens], past[1][0])
    x = x + project(mixed.reshape(rows, tokens, WIDTH), layer, "o", lora)
    h = norm(x, layer["mlp_norm"])
    return x + (jax.nn.silu(h @ layer["gate"]) * (h @ layer["up"])) @ layer["down"], (k, v)


def run_layers(layers, prefix, x, loras=None):
    """Runs `layers` over the prefix state [1, P, WIDTH] and over the rows x behind it.

    Returns the state of the prefix and the state of the rows. Padding belongs on the right of a row, where
    no token attends to it.
    """
    p = prefix.shape[1]
    before, after = jnp.arange(p, dtype=jnp.float32), jnp.arange(p, p + x.shape[1], dtype=jnp.float32)
    for layer, lora in zip(layers, loras or [None] * len(layers)):
        prefix, past = run_layer(layer, prefix, before, None, lora)
        x, _ = run_layer(layer, x, after, past, lora)
    return prefix, x


def logits(weights, x, ids=None):
    """Returns the logits of the next token after state x, for all tokens or for `ids` only."""
    table = weights["embedding"] if ids is None else weights["embedding"][ids]
    return norm(x, weights["norm"]) @ table.T
