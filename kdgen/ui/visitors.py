"""What visitors may name: no file of this machine but what they brought, no code, nothing that harms the others."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdgen.models.hub_cache import HubId, api, explained, fetchable
from kdgen.models.hub_cache.failures import SILENCE
from kdgen.models.hub_cache.ids import MODELS
from kdgen.models.loading import BUNDLED
from kdgen.recipe import STARTS, Recipe, parse
from kdgen.registry import nearest
from kdgen.types import UserError
from kdgen.ui import own
from kdgen.ui.job import ID
from kdgen.ui.runs import Runs

TEACHERS = ("denoiser", "gan", "vae", "vae#decoder", "vae#encoder", "diffusion")
"""Bundled models that teach."""

IMAGES = ("dead_leaves", "photographs", "mixture", "samples", "rollouts")
"""Sources of images that read no files of the machine's."""

PLAIN = re.compile(r"[\w .,:+#@%()=-]{0,120}")
"""Text that can name neither a file nor a folder."""

LARGEST = {
    "batch_size": 256, "inputs": 50_000, "num_images": 5000, "patch": 128, "size": 128, "latent": 1024,
    "width": 512, "widths": 512, "hidden": 2048, "block_out_channels": 512, "blocks": 16, "depth": 32,
    "layers_per_block": 4, "crop": 128, "every": 1000, "channels": 16, "latent_channels": 64, "encoder_blocks": 16,
    "decoder_blocks": 16, "num_directions": 64, "num_pairs": 64, "seed": 2**53,
}  # fmt: skip
"""Largest values by key, wherever in a recipe it stands."""

LARGEST_OTHER = 100_000
"""Largest value of all other keys; their smallest is as far below 0."""

LEAST: dict[str, float] = {"evaluate_every": 2.0, "checkpoint_every": 5.0}
DEPTH = 12
SOURCE = {"name", "args"}
"""The keys of a source of images."""

MOST_TEACHERS = 3
REPOSITORIES = 8
CACHE_GIB = 2.0
"""Room for the teachers' cached answers of all runs, whatever a recipe says."""


def resolve(reference: str, session: str, runs: Runs) -> str:
    """What a visitor named as a model, in the words of ``kdgen.load`` within a run's home folder.

    Args:
        reference: a bundled name, ``run:ID`` of a run of this session, ``own:NAME`` of a teacher that it brought, an
            id of the Hub, or where everybody is trusted a path that begins with ``/`` or ``~``.
        session: who asks.
        runs: all runs.

    Raises:
        UserError: for anything else.
    """
    text = reference.strip() if isinstance(reference, str) else ""
    if text in TEACHERS or text in _bundled():
        return text
    if text.startswith("own:"):
        base, _, half = text.partition("#")
        found = own.within(runs.brought(base, session, "teacher"))
        return found + (f"#{half}" if half in ("encoder", "decoder") else "")
    if runs.limits.trusted and text.startswith(("/", "~")):
        return str(Path(text).expanduser())
    if text.startswith("run:"):
        id, _, half = text.removeprefix("run:").partition("#")
        job = runs.get(id, session)
        run = runs.home(job) / "run"
        places = {run: run / "student", run / "best" / "student": run / "best" / "student"}
        student = next((place for place, each in places.items() if (each / "config.json").is_file()), None)
        if student is None:
            raise UserError(f"the run {job.name} has no student yet")
        return f"../{student.relative_to(runs.folder)}" + (f"#{half}" if half in ("encoder", "decoder") else "")
    name, _, half = text.partition("#")
    if "/" in name and half in ("", "encoder", "decoder"):
        return f"{HubId.read(name)}" + (f"#{half}" if half else "")
    raise UserError(f"no model is called {text[:60]!r}: choose one of the list, or write an id of the Hub, ORG/NAME"
                    f"{nearest(text[:60], TEACHERS) if text else ''}")  # fmt: skip


def accept(recipe: Recipe | str | Mapping[str, Any], session: str, runs: Runs) -> Recipe:
    """A recipe of a visitor, with its models resolved.

    Raises:
        UserError: for text that is no recipe, and for what a stranger must not ask of this machine.
    """
    limits = runs.limits
    if isinstance(recipe, str):
        if len(recipe.encode()) > limits.text_bytes:
            raise UserError(f"this recipe is longer than {limits.text_bytes:,} bytes: a recipe is short JSON text")
        recipe = _read(recipe)
    if not isinstance(recipe, Recipe):
        recipe = parse(recipe)
    data = recipe.model_dump(mode="json")
    if recipe.teacher is not None and not isinstance(recipe.teacher, str):
        raise UserError("a checkpoint is a file of this machine: publish the model on the Hub and name it ORG/NAME")
    if data["cache"]["dir"] is not None:
        raise UserError("cache.dir names a folder of this machine: leave it out")
    if recipe.device not in ("auto", "cpu"):
        raise UserError(f"device is auto or cpu here, not {recipe.device!r}")
    if recipe.seconds is not None and recipe.seconds > limits.seconds:
        raise UserError(f"a run may train for {limits.seconds} seconds here, not {recipe.seconds:g}: choose fewer")
    if recipe.steps is not None and recipe.steps > limits.steps:
        raise UserError(f"a run may train for {limits.steps:,} steps here, not {recipe.steps:,}: choose fewer")
    data["cache"]["max_gib"] = min(data["cache"]["max_gib"], CACHE_GIB)
    weighing = Weighing(limits.download_bytes)

    def named(reference: Any) -> str:
        return weighing.pinned(resolve(reference, session, runs))

    def pictures(reference: Any) -> str:
        return own.within(runs.brought(reference, session, "pictures"))

    data = _checked(data, Naming(named, pictures), {"num_steps": limits.num_steps})
    return parse({**data, "teacher": None if recipe.teacher is None else named(recipe.teacher)})


