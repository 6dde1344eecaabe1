"""Writes models/<id>/manifest.toml, the contract between an expert's folder and the program."""
import json

from fetch import sha256


def _value(v) -> str:
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, str):
        return json.dumps(v, ensure_ascii=False)  # a JSON string is a TOML string
    if isinstance(v, dict):
        return "{ " + ", ".join(f"{k} = {_value(x)}" for k, x in v.items()) + " }"
    if isinstance(v, list):
        return "[" + ", ".join(map(_value, v)) + "]"
    return repr(v)


def _table(name: str, fields: dict) -> str:
    return f"\n{name}\n" + "".join(f"{k} = {_value(v)}\n" for k, v in fields.items())


def file_fields(folder, name: str, **more) -> dict:
    return {"file": name, "sha256": sha256(folder / name), **more}


def write_manifest(folder, kind: str, about: dict, *, encoder=None, model=None, rules=None,
                   tokenizer=None, text=None, inputs=None, outputs=None, fitted=None, base=None, prompt=None,
                   adapter=None, int8=None, joint=None) -> None:
    """Writes the manifest. `about` is an entry of catalogue.py, `fitted` the measured calibration and quality."""
    head = {"id": about["id"], "kind": kind, "description": about["description"],
            "licence": about["licence"], "source": about["source"]}
    if encoder:
        head["encoder"] = encoder
    if "ask" in about:
        head["ask"] = about["ask"]
    if about.get("shadow"):
        head["shadow"] = True
    if base:
        head["base"] = base
    if "languages" in about:
        head["languages"] = about["languages"]
    page = "# Made by experts/setup.py. See docs/experts.md.\n"
    page += "".join(f"{k} = {_value(v)}\n" for k, v in head.items())
    for name, fields in (("model", model), ("int8", int8), ("rules", rules), ("tokenizer", tokenizer), ("prompt", prompt),
                         ("adapter", adapter), ("text", text), ("inputs", inputs), ("outputs", outputs), ("joint", joint)):
        if fields:
            page += _table(f"[{name}]", fields)
    for label, category in about.get("labels", []):
        named = {"category": category} if category else {}
        page += _table("[[labels]]", {"name": label, **named, "unsafe": True})
    for name in ("calibration", "quality"):
        if fitted and fitted.get(name):
            page += _table(f"[{name}]", fitted[name])
    (folder / "manifest.toml").write_bytes(page.encode("utf-8"))
