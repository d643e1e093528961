"""From a reference to a net and what is known of it.

A reference is a bundled name, a run folder, a student folder, a folder of diffusers' making, an id of the Hugging Face
Hub, a file of weights of a restorer or in the layout of TAESD, an ONNX file, or a JSON file that declares somebody
else's checkpoint.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

import kdgen.models.nets  # noqa: F401 - registers its nets
from kdgen import registry
from kdgen.data.photographs import Photographs
from kdgen.models.abilities import Stored
from kdgen.models.adapters import HALVES, Half, known_folder, open_folder
from kdgen.models.adapters.checkpoint import load_checkpoint
from kdgen.models.adapters.declared_task import declared_task, try_once
from kdgen.models.adapters.onnx_file import open_onnx
from kdgen.models.adapters.restorer import SUFFIXES, made_for, open_restorer
from kdgen.models.adapters.state_dict import find_weights
from kdgen.models.adapters.taesd_file import open_taesd
from kdgen.models.adapters.timm_model import Timm, is_timm, open_timm, timm_use
from kdgen.models.adapters.weight_files import check_content, read_weights_file
from kdgen.models.config import Config, check_net, is_student, read_config
from kdgen.models.hub_cache import HubId, fetch, hub_id
from kdgen.models.task_arguments import task_class, task_having, task_name
from kdgen.models.weightless import configured
from kdgen.recipe import ONNX, Checkpoint
from kdgen.registry import Spec
from kdgen.types import Net, UserError, text
from kdgen.utils.references import renamed, resolved
from kdgen.utils.schema import explain_error, read_json_text
from kdgen.utils.validation import check_numbers

BUNDLED = Path(__file__).parent / "nets" / "weights"


def bundled_names() -> list[str]:
    """Names of the models that kdgen brings with it, in alphabetical order."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/config.json"))


