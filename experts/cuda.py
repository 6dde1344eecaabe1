#!/usr/bin/env python3
"""Installs the libraries for NVIDIA cards into models/cuda, from packages pinned by hash (cuda.json).

    python3 experts/cuda.py             # the command of `make cuda`; does nothing if everything is there

Needs only the standard library, Linux on x86_64, and some 4 GB: packages in .cache/packages, libraries in models/cuda.
The driver (libcuda.so.1) must be installed on the machine. TensorRT's libraries are not included: they need 3 GB more,
and NVIDIA serves them from its own index.
"""
import json
import os
import shutil
import sys
from pathlib import Path
from zipfile import ZipFile

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from fetch import CACHE, ROOT, Failure, fetch_all, machine, say  # noqa: E402

FOLDER = ROOT / "models" / "cuda"
STAMP = ".stamp"
# Unused interfaces, and those for Python.
UNUSED = ("libnvblas", "libcufftw", "onnxruntime_pybind11_state")


def table() -> dict:
    entries = json.loads((ROOT / "experts" / "cuda.json").read_text(encoding="utf-8"))
    return {name: dict(entry, name=name) for name, entry in entries.items()}


def libraries(wheel: ZipFile):
    for member in wheel.infolist():
        name = member.filename.rsplit("/", 1)[-1]
        if ".so" in name and not name.startswith(UNUSED):
            yield member, name


def lay_out(packages: dict, folder: Path) -> dict:
    """Copies the libraries into the folder. Returns name -> size."""
    sizes = {}
    for entry in packages.values():
        with ZipFile(CACHE / entry["file"]) as wheel:
            for member, name in libraries(wheel):
                with wheel.open(member) as source, open(folder / name, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                sizes[name] = member.file_size
    library = next(name for name in sizes if name.startswith("libonnxruntime.so."))
    os.symlink(library, folder / "libonnxruntime.so")
    return sizes


def up_to_date(packages: dict) -> bool:
    try:
        stamp = json.loads((FOLDER / STAMP).read_text())
        return stamp["packages"] == {n: e["sha256"] for n, e in packages.items()} and all(
            (FOLDER / name).stat().st_size == size for name, size in stamp["libraries"].items())
    except (OSError, ValueError, KeyError):
        return False


def prepare() -> None:
    if machine() != "linux-x86_64":
        raise Failure(f"NVIDIA's libraries are known for linux-x86_64 only, and this is {machine()}.")
    packages = table()
    if up_to_date(packages):
        say("The libraries are there (models/cuda is up to date).")
        return
    FOLDER.parent.mkdir(exist_ok=True)
    fetch_all(packages, "make cuda")
    say("Laying out models/cuda")
    work = FOLDER.with_name(".cuda")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    sizes = lay_out(packages, work)
    stamp = {"packages": {n: e["sha256"] for n, e in packages.items()}, "libraries": sizes}
    (work / STAMP).write_text(json.dumps(stamp, indent=1, sort_keys=True) + "\n")
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.rename(work, FOLDER)
    say(f"Done: {len(sizes)} libraries, {sum(sizes.values()) / 1e9:.1f} GB.")


def main() -> int:
    try:
        prepare()
    except Failure as failure:
        print(f"\nStopped. {failure}", file=sys.stderr)
        return failure.status
    except KeyboardInterrupt:
        print("\nStopped. Finished packages are kept; run `make cuda` again to go on.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"\nStopped: {error}", file=sys.stderr)
        return 74 if error.errno != 28 else 73
    say(f"Run Aegis with them:\n  export LD_LIBRARY_PATH={FOLDER}\n"
        f"  aegis run --set experts.runtime={FOLDER / 'libonnxruntime.so'} --set experts.provider=cuda")
    return 0


if __name__ == "__main__":
    sys.exit(main())
