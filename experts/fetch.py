"""Downloads the packages of packages.json with pip and checks their hashes."""
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "packages"
VENV = ROOT / ".venv"
UNAVAILABLE = 69  # exit status: something that is needed is not available


class Failure(Exception):
    """An error that ends the set-up with a message for the user."""

    def __init__(self, message: str, status: int = UNAVAILABLE):
        super().__init__(message)
        self.status = status


def say(text: str = "") -> None:
    print(text, flush=True)


def sha256(path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def machine() -> str:
    name = platform.machine().lower()
    name = {"amd64": "x86_64"}.get(name, name)
    if platform.system() == "Linux" and name == "arm64":
        name = "aarch64"
    return f"{platform.system().lower()}-{name}"


def packages() -> dict:
    """Returns name -> entry, with the variant for this machine."""
    table = json.loads((ROOT / "experts" / "packages.json").read_text(encoding="utf-8"))
    for name, entry in table.items():
        variants = entry.pop("by_platform", None)
        if variants is not None:
            if machine() not in variants:
                raise Failure(f"{name} {entry['version']} has no known build for {machine()} "
                              f"(known: {', '.join(variants)}).\n"
                              "Add one to experts/packages.json, or use one of these machines.")
            entry.update(variants[machine()])
        entry["name"] = name
    return table


def package_file(name: str) -> Path:
    return CACHE / packages()[name]["file"]


def _is_whole(path: Path, entry: dict) -> bool:
    return path.is_file() and path.stat().st_size == entry["size"] and sha256(path) == entry["sha256"]


def ensure_venv() -> Path:
    """Returns the Python of .venv, which is created if it is missing. It is used only for pip."""
    python = VENV / "bin" / "python"
    if python.is_file() and _quiet([python, "-m", "pip", "--version"]) == 0:
        return python
    say("Making .venv (a private Python, for pip)")
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if made.returncode != 0 or _quiet([python, "-m", "pip", "--version"]) != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        raise Failure("Python's venv module is missing or incomplete.\n"
                      "Install it and run `make setup` again. On Debian and Ubuntu: "
                      "apt-get install python3-venv\n\n" + made.stdout.strip())
    return python


def _quiet(command) -> int:
    return subprocess.run([str(c) for c in command], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode


def fetch_all(table=None, again: str = "make setup") -> int:
    """Downloads the missing packages of the table, by default packages.json. Returns their number."""
    table = packages() if table is None else table
    CACHE.mkdir(parents=True, exist_ok=True)
    for stale in CACHE.glob(".part-*"):  # left by an interrupted run
        shutil.rmtree(stale, ignore_errors=True)
    missing = [e for e in table.values() if not _is_whole(CACHE / e["file"], e)]
    if not missing:
        return 0
    python = ensure_venv()
    total = sum(e["size"] for e in missing)
    say(f"Fetching {len(missing)} of {len(table)} packages, {megabytes(total)}")
    for n, entry in enumerate(missing, 1):
        _fetch(python, entry, f"  {n}/{len(missing)} {entry['name']} {entry['version']}", again)
    return len(missing)


def _fetch(python: Path, entry: dict, title: str, again: str) -> None:
    part = CACHE / f".part-{entry['name']}"
    part.mkdir()
    command = [str(python), "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
               "--disable-pip-version-check", "--no-input", "--dest", str(part)]
    if "platform" in entry:
        command += ["--platform", entry["platform"], "--implementation", "cp",
                    "--python-version", entry.get("python", "3.11"), "--abi", entry["abi"]]
    else:  # the file does not depend on the running Python
        command += ["--python-version", "3.11"]
    command.append(f"{entry['name']}=={entry['version']}")
    # pip writes received data to TMPDIR, so the size of that folder is the progress.
    environment = dict(os.environ, TMPDIR=str(part), PIP_PROGRESS_BAR="off")
    log = part / "pip.log"
    started = time.monotonic()
    if not sys.stdout.isatty():
        say(f"{title}: {entry['what']} ({megabytes(entry['size'])}, {entry['licence']})")
    try:
        with open(log, "wb") as out:
            pip = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            while pip.poll() is None:
                time.sleep(0.1)
                _draw(title, part, entry)
        finally:
            if pip.poll() is None:
                pip.terminate()
            pip.wait()
        found = part / entry["file"]
        if pip.returncode != 0 or not found.is_file():
            raise Failure(_explain(entry, log.read_text(errors="replace"), again))
        if sha256(found) != entry["sha256"]:
            raise Failure(f"{entry['file']} is not the file this project was made with:\n"
                          f"  expected sha256 {entry['sha256']}\n  received        {sha256(found)}\n"
                          "It was thrown away. Your package index may serve an altered copy.")
        os.replace(found, CACHE / entry["file"])
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _done(title, entry, time.monotonic() - started)


def _draw(title: str, part: Path, entry: dict) -> None:
    if not sys.stdout.isatty():
        return
    received = 0
    for folder, _, names in os.walk(part):
        for name in names:
            try:
                received = max(received, os.path.getsize(os.path.join(folder, name)))
            except OSError:
                pass  # pip has just moved it
    share = min(received / entry["size"], 1.0)
    bar = "#" * round(20 * share)
    print(f"\r{title:<42} [{bar:<20}] {megabytes(received)} of {megabytes(entry['size'])} ",
          end="", flush=True)


def _done(title: str, entry: dict, seconds: float) -> None:
    if sys.stdout.isatty():
        say(f"\r{title:<42} [{'#' * 20}] {megabytes(entry['size'])} in {seconds:.0f} s" + " " * 12)


def _explain(entry: dict, log: str, again: str) -> str:
    last = "\n".join("  " + line for line in log.strip().splitlines()[-4:])
    return (f"\nCould not get {entry['name']} {entry['version']} ({entry['what']}).\npip said:\n{last}\n"
            "What to do:\n"
            "  - No network, or a proxy? Give pip its settings (PIP_INDEX_URL, HTTPS_PROXY), then run "
            f"`{again}` again; finished packages are kept.\n"
            f"  - Or put the file there by hand: {CACHE / entry['file']}\n"
            f"    sha256 {entry['sha256']}")
