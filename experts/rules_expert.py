"""An implementation of rules.toml in Python, for measurements. The program uses one in Rust."""
import re
import tomllib
import unicodedata
from pathlib import Path


class Rules:
    def __init__(self, path: Path):
        rules = tomllib.loads(path.read_text(encoding="utf-8"))
        self.base = rules["base"]
        self._terms = {word: (term["severity"], number)
                       for number, term in enumerate(rules["terms"]) for word in term["words"]}
        self._except = [[re.compile(p) for p in term.get("except", [])] for term in rules["terms"]]
        words = sorted(self._terms, key=len, reverse=True)
        self._any = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, words)) + r")(?!\w)")
        self._patterns = [(re.compile(p["regex"]), p["severity"], p["id"]) for p in rules["patterns"]]

    def score(self, text: str) -> float:
        text = unicodedata.normalize("NFKC", text).lower()
        text = re.sub("[\u200b-\u200f\u2060\ufeff\u00ad]", "", text).replace("\u2019", "'")
        hits = []
        for found in self._any.finditer(text):
            severity, number = self._terms[found[0]]
            spans = [m.span() for p in self._except[number] for m in p.finditer(text)]
            if not any(start <= found.start() and found.end() <= end for start, end in spans):
                hits.append(severity)
        hits += [severity for regex, severity, _ in self._patterns if regex.search(text)]
        return max(hits, default=self.base)
