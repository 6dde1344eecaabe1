"""A plain Python reading of rules.toml, to measure it. The program's own is in Rust."""
import re
import tomllib
import unicodedata
from pathlib import Path


class Rules:
    def __init__(self, path: Path):
        rules = tomllib.loads(path.read_text(encoding="utf-8"))
        self.base = rules["base"]
        self._terms = {word: term["severity"] for term in rules["terms"] for word in term["words"]}
        words = sorted(self._terms, key=len, reverse=True)
        self._any = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, words)) + r")(?!\w)")
        self._patterns = [(re.compile(p["regex"]), p["severity"], p["id"]) for p in rules["patterns"]]

    def score(self, text: str) -> float:
        text = unicodedata.normalize("NFKC", text).lower()
        text = re.sub("[\u200b-\u200f\u2060\ufeff\u00ad]", "", text).replace("\u2019", "'")
        hits = [self._terms[w] for w in self._any.findall(text)]
        hits += [severity for regex, severity, _ in self._patterns if regex.search(text)]
        return max(hits, default=self.base)
