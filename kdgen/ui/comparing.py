"""Models side by side on one input: pictures first, then what they cost and how good they are."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import torch
from PIL import Image
from pydantic import Field

from kdgen.data import generator
from kdgen.data.photographs import Photographs
from kdgen.models.model import Model
from kdgen.models.task_arguments import changes_images, task_class, task_name
from kdgen.report import compare, sample_grids
from kdgen.report.report import Report, Role, heading
from kdgen.tasks.infer_task import measuring_task
from kdgen.types import Batch, UserError, text
from kdgen.types.arguments import Share, Sigma, check_argument
from kdgen.ui.as_pictured import as_pictured, seen_through
from kdgen.ui.limits import Limits
from kdgen.ui.side_by_side import Shown, drawn_sheet, side_by_side
from kdgen.ui.undone import generalists_last, in_words, specialists
from kdgen.ui.visitors import PROMPT
from kdgen.utils.conditions import call, conditions_of
from kdgen.utils.convert import from_picture, to_pictures

MEASURED = 200
"""Images on which nets that draw are measured here, fewer than in a run's report."""

MOST_GUIDANCE = 100.0

MOST_ENLARGED = 1024 * 1024
"""Pixels that a comparison enlarges a picture to: of one that would become more, the middle is taken."""

OWN_PHOTOGRAPHS = text("on_own_photographs", "All of it on the photographs that come with kdgen, whichever is shown.")


@dataclass(frozen=True, slots=True)
class Options:
    """The numbers of a comparison.

    Attributes:
        sigma: noise that is added, in 8-bit units.
        seed: of the noise or the latents.
        num_images: how many images models draw.
        num_steps: in how many steps, by those made to draw in few and by pipelines of latents; 0 is as many as each was
            made for.
        noisy: whether the picture is damaged already, and nothing is done to it.
        strength: of other damage that is done, in [0, 1].
        prompt: what models of words are asked for.
        guidance: how far pipelines go towards that; None is each one's own.
    """

    sigma: float
    seed: int
    num_images: int
    num_steps: int
    noisy: bool = False
    strength: float = 0.5
    prompt: str = ""
    guidance: float | None = None

    @classmethod
    def within(
        cls,
        limits: Limits,
        *,
        sigma: Any,
        seed: Any,
        num_images: Any,
        num_steps: Any,
        noisy: bool = False,
        strength: Any = 0.5,
        prompt: Any = "",
        guidance: Any = None,
    ) -> Self:
        """The numbers and words as a visitor gave them. Raises UserError for what is none, or not within the limits."""
        check_argument("compare", "sigma", sigma, Sigma)
        check_argument("compare", "strength", strength, Share)
        for name, value, least, most in (("seed", seed, 0, 2**53), ("num_images", num_images, 1, limits.images),
                                         ("num_steps", num_steps, 0, limits.num_steps)):  # fmt: skip
            check_argument("compare", name, value, Annotated[float, Field(ge=least, le=most)])
        if guidance is not None:
            check_argument("compare", "guidance", guidance, Annotated[float, Field(ge=0, le=MOST_GUIDANCE)])
            guidance = float(guidance)
        words = " ".join(str(prompt or "").split())
        if len(words) > PROMPT:
            raise UserError(text("prompt_too_long", "a prompt has at most {most:,} characters here, not {count:,}: say "
                                 "it in fewer", most=PROMPT, count=len(words)))  # fmt: skip
        return cls(float(sigma), int(seed), int(num_images), int(num_steps), noisy, float(strength), words, guidance)


@dataclass(frozen=True)
class _Photograph:
    """One picture as a task that can be shown."""

    batch: Batch
    name: str = field(default="picture")
    gives: ClassVar[str] = "images"

    def evaluation_images(self, *, seed: int = 0, limit: int | None = None) -> Iterator[tuple[str, Batch]]:
        """The picture."""
        yield self.name, self.batch

    def pictured(self, answer: torch.Tensor) -> torch.Tensor:
        """Answers are pictures."""
        return answer


def shared_task(models: Mapping[str, Model]) -> Mapping[str, Any]:
    """What models say of the task that all of them do: a specialist's, beside a generalist that does it among others.

    Raises:
        UserError: if they do different things.
    """
    names = {task_name(model.task) for model in models.values()}
    if len(names) != 1:
        raise UserError(text("different_tasks", "these models do different things ({names:, }): compare those that do "
                             "the same", names=sorted(names)))  # fmt: skip
    return next(iter(generalists_last(models).values())).task


def on_photograph(
    models: Mapping[str, Model], picture: Image.Image, options: Options, mask: Image.Image | None = None
) -> Shown:
    """Models on a photograph.

    Args:
        models: by name; one alone is shown beside its input.
        picture: grey or RGB.
        options: how it is damaged; not at all, and without a truth, where it is damaged already.
        mask: what is missing of it, light, for models that are told; drawn by chance if not given, and of no account
            where none of them is.
    """
    mask = _heeded(mask, models)
    if options.noisy and mask is None:
        picture = _middle(picture, MOST_ENLARGED / int(shared_task(models).get("scale", 1)) ** 2)
    batch = shown_to(models, from_picture(picture)[0], options, mask)
    seed = None if options.noisy else options.seed
    nets = {name: as_pictured(model, options.sigma, seed) for name, model in models.items()}
    with torch.inference_mode():
        made = [call(net, batch.x, batch.cond) for net in list(nets.values())[:2]]
    first, second = made if len(made) > 1 else (batch.x, made[0])
    task = _Photograph(batch)
    grid = drawn_sheet(lambda path: sample_grids.samples(path, task, nets, limit=1))
    return side_by_side(first, second, grid, notes=() if options.noisy else seen_through(models))


