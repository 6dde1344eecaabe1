"""SmolLM2's tokenizer, and the prefix behind which the encoder reads every text."""
import json
import re

from gguffile import Gguf

CONTROL = 3  # the type of control tokens in the file
# The names are those of the taxonomy. The text follows as the user's message.
CATEGORIES = ("Hate, Sexual, Violence, Suicide and Self-Harm, Threat, Sexual Minor, Weapons, Drugs, Criminal Planning, "
              "Privacy, Harassment, Profanity, Needs Caution, Illegal Activity, Unethical Behavior, Unauthorized Advice, "
              "Misinformation, Fraud, Copyright, High-Risk Decisions, Malware, Manipulation")
SYSTEM = ("You are a content safety moderator. Decide whether the message of the user is unsafe under these "
          f"categories: {CATEGORIES}.")


def prefix_ids(weights: Gguf) -> list:
    """Returns the ids of the prefix, in the model's chat format."""
    vocabulary = {token: i for i, token in enumerate(weights.fields["tokenizer.ggml.tokens"])}
    ranks = {merge: rank for rank, merge in enumerate(weights.fields["tokenizer.ggml.merges"])}

    def ids(text: str) -> list:
        # Only for text like the one above: the tokenizer's rules for other scripts and digits are left out.
        words = re.findall(r" ?[A-Za-z]+| ?[^\sA-Za-z]+|\s+", text)
        return [vocabulary[token] for word in words for token in _merge(list(_visible(word)), ranks)]

    start, end = vocabulary["<|im_start|>"], vocabulary["<|im_end|>"]
    return [start, *ids("system\n" + SYSTEM), end, *ids("\n"), start, *ids("user\n")]


def _visible(word: str) -> str:
    """Returns the characters that stand for the bytes of a word in the vocabulary."""
    return word.replace(" ", "\u0120").replace("\n", "\u010a")


def _merge(parts: list, ranks: dict) -> list:
    """Joins the pair of the lowest rank until none is left (byte-pair encoding)."""
    while len(parts) > 1:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(f"{parts[i]} {parts[i + 1]}", len(ranks)))
        if f"{parts[best]} {parts[best + 1]}" not in ranks:
            break
        parts[best:best + 2] = [parts[best] + parts[best + 1]]
    return parts


def tokenizer_json(weights: Gguf) -> bytes:
    """Returns the tokenizer, a byte-level BPE that reads digits one by one."""
    tokens, kinds = (weights.fields[f"tokenizer.ggml.{name}"] for name in ("tokens", "token_type"))
    special = [{"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True}
               for i, (token, kind) in enumerate(zip(tokens, kinds)) if kind == CONTROL]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    page = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": True}, byte_level]},
            "post_processor": None, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": {token: i for i, token in enumerate(tokens)},
                      "merges": weights.fields["tokenizer.ggml.merges"]}}
    return (json.dumps(page, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