@dataclass(frozen=True, slots=True)
class Naming:
    """Resolves what a visitor names, or raises UserError: models, and pictures that the visitor brought."""

    model: Callable[[Any], str]
    pictures: Callable[[Any], str]


class Weighing:
    """Bounds what is fetched from the Hub for one request.

    Args:
        most: bytes of the files of all repositories together.
    """

    def __init__(self, most: int) -> None:
        self.most, self._sizes = most, dict[HubId, int]()

    def pinned(self, reference: str) -> str:
        """A reference as ``resolve`` gives it; one of the Hub is weighed, and bound to the commit that was.

        Raises:
            UserError: for more bytes than are fetched here, and where the Hub knows of no such repository.
            WorldError: where the Hub cannot be reached.
        """
        if not reference.startswith("hub:"):
            return reference
        name, hash, half = reference.partition("#")
        id = HubId.read(name)
        if len(self._sizes) >= REPOSITORIES:
            raise UserError(f"at most {REPOSITORIES} models of the Hub are named in a recipe here")
        with explained(id.name):
            info = api(False).model_info(id.name, revision=id.revision, files_metadata=True, timeout=SILENCE)  # type: ignore[arg-type]
        exact = id.at(info.sha)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        self._sizes[exact] = sum(sizes[path] for path in fetchable(sizes, id.part))
        if (size := sum(self._sizes.values())) > self.most:
            raise UserError(f"{' and '.join(each.name for each in self._sizes)}: {size / 1e9:.1f} GB, and at most "
                            f"{self.most / 1e9:.1f} GB are fetched here: choose smaller models")  # fmt: skip
        return f"{exact}{hash}{half}"


def _read(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"this is no JSON: {str(error)[:100]}") from None
    if not isinstance(data, dict):
        raise UserError("a recipe is a JSON object: take one from a preset and edit it")
    return data


def check_sizes(args: Mapping[str, Any]) -> None:
    """Refuse arguments of a net that are too large, or name anything. Raises UserError."""

    def refuse(reference: Any) -> str:
        raise UserError(f"{str(reference)[:40]!r} is no argument of a net")

    _checked(args, Naming(refuse, refuse), {})


def _checked(value: Any, naming: Naming, largest: Mapping[str, int], key: str = "", depth: int = 0) -> Any:
    """A part of a recipe with its models resolved; raises for what is not allowed.

    Args:
        value: the part.
        naming: resolves what names a model or pictures.
        largest: values by key, beside those of ``LARGEST``.
        key: under which the part stands.
        depth: how deep.
    """
    if depth > DEPTH:
        raise UserError("this recipe is nested too deeply")
    if key == "init" and value in STARTS:
        return value
    if key == "init" and not isinstance(value, str):
        raise UserError("a checkpoint is a file of this machine: publish the model on the Hub and name it ORG/NAME")
    if key == "teachers" and isinstance(value, dict):
        if len(value) > MOST_TEACHERS:
            raise UserError(f"a run has {MOST_TEACHERS} teachers beside the first at most, not {len(value)}")
        return {name: naming.model(each) for name, each in value.items()}
    if isinstance(value, dict):
        source = key in ("images", "evaluate") or (key == "sources" and "name" in value)
        if source and (name := value.get("name")) not in IMAGES:
            args = value.get("args")
            if name == "folder" and isinstance(args, dict) and args.keys() == {"path"} and value.keys() <= SOURCE:
                return {"name": "folder", "args": {"path": naming.pictures(args["path"])}}
            raise UserError(f"images come from {', '.join(IMAGES)} here, or from those that you brought, not from "
                            f"{str(name)[:40]!r}: no files of this machine are read")  # fmt: skip
        for name in value:
            if not PLAIN.fullmatch(name):
                raise UserError(f"{name[:40]!r} is no key of a recipe")
        if key == "args" and "num_steps" in largest:  # of a sampler, by whatever name, not of the training
            largest = {**largest, "steps": largest["num_steps"]}
        return {name: _checked(inner, naming, largest, name, depth + 1) for name, inner in value.items()}
    if isinstance(value, list):
        if len(value) > 64:
            raise UserError(f"{key} has {len(value)} entries: 64 are enough")
        return [_checked(inner, naming, largest, key, depth + 1) for inner in value]
    if isinstance(value, str) and key != "teacher":
        if key in MODELS:
            return naming.model(value)
        if not PLAIN.fullmatch(value):
            raise UserError(f"{key} must name nothing with a path, and {value[:40]!r} does")
    if isinstance(value, int | float) and not isinstance(value, bool):
        most = largest.get(key, LARGEST.get(key, LARGEST_OTHER))
        if not value <= most:  # NaN is not
            raise UserError(f"{key} is at most {most:,} here, not {value:,}")
        if value < (least := LEAST.get(key, -LARGEST_OTHER)):
            raise UserError(f"{key} is at least {least:g} here, not {value:g}")
    return value


def _bundled() -> Iterator[str]:
    return (path.name for path in BUNDLED.iterdir() if (path / "config.json").is_file())


__all__ = ["ID", "TEACHERS", "Weighing", "accept", "check_sizes", "resolve"]
