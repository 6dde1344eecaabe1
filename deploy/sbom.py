"""Writes a bill of materials, CycloneDX 1.5, from Cargo's metadata, the lock file and the packages of the set-up.

    deploy/sbom.py [CARGO] > aegis.cdx.json

It lists every crate of Cargo.lock with version, licence, checksum and dependencies; crates that only tests and
benches use, or that no enabled feature needs, have the scope `excluded`. It also lists ONNX Runtime and the packages of
the experts and the demo's texts (experts/packages.json); those for NVIDIA cards (experts/cuda.json) are `optional`. The
same tree gives the same bytes.
"""
import json
import pathlib
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    cargo = sys.argv[1] if len(sys.argv) > 1 else "cargo"
    command = [cargo, "metadata", "--locked", "--format-version", "1", "--all-features", "--manifest-path", str(ROOT / "Cargo.toml")]
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
        return purl("cargo", packages[crate])

    def component(crate):
        package = packages[crate]
        found = {
            "type": "application" if crate == root else "library",
            "bom-ref": reference(crate),
            "name": package["name"],
            "version": package["version"],
            "purl": reference(crate),
        }
        if crate not in used:
            found["scope"] = "excluded"
        if package["license"]:
            # Older crates write a slash instead of OR.
            words = package["license"].replace("/", " OR ").split()
            found["licenses"] = [{"expression": " ".join(words)}]
        if checksum := sums[package["name"], package["version"]]:
            found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return found

    ordered = sorted(packages, key=reference)
    crates = [component(crate) for crate in ordered if crate != root]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(root)},
        "components": crates + fetched("packages.json", "required") + fetched("cuda.json", "optional"),
        "dependencies": [
            {"ref": reference(crate), "dependsOn": sorted({reference(other) for other in needed(nodes[crate])})}
            for crate in ordered
        ],
    }
    json.dump(bill, sys.stdout, indent=1)
    print()


def purl(kind, package):
    return f"pkg:{kind}/{package['name']}@{package['version']}"


def fetched(name, scope):
    """Returns the packages of a list, one for each file: ONNX Runtime has one file per platform."""
    components = []
    for package, of in json.loads((ROOT / "experts" / name).read_text()).items():
        for file in of.get("by_platform", {"any": of}).values():
            one = purl("pypi", {"name": package, "version": of["version"]})
            components.append({
                "type": "library",
                "bom-ref": f"{one}?file_name={file['file']}",
                "name": package,
                "version": of["version"],
                "description": of["what"],
                "scope": scope,
                "hashes": [{"alg": "SHA-256", "content": file["sha256"]}],
                "licenses": [{"license": {"name": of["licence"]}}],
                "purl": f"{one}?file_name={file['file']}",
            })
    return components


def needed(node):
    """Returns the crates that a crate needs for its build or at run time."""
    kinds = lambda needs: any(kind["kind"] in (None, "build") for kind in needs["dep_kinds"])
    return [needs["pkg"] for needs in node["deps"] if kinds(needs)]


if __name__ == "__main__":
    main()