def shown_to(
    models: Mapping[str, Model], clean: torch.Tensor, options: Options, mask: Image.Image | None = None
) -> Batch:
    """What models are shown and told of a picture ``(1, C, H, W)`` in [-1, 1]; see ``on_photograph``."""
    facts = shared_task(models)
    task = task_class(facts)
    if mask is not None:
        height, width = clean.shape[-2:]
        missing = (from_picture(mask.convert("L").resize((width, height)))[0] > 0).to(clean)
        return Batch(x=clean * (1 - missing), y=clean, cond={"mask": missing})
    damaged = task.degrade(clean, facts, sigma=options.sigma, strength=options.strength,
                           random=generator(options.seed, "compare"))  # fmt: skip
    if options.noisy:  # how dark it is, its strength says
        return Batch(x=clean, cond={name: value for name, value in damaged.cond.items() if name == "stops"})
    return damaged


def full_size(
    models: Mapping[str, Model], picture: Image.Image, folder: Path, options: Options, mask: Image.Image | None = None,
    *, most: float = math.inf,
) -> list[str]:  # fmt: skip
    """What restorers make of a picture at full size, tile by tile, as PNG files beside the one that they were shown.

    Args:
        models: by name.
        picture: grey or RGB.
        folder: where the files go.
        options: as for ``on_photograph``.
        mask: the same.
        most: pixels that a picture becomes.

    Returns:
        the names of the files, the one before them first.

    Raises:
        UserError: for models that do not work by tiles, and where a picture is to become larger than ``most``.
    """
    facts = shared_task(models)
    if not task_class(facts).tiled or not changes_images(facts):
        raise UserError(text("full_size_tiled", "pictures are made at full size by models that restore them tile by "
                             "tile: choose such"))  # fmt: skip
    pixels = picture.width * picture.height * (int(facts.get("scale", 1)) ** 2 if options.noisy else 1)
    if pixels > most:
        raise UserError(text("enlarged_too_large", "this picture would have {pixels:.1f} million pixels once it is "
                             "enlarged, and {most:.1f} million are the most: choose a smaller one",
                             pixels=pixels / 1e6, most=most / 1e6))  # fmt: skip
    batch = shown_to(models, from_picture(picture)[0], options, _heeded(mask, models))
    written, seed = [], None if options.noisy else options.seed
    for number, (name, model) in enumerate([("before", None), *models.items()]):
        made = batch.x if model is None else call(as_pictured(model, options.sigma, seed), batch.x, batch.cond)
        safe = re.sub(r"[^\w.-]+", "-", name)[:60]
        written.append(f"{number}-{safe}.png" if number else "before.png")
        to_pictures(made.clamp(-1, 1))[0].save(folder / written[-1], compress_level=3)
    return written


def measured(models: Mapping[str, Model], *, sigma: float | None = None) -> Report:
    """Cost and quality of models, the first as the reference; latency is this machine's, now."""
    facts = shared_task(models)
    sigma = sigma if task_class(facts).takes_sigma else None
    (_, first), *others = models.items()
    changes = changes_images(facts)
    if "sampler" in first.task:
        raise UserError(text("teacher_first", "{name} draws in few steps and is measured against its teacher: name "
                             "that first",
                             name=first.name))  # fmt: skip
    # the first is drawn as a teacher is, in many steps, whatever the others do
    judged = generalists_last(models) if changes else dict(others) or models
    title, task = measuring_task(judged, None, sigma, num_images=None if changes else MEASURED)
    leading: Role = "teacher" if len(models) > 1 else "model"
    rows = [
        compare.measure("model" if number else leading, model.net, task, name=name, reference=first.net,
                        limit=_limit(task), timed=False)
        for number, (name, model) in enumerate(models.items())
    ]  # fmt: skip
    rows, busy_cores = compare.in_turn(
        [(row, model.net) for row, (_, model) in zip(rows, models.items(), strict=True)], task
    )
    drawn = isinstance(task, sample_grids.Drawn) and not isinstance(task, sample_grids.Pictured)
    notes = [task.describe_evaluation(reference=first.net)] if drawn else [task.describe_evaluation()]
    notes += [OWN_PHOTOGRAPHS] if changes else []
    return compare.compare(
        rows,
        task=in_words(task.describe()) or title,
        primary_metric=task.primary_metric,
        per=compare.per_image(task),
        notes=notes,
        busy_cores=busy_cores,
    )


def tradeoff(report: Report) -> tuple[list[tuple[str, float, float]], str]:
    """Name, multiply-accumulates an image and quality of every sound model; and what the quality is called."""
    key = report.primary_metric
    points = [(str(row.name), float(row.macs * row.calls), row.metrics[key])
              for row in report.rows if key in row.metrics and not row.fault]  # fmt: skip
    return points, heading(key)


def photographs() -> dict[str, Image.Image]:
    """Photographs that are at hand, by name."""
    source = Photographs()
    return {name: Image.fromarray(source.picture(index)) for index, name in enumerate(source.names)}


def _heeded(mask: Image.Image | None, models: Mapping[str, Model]) -> Image.Image | None:
    """A mask where any of the models is told what is missing."""
    narrow = specialists(model.task for model in models.values())
    told = (model for model in models.values() if "mask" in (conditions_of(model.net) or ()))
    return mask if any(model.task in narrow for model in told) else None


def _middle(picture: Image.Image, pixels: float) -> Image.Image:
    """The middle of a picture, of so many pixels at most."""
    share = min((pixels / (picture.width * picture.height)) ** 0.5, 1.0)
    width, height = (int(side * share) for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _limit(task: Any) -> int | None:
    return None if isinstance(task, sample_grids.Pictured) else MEASURED
