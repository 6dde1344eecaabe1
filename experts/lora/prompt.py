"""Builds the token ids of the guard's prompt from the spec file and the model's tokenizer.

The ids are those that the program gives to the guard: control tokens of the template are inserted by id, and
the runs between them are encoded with special tokens off, so that control tokens in a text stay text.
"""
import tomllib
from pathlib import Path

from gguf import GGUFReader
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

START, END = 1, 2  # <|im_start|> and <|im_end|>
CONTROL = 3        # the token type of control tokens in a GGUF file


def read_tokenizer(path) -> Tokenizer:
    """Returns the byte-level BPE tokenizer that the GGUF file describes."""
    fields = GGUFReader(str(path)).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([t for t, kind in zip(tokens, types) if kind == CONTROL])
    tokenizer.encode_special_tokens = True
    return tokenizer


class Prompt:
    """The prompt of one spec: a ChatML system message, the judged turn, and the forced start of the answer."""

    def __init__(self, spec: Path, tokenizer: Tokenizer):
        about = tomllib.loads(spec.read_text(encoding="utf-8"))
        system = about["messages"][0]["content"].replace("{{ policy }}", about["policy"])
        verdict = about["verdict"]
        self._encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
        self.prefix = self._message("system", system)
        self._answer = [START] + self._encode("assistant\n" + verdict["force"])
        (self.unsafe,), (self.safe,) = (self._encode(verdict[k][0]) for k in ("unsafe", "safe"))

    def _message(self, role, content, limit=None):
        return [START] + self._encode(f"{role}\n{content}")[:limit] + [END] + self._encode("\n")

    def ids(self, text: str, role: str, tokens: int) -> list:
        """Returns the ids behind the prefix, at most `tokens` of them; the end of a longer text is left out."""
        return self._message(role, text.strip(), tokens - len(self._answer) - 3) + self._answer
