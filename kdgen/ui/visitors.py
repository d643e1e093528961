"""What visitors may name: no file of this machine but what they brought, no code, nothing that harms the others."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdgen.models.config import read_config
from kdgen.models.hub_cache import HubId
from kdgen.models.hub_cache.ids import MODELS
from kdgen.models.loading import BUNDLED, bundled_names, bundled_students
from kdgen.models.task_arguments import task_name
from kdgen.recipe import STARTS, Recipe, parse
from kdgen.registry import nearest
from kdgen.types import Text, UserError, text
from kdgen.ui import own
from kdgen.ui.job import ID
from kdgen.ui.runs import Runs
from kdgen.ui.shelves import shelf_of
from kdgen.ui.weighing import Weighing

STUDENTS = tuple(bundled_students())
"""Bundled models that presets made."""

WORDS = "text_to_image"
"""The kind of models that draw what words ask for, see ``kdgen.ui.shelves``."""

TEACHERS = (
    "denoiser",
    "generalist",
    "upscaler-x4",
    "upscaler-x2",
    "painter",
    "gan",
    "vae",
    "vae#decoder",
    "vae#encoder",
    "diffusion",
    *(name for name in bundled_names()
      if name not in STUDENTS and shelf_of(task_name(read_config(BUNDLED / name).task)) == WORDS),
)  # fmt: skip
"""Bundled models that teach."""

IMAGES = ("scenes", "dead_leaves", "photographs", "mixture", "samples", "rollouts")
"""Sources of images that read no files of the machine's."""

PLAIN = re.compile(r"[\w .,:+#@%()=-]{0,120}")
"""Text that can name neither a file nor a folder."""

LARGEST = {
    "batch_size": 256, "inputs": 50_000, "num_images": 5000, "patch": 256, "size": 128, "latent": 1024,
    "width": 512, "widths": 512, "hidden": 2048, "block_out_channels": 512, "blocks": 16, "depth": 32,
    "layers_per_block": 4, "crop": 128, "every": 1000, "channels": 16, "latent_channels": 64, "encoder_blocks": 16,
    "scale": 8, "radius": 32, "passes": 8,
    "num_latents": 50_000, "picture": 256,
    "decoder_blocks": 16, "num_directions": 64, "num_pairs": 64, "seed": 2**53,
}  # fmt: skip
"""Largest values by key, wherever in a recipe it stands."""

PROMPTS, PROMPT = 5000, 2000
"""Prompts of a recipe, and characters of one, at most."""

LARGEST_OTHER = 100_000
"""Largest value of all other keys; their smallest is as far below 0."""

FACTS = {"size": 1024, "patch": 1024, "crop": 1024}
"""The same of what models say of themselves, whose images may be larger than those that are trained on here."""

LEAST: dict[str, float] = {"evaluate_every": 2.0, "checkpoint_every": 5.0}
DEPTH = 12
MOST_TEACHERS = 3
NAME_BYTES = 120
CACHE_GIB = 2.0
"""Room for the teachers' cached answers of all runs, whatever a recipe says."""


CHECKPOINT = text(
    "no_checkpoint", "a checkpoint is a file of this machine: publish the model on the Hub and name it ORG/NAME"
)


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
    wanted = reference.strip() if isinstance(reference, str) else ""
    if wanted in TEACHERS or wanted in bundled_names():
        return wanted
    if wanted.startswith("own:"):
        base, _, half = wanted.partition("#")
        brought = own.within(runs.brought(base, session, "teacher"))
        return brought + (f"#{half}" if half in ("encoder", "decoder") else "")
    if runs.limits.trusted and wanted.startswith(("/", "~")):
        return str(Path(wanted).expanduser())
    if wanted.startswith("run:"):
        id, _, half = wanted.removeprefix("run:").partition("#")
        job = runs.get(id, session)
        run = runs.home(job) / "run"
        places = {run: run / "student", run / "best" / "student": run / "best" / "student"}
        found = next((place for place, student in places.items() if (student / "config.json").is_file()), None)
        if found is None:
            raise UserError(text("run_without_student", "the run {name} has no student yet", name=job.name))
        return f"../{found.relative_to(runs.folder)}" + (f"#{half}" if half in ("encoder", "decoder") else "")
    name, _, half = wanted.partition("#")
    if "/" in name and half in ("", "encoder", "decoder"):
        return f"{HubId.read(name)}" + (f"#{half}" if half else "")
    raise UserError(text("no_such_model", "no model is called {name!r}: choose one of the list, or write an id of the "
                         "Hub, ORG/NAME{nearest}", name=wanted[:60],
                         nearest=nearest(wanted[:60], TEACHERS) if wanted else ""))  # fmt: skip


