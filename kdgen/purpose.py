"""The task that a model was made for: what measures it, and shows it inputs of the kind it will get."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdgen import recipe as recipes
from kdgen import registry
from kdgen.data import make_images
from kdgen.fit import Party, are_alike, check_fit
from kdgen.model import Model
from kdgen.registry import Use
from kdgen.types import Task, UserError


def measuring_task(
    models: Mapping[str, Model],
    data: Path | None,
    sigma: float | None = None,
    name: str | None = None,
    *,
    num_images: int | None = None,
    teacher: Model | None = None,
) -> tuple[str, Any]:
    """The task that measures these models, in words and built: what the first of them was made for unless ``name``.

    Args:
        models: by name.
        data: a folder of images or an IDX file to measure on.
        sigma: noise level of denoisers.
        name: of another task.
        num_images: how many images are drawn, by tasks that draw.
        teacher: a model that the others are measured against.

    Raises:
        UserError: for arguments that do not fit, for models that do not fit the task or each other, and for such as
            draw in different ways: one task draws for all.
    """
    first = next(iter(models.values()))
    made_for = "few_steps" if "sampler" in first.task else str(first.task.get("name", "denoise"))
    parties = [Party(called=model.name, net=model.net, made_for=model.task) for model in models.values()]
    parties += [Party(called=teacher.name, net=teacher.net, made_for=teacher.task)] if teacher is not None else []
    for party in parties:
        kind = str(party.made_for.get("name", "denoise"))
        if name is None and not are_alike(kind, made_for):
            raise UserError(f"{first.name} was made to {made_for} and {party.called} to {kind}: measure those together "
                            "that were made for one task")  # fmt: skip
        if name is not None and not are_alike(kind, name):
            raise UserError(f"{party.called} was made to {kind}, not to {name}: measure it by {kind}")
    for model in models.values():
        if _sampler(model) != _sampler(first):
            raise UserError(f"{first.name} and {model.name} draw in different ways: compare those that draw alike, "
                            "beside their teacher")  # fmt: skip
    name = name or made_for
    words, task = _denoising(models, data, sigma) if name == "denoise" else _task(first, data, sigma, name, num_images)
    check_fit(Use(name=name), task, [task.example()], parties)
    return words, task


def _task(first: Model, data: Path | None, sigma: float | None, name: str, num_images: int | None) -> tuple[str, Any]:
    """A task by what the first model says of its own."""
    if sigma is not None:
        raise UserError(f"--sigma is for denoisers, and {first.name} was made to {name}: leave it out")
    drawn = {} if num_images is None else {"num_images": num_images}
    told = {"patch": first.task["size"], **first.task, **drawn} if "size" in first.task else {**first.task, **drawn}
    known = registry.accepted("task", name, {key: value for key, value in told.items() if key != "name"})
    use = Use(name=name, args=known)
    given: dict[str, Any] = {}
    if data is not None and registry.accepts("task", name, "evaluate"):
        given = {"evaluate": _images(data)}
    elif data is not None:
        given = {"images": _images(data, whole=True)}
        given |= {"data": True} if registry.accepts("task", name, "data") else {}
    return f"{use} on {data}" if data else str(use), registry.build("task", Use(name=name, args={**known, **given}))


def task_of(model: Model) -> Task:
    """The task of the run that made a model, where the model lies in its run folder; what it says of itself otherwise.

    Raises:
        UserError: if neither says enough.
    """
    run = None if model.home is None else model.home.parent / "recipe.json"
    if run is not None and run.is_file():
        try:
            task: Task = registry.build("task", recipes.read(run).task)
        except (UserError, OSError):  # images of the run that are gone, say
            pass
        else:
            return task
    try:
        task = measuring_task({model.name: model}, None)[1]
    except UserError as error:
        raise UserError(f"{model.name} does not say enough of its task ({error}): name it with --recipe") from None
    return task


def _sampler(model: Model) -> list[Any]:
    """How a model draws in few steps; nothing of a model that does not."""
    return [model.task.get(key) for key in ("sampler", "table", "steps")]


def _images(data: Path, **more: Any) -> dict[str, Any]:
    """The source of images in a folder, or in a file in the IDX format of MNIST."""
    if data.is_file():
        return {"name": "idx", "args": {"images": str(data)}}
    return {"name": "folder", "args": {"path": str(data), **more}}


def _denoising(models: Mapping[str, Model], data: Path | None, sigma: float | None) -> tuple[str, Any]:
    channels = {model.channels for model in models.values() if model.task.get("channels") != "both"}
    if len(channels) > 1:
        raise UserError("grey and colour models cannot be compared on the same images: compare them apart")
    gallery = {"name": "photographs"} if data is None else {"name": "folder", "args": {"path": str(data)}}
    if not channels:
        channels = {1 if data is not None and make_images(gallery).picture(0).ndim == 2 else 3}
    made_for = next(iter(models.values())).task.get("sigma", 25)
    args = {"sigma": made_for if sigma is None else sigma, "channels": channels.pop()}
    words = f"{Use(name='denoise', args=args)} on {data or 'the bundled photographs'}"
    return words, registry.build("task", Use(name="denoise", args={**args, "evaluate": gallery}))
