"""A teacher in files of a stranger: nothing is unpickled, no name leads elsewhere, and all of it is bounded."""

import json
import re
import shutil
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdgen.data.photographs import Photographs
from kdgen.metrics.cost import num_params
from kdgen.models.adapters.onnx_model import OnnxModel
from kdgen.models.adapters.restorer import Restorer
from kdgen.models.model import Model, load
from kdgen.models.task_arguments import changes_images, task_class, task_name
from kdgen.types import Text, UserError, text
from kdgen.types.text import replaced
from kdgen.ui import graphs
from kdgen.ui.own import DECLARATION, About, entry
from kdgen.ui.visitors import check_facts, check_sizes
from kdgen.ui.zips import JSON_BYTES, PICKLES, unpack
from kdgen.utils.schema import read_json_text

TAKEN = (".safetensors", ".onnx", ".json", ".zip")
WEIGHTS = "model.safetensors"
GRAPH = "model.onnx"
HEADER_BYTES, TENSORS = 4_000_000, 20_000
"""Bytes of the header of weights, and tensors in these, at most."""

UNSOUND = re.compile(r"[^\w.-]+", re.ASCII)
"""What no name of a file has that is kept."""

UNKNOWN = {
    "unknown_weights": text("say_which_net", "which net it is does not follow from its weights: say it, or upload the "
                            "config.json beside them"),
    "no_spandrel": text("no_spandrel_here", "spandrel, which tells nets by their weights alone, is not installed here: "
                        "say which net it is, or upload the config.json beside the weights"),
    "no_onnx": text("no_onnx_here", "onnx and onnxruntime, which open .onnx files, are not installed here: upload "
                    "weights as .safetensors, or ask whoever runs this app for `pip install 'kdgen[onnx]'`"),
}  # fmt: skip
"""What is said of files that nobody knows, or that nothing here opens."""

NOTE = 300
"""Characters of a note on what was loaded, at most."""


def keep(files: Sequence[Path], declared: Mapping[str, Any] | None, most: int, folder: Path) -> About:
    """Put a teacher into a folder, and see what it does with a picture.

    Args:
        files: that were uploaded: a zip of a student's or a model's folder; its files, a `config.json` among them; or
            weights or an ONNX file, alone or with the JSON of a declaration.
        declared: for a file alone, a declaration as ``kdgen.recipe.Checkpoint`` says, without its file; of a restorer
            that is known by its weights, and of an ONNX file of which more is not to be said, there need be none.
        most: bytes of all files.
        folder: an empty one.

    Raises:
        UserError: for what is no such thing, too large, damaged, or does not do what is declared of it.
    """
    zips = [file for file in files if file.suffix.lower() == ".zip"]
    if zips and len(files) > 1:
        raise UserError(text("zip_alone", "a zip holds all of a model: upload it alone"))
    if zips:
        unpack(zips[0], folder, most)
    else:
        _gather(files, declared, folder, most)
    for path in folder.rglob("*.safetensors"):
        check_header(path)
    _check_configurations(folder)
    name = next(iter(sorted(files, key=lambda file: file.suffix.lower() == ".json"))).stem[:60]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            for path in folder.glob("*.onnx"):
                graphs.check_file(path)
            model = load(entry(folder))
            if isinstance(model.net, OnnxModel):
                graphs.check_net(model.net, model.task)
            _try(model)
    except UserError as error:
        if (key := error.text.key) in UNKNOWN:
            raise UserError(UNKNOWN[key]) from None
        if str(folder) not in str(error):
            raise
        raise UserError(_without(folder, error.text)) from None
    said = [Text.of(each.message.args[0]) for each in caught if isinstance(each.message, UserWarning)]
    notes = [_without(folder, each if len(each) <= NOTE else Text(each[:NOTE])) for each in said[:3]]
    if isinstance(model.net, Restorer):
        notes.insert(0, text("known_by_weights", "By its weights its architecture is {net}, and it makes images "
                             "{scale} times as large: its task and a student of at most a tenth of its cost follow "
                             "from that, whatever the preset says.", net=model.net.descriptor.architecture.name,
                             scale=model.net.scale))  # fmt: skip
    if isinstance(model.net, OnnxModel):
        notes.insert(0, text("known_by_graph", "It is an ONNX file that makes images of images: its task and a "
                             "student of at most a tenth of its cost follow from that, whatever the preset "
                             "says."))  # fmt: skip
    return About("teacher", name, task_name(model.task), num_params(model.net), tuple(notes))


def check_kinds(files: Sequence[Path]) -> None:
    """Refuse files of a kind that no teacher is taken as, by how their names end. Raises UserError."""
    if other := next((file for file in files if file.suffix.lower() not in TAKEN), None):
        pickle = other.suffix.lower() in PICKLES
        reason = text("may_run_code", ", for others may run code when they are read") if pickle else Text("")
        raise UserError(text("safetensors_alone", "{file}: a teacher is taken as .safetensors or .onnx{reason}",
                             file=other.name[:60], reason=reason))  # fmt: skip