def accept(recipe: Recipe | str | Mapping[str, Any], session: str, runs: Runs) -> Recipe:
    """A recipe of a visitor, with its models resolved.

    Raises:
        UserError: for text that is no recipe, and for what a stranger must not ask of this machine.
    """
    limits = runs.limits
    if isinstance(recipe, str):
        if len(recipe.encode()) > limits.text_bytes:
            raise UserError(text("recipe_too_long", "this recipe is longer than {most:,} bytes: a recipe is short "
                                 "JSON text",
                                 most=limits.text_bytes))  # fmt: skip
        recipe = parsed(recipe)
    if not isinstance(recipe, Recipe):
        recipe = parse(recipe)
    data = recipe.model_dump(mode="json")
    if recipe.teacher is not None and not isinstance(recipe.teacher, str):
        raise UserError(CHECKPOINT)
    if len(recipe.name.encode()) > NAME_BYTES:
        raise UserError(text("name_too_long", "the name of a recipe has at most {most} bytes here, for files are "
                             "called after it: choose a shorter one", most=NAME_BYTES))  # fmt: skip
    if data["cache"]["dir"] is not None:
        raise UserError(text("no_cache_dir", "cache.dir names a folder of this machine: leave it out"))
    if recipe.device not in ("auto", "cpu"):
        raise UserError(text("no_such_device", "device is auto or cpu here, not {device!r}", device=recipe.device))
    if recipe.seconds is not None and recipe.seconds > limits.seconds:
        raise UserError(text("too_many_seconds", "a run may train for {most} seconds here, not {seconds:g}: choose "
                             "fewer",
                             most=limits.seconds, seconds=recipe.seconds))  # fmt: skip
    if recipe.steps is not None and recipe.steps > limits.steps:
        raise UserError(text("too_many_steps", "a run may train for {most:,} steps here, not {steps:,}: choose fewer",
                             most=limits.steps, steps=recipe.steps))  # fmt: skip
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


def parsed(given: str) -> dict[str, Any]:
    """The object that JSON text of a visitor holds. Raises UserError for anything else."""
    try:
        data = json.loads(given)
    except (ValueError, RecursionError) as error:
        place = {"line": error.lineno, "column": error.colno} if isinstance(error, json.JSONDecodeError) else {}
        reason = Text(str(error)[:100], "json_at" if place else "", place)
        raise UserError(text("no_json", "this is no JSON: {error}", error=reason)) from None
    if not isinstance(data, dict):
        raise UserError(
            text("no_object", "this JSON is no object: write it in braces, as recipes and declarations are")
        )
    return data


def check_sizes(args: Mapping[str, Any]) -> None:
    """Refuse arguments of a net that are too large, or name anything. Raises UserError."""

    def refuse(reference: Any) -> str:
        raise UserError(text("no_argument_of_net", "{name!r} is no argument of a net", name=str(reference)[:40]))

    _checked(args, Naming(refuse, refuse), {})


