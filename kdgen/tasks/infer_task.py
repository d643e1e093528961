"""The task that a model was made for: what measures it, and shows it inputs of the kind it will get."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kdgen import recipe as recipes
from kdgen import registry
from kdgen.data import Gallery, make_images
from kdgen.data.source import no_whole_images
from kdgen.models.model import Model, load
from kdgen.models.task_arguments import innermost, task_name
from kdgen.registry import Spec
from kdgen.tasks.compatibility import check_fit
from kdgen.tasks.parties import Party, are_alike
from kdgen.tasks.views import Views
from kdgen.types import Net, Task, UserError, text

Data = str | os.PathLike[str] | Mapping[str, Any]
"""A folder of images, an .npz or IDX file, or the description of a source of images."""


def measuring_task(
    models: Mapping[str, Model],
    data: Data | None,
    sigma: float | None = None,
    task: str | Mapping[str, Any] | Task | None = None,
    *,
    num_images: int | None = None,
    teacher: Model | None = None,
) -> tuple[str, Any]:
    """The task that measures these models, in words and built: what the first was made for unless ``task``.

    Args:
        models: by name.
        data: what to measure on.
        sigma: noise level of denoisers.
        task: another one by name, the description of one with all its arguments, or one itself.
        num_images: how many images nets are measured on, by tasks that count them.
        teacher: a model that the others are measured against.

    Raises:
        UserError: for arguments that do not fit, for models that do not fit the task or each other, and for such as
            draw in different ways: one task draws for all.
    """
    if not isinstance(data, str | os.PathLike | Mapping | None):
        raise UserError(text("no_data", "data is a folder, an .npz or IDX file or the description of a source of "
                             "images, not {given}", given=repr(data)))  # fmt: skip
    if task is not None and not isinstance(task, str | Mapping | Task):
        raise UserError(text("no_task_given", "a task is a name, a description or a task itself, not {given}",
                             given=repr(task)))  # fmt: skip
    first = next(iter(models.values()))
    use = _described(task) if isinstance(task, Mapping) else None
    made_for = "few_steps" if "sampler" in first.task else task_name(first.task)
    name = use.name if use else task if isinstance(task, str) else None
    does = innermost(use).name if use else name
    parties = [Party(called=model.name, net=model.net, made_for=model.task) for model in models.values()]
    if teacher is not None:
        parties.append(Party(called=teacher.name, net=teacher.net, made_for=teacher.task, as_teacher=True))
    part = _first_part(use, first.task)
    for party in parties:
        kind = task_name(party.made_for)
        if party.as_teacher and kind == part:
            continue
        if task is None and party.made_for and not are_alike(kind, made_for):
            raise UserError(text("made_apart", "{first} was made to {made_for} and {called} to {kind}: measure those "
                                 "together that were made for one task", first=first.name, made_for=str(made_for),
                                 called=party.called, kind=str(kind)))  # fmt: skip
        if name is not None and party.made_for and not any(are_alike(kind, each) for each in {name, str(does)}):
            raise UserError(text("made_for_other", "{called} was made to {kind}, not to {task}: measure it by {kind}",
                                 called=party.called, kind=str(kind), task=str(name)))  # fmt: skip
    for model in models.values():
        if _sampler(model) != _sampler(first):
            raise UserError(text("draw_differently", "{first} and {other} draw in different ways: compare those that "
                                 "draw alike, beside their teacher", first=first.name, other=model.name))  # fmt: skip
    if task is not None and not isinstance(task, str | Mapping):
        if data is not None or sigma is not None:
            raise UserError(text("task_given_whole", "a task that is given whole has its own data and noise: leave "
                                 "data and sigma out"))  # fmt: skip
        name, (words, built) = str(task.describe()["name"]), (type(task).__name__, task)
    elif (name := name or made_for) == "denoise" and use is None:
        words, built = _denoising(models, data, sigma)
    else:
        told = dict(use.args) if use else {**_told(first, name), **_pipeline(teacher or first, name)}
        words, built = _task(name, told, data, sigma, num_images)
    if task is None or isinstance(task, str):
        built = _seen_by_each(built, list(models.values()), teacher)
    if teacher is not None and task_name(teacher.task) == part:
        parties[-1] = replace(parties[-1], part=next(iter(built.parts)))
    if teacher is not None and (asked := built.guided(teacher.net)) is not teacher.net:
        parties[-1] = replace(parties[-1], asked=asked)
    check_fit(use or Spec(name=name), built, [built.example()], parties)
    return words, built


def _first_part(use: Spec | None, facts: Mapping[str, Any]) -> str | None:
    """What the first of several tasks in one is called, as whose teacher a net may be made; None for one alone."""
    tasks: Any = innermost(use).args.get("tasks") if use else None
    described = [*tasks.values()] if tasks else facts.get("parts") or []
    return str(described[0]["name"]) if described else None


def described_task(model: Model) -> Spec:
    """The task that a model says it was made for, with its arguments."""
    name = task_name(model.task)
    return Spec(name=name, args=_told(model, name))


def _channels(model: Model) -> int:
    """Of the images of a model's task, which may be other than what its view makes of them."""
    told = model.task.get("channels")
    return told if isinstance(told, int) and "view" in model.task else model.channels


