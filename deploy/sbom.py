"""A bill of materials: CycloneDX 1.5 on standard output, from Cargo's metadata and the lock file.

    deploy/sbom.py [CARGO] > aegis.cdx.json

Holds every crate that the program is built of, with version, licence, checksum and dependencies; not those that
only tests and benches use. The same tree gives the same bytes.
"""
import json
import pathlib
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    cargo = sys.argv[1] if len(sys.argv) > 1 else "cargo"
    command = [cargo, "metadata", "--locked", "--format-version", "1", "--manifest-path", str(ROOT / "Cargo.toml")]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    sums = {(crate["name"], crate["version"]): crate.get("checksum") for crate in lock["package"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]

    used, waiting = set(), [root]
    while waiting:
        crate = waiting.pop()
        if crate not in used:
            used.add(crate)
            waiting.extend(needed(nodes[crate]))

    def reference(crate):
        package = packages[crate]
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(crate):
        package = packages[crate]
        found = {
            "type": "application" if crate == root else "library",
            "bom-ref": reference(crate),
            "name": package["name"],
            "version": package["version"],
            "purl": reference(crate),
        }
        if package["license"]:
            # Older crates write a slash for OR.
            words = package["license"].replace("/", " OR ").split()
            found["licenses"] = [{"expression": " ".join(words)}]
        if checksum := sums[package["name"], package["version"]]:
            found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return found

    ordered = sorted(used, key=reference)
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(root)},
        "components": [component(crate) for crate in ordered if crate != root],
        "dependencies": [
            {"ref": reference(crate), "dependsOn": sorted({reference(other) for other in needed(nodes[crate])})}
            for crate in ordered
        ],
    }
    json.dump(bill, sys.stdout, indent=1)
    print()


def needed(node):
    """The crates that a crate needs to be built or to run."""
    kinds = lambda needs: any(kind["kind"] in (None, "build") for kind in needs["dep_kinds"])
    return [needs["pkg"] for needs in node["deps"] if kinds(needs)]


if __name__ == "__main__":
    main()