def check_facts(facts: Mapping[str, Any], *, hub: bool = False) -> None:
    """Refuse what a stranger's model says of its task where a task that is built of it would open anything.

    Args:
        facts: what it says.
        hub: whether models of the Hub may be named beside bundled ones.

    Raises:
        UserError: for other models, files and folders, and for what is too large.
    """

    def known(reference: Any) -> str:
        name = str(reference)
        if name in TEACHERS or name in bundled_names():
            return name
        if hub and name.startswith("hub:"):
            return str(HubId.read(name.partition("#")[0]))
        raise UserError(text("facts_name", "its configuration names the model {name!r}: that of a model from elsewhere "
                             "names bundled ones alone", name=name[:60]))  # fmt: skip

    _checked(facts, Naming(known, known), FACTS)


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
        raise UserError(text("too_deep", "this recipe is nested too deeply"))
    if key == "init" and value in STARTS:
        return value
    if (key == "init" and not isinstance(value, str)) or (key in MODELS and isinstance(value, dict)):
        raise UserError(CHECKPOINT)
    if key == "teachers" and isinstance(value, dict):
        if len(value) > MOST_TEACHERS:
            raise UserError(text("too_many_teachers", "a run has {most} teachers beside the first at most, not {count}",
                                 most=MOST_TEACHERS, count=len(value)))  # fmt: skip
        return {name: naming.model(each) for name, each in value.items()}
    if isinstance(value, dict):
        source = key in ("images", "evaluate") or (key == "sources" and "name" in value)
        if source and (name := value.get("name")) not in IMAGES:
            args = value.get("args")
            alone = name == "folder" and value.keys() == {"name", "args"}
            if alone and isinstance(args, dict) and {"path"} <= args.keys() <= {"path", "whole"}:
                return {"name": "folder", "args": {**args, "path": naming.pictures(args["path"])}}
            raise UserError(text("no_such_images", "images come from {names:, } here, or from those that you brought, "
                                 "not from {name!r}: no files of this machine are read", names=list(IMAGES),
                                 name=str(name)[:40]))  # fmt: skip
        for name in value:
            if not PLAIN.fullmatch(name):
                raise UserError(text("no_key", "{key!r} is no key of a recipe", key=name[:40]))
        if key == "args" and "num_steps" in largest:  # of a sampler, by whatever name, not of the training
            largest = {**largest, "steps": largest["num_steps"]}
        return {name: _checked(inner, naming, largest, name, depth + 1) for name, inner in value.items()}
    if key == "prompts":
        return _prompts(value)
    if key == "names" and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return _prompts(value)
    if isinstance(value, list):
        if len(value) > 64:
            raise UserError(text("too_many_entries", "{key} has {count} entries: 64 are enough", key=key,
                                 count=len(value)))  # fmt: skip
        return [_checked(inner, naming, largest, key, depth + 1) for inner in value]
    if isinstance(value, str) and key != "teacher":
        if key in MODELS:
            return naming.model(value)
        if not PLAIN.fullmatch(value):
            raise UserError(text("no_path", "{key} must name nothing with a path, and {value!r} does", key=key,
                                 value=value[:40]))  # fmt: skip
    if isinstance(value, int | float) and not isinstance(value, bool):
        most = largest.get(key, LARGEST.get(key, LARGEST_OTHER))
        if not value <= most:  # NaN is not
            raise UserError(text("at_most", "{key} is at most {most:,} here, not {value:,}", key=key, most=most,
                                 value=value))  # fmt: skip
        if value < (least := LEAST.get(key, -LARGEST_OTHER)):
            raise UserError(text("at_least", "{key} is at least {least:g} here, not {value:g}", key=key, least=least,
                                 value=value))  # fmt: skip
    return value


def _prompts(value: Any) -> Any:
    """Prompts as a list, which may say anything. Raises UserError for a file's name, and for too many or too long."""
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UserError(text("prompts_listed", "prompts are a list of texts here: no file of this machine is read"))
    if len(value) > PROMPTS or any(len(each) > PROMPT for each in value):
        raise UserError(text("prompts_bounded", "there are at most {most:,} prompts here, of {letters:,} characters "
                             "each: take some of them away", most=PROMPTS, letters=PROMPT))  # fmt: skip
    return value


__all__ = ["ID", "STUDENTS", "TEACHERS", "accept", "check_facts", "check_sizes", "parsed", "resolve"]