def _pipeline(model: Model, name: str) -> dict[str, Any]:
    """The folder of a model, for a task that draws and decodes as the pipeline in it does."""
    whole = registry.accepts("task", name, "model") and model.home is not None
    return {"model": str(model.home)} if whole else {}


def _told(model: Model, name: str) -> dict[str, Any]:
    """What a model says of its task that a task of this name takes."""
    return _accepted(name, {**model.task, **({"channels": _channels(model)} if model.channels else {})})


def _accepted(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a model's facts that are arguments of a task, and of its parts."""
    told = {key: value for key, value in facts.items() if key != "name"}
    told |= {"patch": told["size"]} if "size" in told else {}
    parts = {each["part"]: {"name": each["name"], "args": _accepted(each["name"], each["args"])}
             for each in facts.get("parts", ())}  # fmt: skip
    return registry.accepted("task", name, {**told, **({"tasks": parts} if parts else {})})


def _task(
    name: str, told: dict[str, Any], data: Data | None, sigma: float | None, num_images: int | None
) -> tuple[str, Any]:
    """A task in words and built, on other images if these are given."""
    if sigma is not None:
        raise UserError(text("sigma_denoisers", "--sigma is for denoisers, and the task is {task}: leave it out",
                             task=name))  # fmt: skip
    if num_images is not None and registry.accepts("task", name, "num_images"):
        told["num_images"] = num_images
    words = Spec(name=name, args=told)
    return (f"{words} on {_words(data)}" if data else str(words),
            registry.build("task", Spec(name=name, args={**told, **_given(name, told, data)})))  # fmt: skip


def _given(name: str, told: Mapping[str, Any], data: Data | None) -> dict[str, Any]:
    """The arguments of a task for images that are given; of several tasks in one it is the last that names them."""
    if parts := told.get("tasks"):
        *_, (last, use) = parts.items()
        own = {**use["args"], **_given(use["name"], use["args"], data)}
        return {"tasks": {**parts, last: {**use, "args": own}}}
    if name == "classify" and data is None and not {"images", "evaluate"} & told.keys():
        raise UserError(text("classifiers_labels", "classifiers are measured on labelled images: give data, a folder "
                             "with a folder for each class, an .npz, or an IDX file with its labels "
                             "beside"))  # fmt: skip
    if data is None:
        return {}
    if registry.accepts("task", name, "evaluate"):
        return {"evaluate": _labelled(data) if name == "classify" else _images(data)}
    return {"images": _images(data, whole=True),
            **({"data": True} if registry.accepts("task", name, "data") else {})}  # fmt: skip


def task_of(model: Model) -> Task:
    """The task of the run that made a model, where the model lies in its run folder; what it says of itself otherwise.

    Raises:
        UserError: if neither says enough.
    """
    if (run := run_of(model)) is not None:
        try:
            task: Task = registry.build("task", recipes.read(run).task)
        except (UserError, OSError):  # images of the run that are gone, say
            pass
        else:
            return task
    try:
        task = measuring_task({model.name: model}, None)[1]
    except UserError as error:
        raise UserError(text("task_unsaid", "{name} does not say enough of its task ({reason}): name it with --recipe",
                             name=model.name, reason=error.text)) from None  # fmt: skip
    return task


def run_of(model: Model) -> Path | None:
    """The recipe of the run in whose folder a model lies; None for a model that lies elsewhere."""
    recipe = None if model.home is None else model.home.parent / "recipe.json"
    return recipe if recipe is not None and recipe.is_file() else None


def teacher_of(model: Model) -> Net | None:
    """Who taught a model, as that is asked by itself, where it lies in its run folder; None where it is not at hand."""
    if (run := run_of(model)) is None:
        return None
    try:
        named = recipes.read(run).teacher
        return None if named is None else load(named).net
    except (UserError, OSError):
        return None


def _seen_by_each(task: Task, models: Sequence[Model], teacher: Model | None = None) -> Task:
    """A task whose images each model sees as it says that it was made to; the task itself where none says anything."""
    views = [model.task.get("view") or () for model in (*models, *filter(None, [teacher]))]
    if not any(views):
        return task
    seen: Views = registry.build("task", Spec(name="views", args={"student": list(views[0])}), task=task)
    for model in models[1:]:
        seen.show(model.net, model.name, model.task)
    if teacher is not None:
        seen.show(teacher.net, teacher.name, teacher.task, teaches=True)
    return seen


def _sampler(model: Model) -> list[Any]:
    """How a model draws in few steps; nothing of a model that does not."""
    return [model.task.get(key) for key in ("sampler", "table", "steps")]


def _described(task: Mapping[str, Any]) -> Spec:
    try:
        return Spec.model_validate(task)
    except ValidationError:
        raise UserError(text("no_task_description", 'a task is described as {{"name": ..., "args": {{...}}}}, not as '
                             "{given}", given=repr(task))) from None  # fmt: skip


def _words(data: Data) -> str:
    return str(_described(data)) if isinstance(data, Mapping) else str(data)


def _images(data: Data, **more: Any) -> Mapping[str, Any]:
    """The source of images in a folder, or in a file of arrays or in MNIST's format; a description as it is."""
    if isinstance(data, Mapping):
        return data
    if Path(data).suffix == ".npz":
        return _tested(data)
    if Path(data).is_file():
        return {"name": "idx", "args": {"images": str(data)}}
    return {"name": "folder", "args": {"path": str(data), **more}}


def _tested(data: str | os.PathLike[str]) -> Mapping[str, Any]:
    """The source of the images in an .npz file that are to measure by, or of all where it has no parts."""
    return {"name": "npz", "args": {"path": str(data), "split": "test"}}


def _labelled(data: Data) -> Mapping[str, Any]:
    """The source of labelled images in a folder of folders, an .npz, or an IDX file whose labels lie beside it."""
    if isinstance(data, Mapping):
        return data
    path = Path(data)
    if path.suffix == ".npz":
        return _tested(path)
    if not path.is_file():
        return {"name": "image_folder", "args": {"path": str(path)}}
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if beside == path or not beside.is_file():
        raise UserError(text("labels_missing", "{path} has no labels beside it ({name}): put them there, or give a "
                             "folder with a folder for each class", path=path, name=beside.name))  # fmt: skip
    return {"name": "idx", "args": {"images": str(path), "labels": str(beside)}}


def _denoising(models: Mapping[str, Model], data: Data | None, sigma: float | None) -> tuple[str, Any]:
    channels = {
        _channels(model) for model in models.values() if model.channels and model.task.get("channels") != "both"
    }
    if len(channels) > 1:
        raise UserError(text("grey_and_colour", "grey and colour models cannot be compared on the same images: "
                             "compare them apart"))  # fmt: skip
    gallery = {"name": "photographs"} if data is None else _images(data)
    if not channels:
        channels = {1 if data is not None and _are_grey(gallery) else 3}
    made_for = next(iter(models.values())).task.get("sigma", 25)
    if sigma is not None:
        for model in models.values():
            model.check_sigma(sigma)
    args = {"sigma": made_for if sigma is None else sigma, "channels": channels.pop()}
    words = f"{Spec(name='denoise', args=args)} on {_words(data) if data else 'the bundled photographs'}"
    return words, registry.build("task", Spec(name="denoise", args={**args, "evaluate": gallery}))


def _are_grey(gallery: Mapping[str, Any]) -> bool:
    """Whether the first whole image of a source is grey: its three channels are one."""
    source = make_images(gallery)
    if not isinstance(source, Gallery):
        raise no_whole_images(source)
    return next((bool((image == image[:, :1]).all()) for _, image in source.images(3)), False)