def bundled_students() -> list[str]:
    """Names of those that the presets made, in alphabetical order."""
    return [name for name in bundled_names() if name.endswith("-student")]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A net on the CPU and what is known of it.

    Attributes:
        net: called as ``net(x, **cond)``.
        name: what it is called in tables.
        channels: of its images, 1 or 3.
        task: what it was made for.
        use: the architecture and its arguments, where it can be built by them.
        home: the folder that it lies in.
    """

    net: Net
    name: str
    channels: int
    task: Mapping[str, Any]
    use: Spec | None = None
    home: Path | None = None


def load_net(
    reference: str | os.PathLike[str] | Checkpoint | Mapping[str, Any], *, revision: str | None = None
) -> Loaded:
    """Load a net. Takes and raises what ``kdgen.models.model.load`` does."""
    if isinstance(reference, Mapping):
        return _foreign(_declared(reference, "checkpoint"))
    if isinstance(reference, Checkpoint):
        return _foreign(reference)
    base, _, half = str(reference).rpartition("#")
    if half in HALVES and base:
        loaded = load_net(base, revision=revision)
        (other,) = set(HALVES) - {half}
        task = {"name": task_having(half=half), other: base}
        return Loaded(Half(loaded.net, half), f"{loaded.name}-{half}", loaded.channels, task)
    if (folders := configured()) is not None and (folder := _configuration(str(reference), folders)):
        return _weightless(folder)
    if isinstance(reference, str) and (id := hub_id(reference)):
        return _from_hub(id.at(revision or id.revision), as_written=reference)
    if revision is not None:
        raise UserError(text("revision_of_hub", "a revision is one of a repository of the Hub, and {reference} is "
                             "none: leave it out", reference=str(reference)))  # fmt: skip
    path = Path(reference).expanduser()
    if path.suffix == ".json" and path.is_file():
        return _foreign(_declaration(path))
    if path.suffix == f".{ONNX}" and path.is_file():
        return _foreign(Checkpoint(file=str(path)))
    if path.is_file():
        return _from_weights(path)
    for folder in (path / "student", path, BUNDLED / str(reference)):
        if is_student(folder):
            return _student(folder)
    if (path / "model_index.json").is_file() or (path / "config.json").is_file():
        return _from_library(path)
    if path.is_dir():
        raise UserError(text("no_finished_student", "{path} holds no finished student (no config.json); `kdgen "
                             "resume {path}` finishes a run", path=path))  # fmt: skip
    raise UserError(text("no_model_at", "no model at {reference!r}: give a run or student folder, hub:ORG/NAME, a "
                         "checkpoint's JSON file, or one of the bundled {names:, }", reference=str(reference),
                         names=bundled_names()))  # fmt: skip


def _configuration(reference: str, folders: Mapping[str, Path]) -> Path | None:
    """The folder with the configuration of a model, of the Hub or here; None where it is known by its weights alone."""
    path = Path(reference).expanduser()
    if (id := hub_id(reference)) and id.name in folders:
        path = folders[id.name] / (id.part or "")
    known = (path / "student", path, BUNDLED / reference)
    return next((folder for folder in known if is_student(folder) or (folder / "config.json").is_file()
                 or (folder / "model_index.json").is_file()), None)  # fmt: skip


def _weightless(folder: Path) -> Loaded:
    """A net by its configuration alone."""
    if is_student(folder):
        config = read_config(folder)
        return Loaded(registry.build("net", config.net), config.name, config.channels, config.task, config.net, folder)
    if is_timm(folder):
        return _timm(folder, folder.name)
    use, _ = known_folder(folder)
    net = registry.build("net", use)
    return Loaded(net, folder.name, net.channels, net.describe(), use, folder)


def _from_hub(id: HubId, as_written: str) -> Loaded:
    try:
        folder = fetch(id, check=_known).folder
    except UserError as error:
        if as_written.startswith("hub:"):
            raise
        raise type(error)(text("no_folder_here", "there is no folder {name} here; {error}", name=as_written,
                               error=error.text)) from None  # fmt: skip
    return _student(folder) if is_student(folder) else _from_library(folder, id.name.partition("/")[2])


def _known(folder: Path) -> None:
    """Refuse a configuration that says nothing kdgen can build."""
    if is_student(folder):
        config = read_config(folder)
        registry.get("net", config.net.name)
        if here := names_here(config):
            raise UserError(text("hub_names_here", "its configuration names {named}, which is on the machine of "
                                 "whoever published it: what is on the Hub names models of the Hub",
                                 named=here))  # fmt: skip
    elif not is_timm(folder):
        known_folder(folder)


def names_here(config: Config) -> str | None:
    """The file, or the model that is neither bundled nor of the Hub, that a student's net names, where it does."""
    found: list[str] = []

    def note(what: str, text: str) -> str:
        if what == "path" or not (text.startswith("hub:") or text in bundled_names()):
            found.append(text)
        return text

    renamed(config, note)
    return next(iter(found), None)


def _student(folder: Path) -> Loaded:
    config = resolved(read_config(folder), folder)
    net: Net = registry.build("net", config.net)
    try:
        if isinstance(net, Stored) and callable(net.load_files):
            net.load_files(folder)
        else:
            check_content(folder / "model.safetensors")
            weights = load_file(folder / "model.safetensors")
            check_numbers(weights, net.state_dict(), str(folder))
            net.load_state_dict(weights, strict=True)
    except UserError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(text("folder_damaged", "the weights in {folder} are damaged or do not fit its config.json: "
                             "{error}", folder=folder,
                             error=" ".join(str(error).split())[:300])) from None  # fmt: skip
    check_net(net, config, folder)
    return Loaded(net, config.name, config.channels, config.task, config.net, folder)


def _from_weights(path: Path) -> Loaded:
    """What a file of weights alone holds: a half of a tiny autoencoder, or a restorer."""
    weights, _ = find_weights(read_weights_file(path), Checkpoint(file=str(path), net=Spec(name="spandrel")))
    if (tiny := open_taesd(weights, path)) is not None:
        half, use, made_for_half = tiny
        return Loaded(half, path.stem, half.channels, made_for_half, use)
    net, channels, task = open_restorer(weights, path)
    return Loaded(net, path.stem, channels, task)