def check_header(path: Path) -> None:
    """Refuse weights whose header is too large, or says of the file what it is not.

    Raises:
        UserError: for these, and for what is no safetensors file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        if length > size - 8:
            raise UserError(text("weights_cut_short", "{file} is no safetensors file, or cut short: save the weights "
                                 "as safetensors", file=path.name))  # fmt: skip
        if length > HEADER_BYTES:
            raise UserError(text("weights_header", "{file} has a header of {bytes:,} bytes: {most:,} are the most",
                                 file=path.name, bytes=length, most=HEADER_BYTES))  # fmt: skip
        try:
            header = json.loads(file.read(length))
            tensors = [each for name, each in header.items() if name != "__metadata__"]
            ends = [each["data_offsets"] for each in tensors]
            fits = all(type(a) is type(b) is int and 0 <= a <= b <= size - 8 - length for a, b in ends)
        except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
            raise UserError(text("no_safetensors", "{file} is no safetensors file: save the weights as safetensors",
                                 file=path.name)) from None  # fmt: skip
    if len(tensors) > TENSORS:
        raise UserError(text("too_many_tensors", "{file} holds {count:,} tensors: {most:,} are the most",
                             file=path.name, count=len(tensors), most=TENSORS))  # fmt: skip
    if not tensors or not fits:
        raise UserError(text("weights_damaged", "{file} is damaged or cut short: it says of itself what it does not "
                             "hold", file=path.name))  # fmt: skip


def _check_configurations(folder: Path) -> None:
    """Refuse arguments of nets that are too large, before one is built, and facts that would open anything."""
    for name in (DECLARATION, "config.json"):
        if (folder / name).is_file():
            data = _read(folder / name)
            if isinstance(facts := data.get("task"), dict):
                check_facts(facts)
            net = data.get("net")
            if "_class_name" not in data and isinstance(net, dict) and isinstance(net.get("args"), dict):
                check_sizes(net["args"])


def _gather(files: Sequence[Path], declared: Mapping[str, Any] | None, folder: Path, most: int) -> None:
    """Files that were uploaded one by one."""
    weights = [file for file in files if file.suffix.lower() in (".safetensors", ".onnx")]
    texts = [file for file in files if file.suffix.lower() == ".json"]
    check_kinds(files)
    if len(weights) != 1 or len(texts) > 1:
        raise UserError(
            text(
                "upload_one",
                "upload one .safetensors or .onnx file, beside it its JSON if there is any; or a zip of the folder",
            )
        )
    if weights[0].stat().st_size > most:
        raise UserError(text("weights_too_large", "{file} has more than {most:,.0f} MB: choose a smaller model",
                             file=weights[0].name[:60], most=most / 1e6))  # fmt: skip
    data = _read(texts[0]) if texts else None
    kind = weights[0].suffix.lower()
    name = GRAPH if kind == ".onnx" else WEIGHTS
    if kind != ".onnx" and data is not None and ("kdgen" in data or "_class_name" in data):
        name = WEIGHTS if "kdgen" in data else "diffusion_pytorch_model.safetensors"
        (folder / "config.json").write_text(json.dumps(data), encoding="utf-8")
    elif (declaration := data if data is not None else declared) is not None:
        named = {**declaration, "file": name, "name": declaration.get("name") or weights[0].stem[:60]}
        (folder / DECLARATION).write_text(json.dumps(named), encoding="utf-8")
    else:
        name = f"{UNSOUND.sub('-', weights[0].stem)[:60]}{kind}"
    shutil.copyfile(weights[0], folder / name)


def _without(folder: Path, sentence: Text) -> Text:
    """A sentence without the path of the folder."""
    return replaced(replaced(sentence, f"{folder}/", ""), str(folder), text("it", "it"))


def _read(file: Path) -> dict[str, Any]:
    if file.stat().st_size > JSON_BYTES:
        raise UserError(text("config_too_long", "{file} is longer than {most:,} bytes: a config.json is short",
                             file=file.name[:60], most=JSON_BYTES))  # fmt: skip
    try:
        data = json.loads(read_json_text(file))
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise UserError(text("config_no_object", "{file} is no JSON object: upload the config.json that lies beside "
                             "the weights", file=file.name[:60]))  # fmt: skip
    return data


def _try(model: Model) -> None:
    """Let a model do once what it was made for. Raises UserError where it does not."""
    if changes_images(model.task):
        _, picture = next(Photographs().images(model.channels))
        task = task_class(model.task)
        if task.takes_sigma or task.takes_strength:
            model.restore(picture[..., :64, :64], _level(model.task))
    elif task_class(model.task).reads == "latents" and task_class(model.task).draws is not None:
        model.draw(1, seed=0)


def _level(task: Mapping[str, Any]) -> float | None:
    sigma = task.get("sigma", 25.0)
    return float(sigma[0] if isinstance(sigma, list) else sigma)


__all__ = ["check_header", "check_kinds", "keep"]
