"""An implementation of rules.toml in Python, for measurements. The program uses one in Rust."""
import re
import tomllib
import unicodedata
from pathlib import Path


HAN = "\u3400-\u4dbf\u4e00-\u9fff"


def _without_marks(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _bounded(word: str) -> str:
    """A pattern of the word as a whole. Chinese characters need no boundary."""
    before, after = (f"(?<![^\\W{HAN}])", f"(?![^\\W{HAN}])")
    is_han = [bool(re.match(f"[{HAN}]", c)) for c in (word[0], word[-1])]
    return ("" if is_han[0] else before) + re.escape(word) + ("" if is_han[1] else after)


class Rules:
    """Judges texts of unknown language: entries that count only in their own language are left out."""

    def __init__(self, path: Path):
        rules = tomllib.loads(path.read_text(encoding="utf-8"))
        self.base = rules["base"]
        terms = [term for term in rules["terms"] if term.get("counts_in") != "own"]
        self._terms = {_without_marks(word): (term["severity"], number)
                       for number, term in enumerate(terms) for word in term["words"]}
        self._except = [[re.compile(p) for p in term.get("except", [])] for term in terms]
        words = sorted(self._terms, key=len, reverse=True)
        self._any = re.compile("|".join(map(_bounded, words)))
        self._patterns = [(re.compile(p["regex"]), p["severity"], p["id"]) for p in rules["patterns"]]

    def score(self, text: str) -> float:
        text = _without_marks(unicodedata.normalize("NFKC", text).lower())
        text = re.sub("[\u200b-\u200f\u2060\ufeff\u00ad]", "", text).replace("\u2019", "'")
        hits = []
        for found in self._any.finditer(text):
            severity, number = self._terms[found[0]]
            spans = [m.span() for p in self._except[number] for m in p.finditer(text)]
            if not any(start <= found.start() and found.end() <= end for start, end in spans):
                hits.append(severity)
        hits += [severity for regex, severity, _ in self._patterns if regex.search(text)]
        return max(hits, default=self.base)