def _timm(folder: Path, name: str) -> Loaded:
    """A model of timm by its configuration alone."""
    use, task = timm_use(folder)
    net = registry.build("net", use)
    return Loaded(net, name, net.channels, task, use, folder)


def _from_library(folder: Path, name: str | None = None) -> Loaded:
    """A model as diffusers or timm publishes it."""
    if is_timm(folder):
        loaded = _timm(folder, name or folder.resolve().name)
        assert isinstance(loaded.net, Timm), "that is what its architecture builds"
        open_timm(folder, loaded.net)
        loaded.net.eval()
        return loaded
    net, use, channels, task = open_folder(folder)
    return Loaded(net, name or folder.resolve().name, channels, task, use, folder)


def _declared(data: Mapping[str, Any] | str, what: str) -> Checkpoint:
    try:
        return Checkpoint.model_validate_json(data) if isinstance(data, str) else Checkpoint.model_validate(data)
    except ValidationError as error:
        message = explain_error(error, Checkpoint)
        raise UserError(text("at_key", "{key}: {message}", key=what, message=message)) from None


def _declaration(path: Path) -> Checkpoint:
    return resolved(_declared(read_json_text(path), str(path)), path.absolute().parent)


def _onnx(spec: Checkpoint) -> Loaded:
    net, scale = open_onnx(spec)
    channels = net.way.channels
    given = declared_task(spec)
    if given and (task_class(given).reads, task_class(given).gives) != ("images", "images"):
        raise UserError(text("onnx_task", "{file}: an ONNX file is asked for images of images, not to {task}",
                             file=spec.file, task=task_name(given)))  # fmt: skip
    kind = task_having(scales=True) if scale > 1 else task_having(taught_alone=True)
    made = made_for(scale) if scale > 1 and task_name(given or {"name": kind}) == kind else {}
    task = {"name": kind, "channels": channels, **made, **given}
    return Loaded(net, spec.name or Path(spec.file).stem, channels, task)


def is_pipeline(path: Path) -> bool:
    """Whether a path is the folder of a pipeline of diffusers."""
    return (path / "model_index.json").is_file()


def is_teacher_file(path: Path) -> bool:
    """Whether a path is called as a file of weights or a net is, is a file of anything but JSON, or declares one."""
    if path.suffix in (*SUFFIXES, f".{ONNX}"):
        return True
    if not path.is_file():
        return False
    try:
        data = json.loads(read_json_text(path))
    except (UserError, ValueError, RecursionError):
        with path.open("rb") as file:
            return path.suffix != ".json" and not file.read(512).lstrip().startswith(b"{")
    return isinstance(data, dict) and "file" in data


def _foreign(spec: Checkpoint) -> Loaded:
    if spec.url and not Path(spec.file).expanduser().exists():
        raise UserError(text("no_file_yet", "there is no file {file}: get it from {url}, and put it there",
                             file=spec.file, url=spec.url))  # fmt: skip
    if spec.of_onnx:
        return _onnx(spec)
    task, net = declared_task(spec), spec.net
    declared = task.get("channels", net.args.get("channels", registry.default("net", net.name, "channels")))
    channels: Any = 3 if declared in (None, "both") else declared
    noisy = task_class(task).takes_sigma
    built = load_checkpoint(spec, next(Photographs().images(channels))[1] if noisy else None)
    if made := try_once(built, spec, task, channels):
        if "channels" in task and made[0] != channels:
            raise UserError(text("declared_channels", "{file}: task.channels is {channels}, and {net} makes images "
                                 "of {made}", file=spec.file, channels=channels, net=str(net),
                                 made=made[0]))  # fmt: skip
        if task.get("size", made[1]) != made[1]:
            raise UserError(text("declared_size", "{file}: task.size is {size}, and {net} makes images of {made}",
                                 file=spec.file, size=task["size"], net=str(net), made=made[1]))  # fmt: skip
        channels, task = made[0], {"size": made[1], **task}
    return Loaded(built, spec.name or Path(spec.file).stem, channels, task)
