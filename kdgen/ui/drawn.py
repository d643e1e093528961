"""Models that draw, side by side: from the same latents or noise, of the same words, at what each costs."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdgen.metrics import perceptual, psnr, ssim
from kdgen.models.abilities import reads_words
from kdgen.models.adapters.latent_form import LatentForm
from kdgen.models.drawing import captions_of
from kdgen.models.model import Model
from kdgen.models.sampling import counting
from kdgen.models.task_arguments import task_class
from kdgen.report import sample_grids
from kdgen.report.captions import shortened
from kdgen.report.compare import compare
from kdgen.report.report import Report
from kdgen.tasks.drawing import fitted
from kdgen.tasks.infer_task import measuring_task
from kdgen.types import Text, UserError, text
from kdgen.ui.comparing import Options, shared_task
from kdgen.ui.side_by_side import Shown, drawn_sheet, side_by_side
from kdgen.ui.timed import timed

NOTES = 4
"""Notes on a comparison, at most."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a model drew.

    Attributes:
        images: ``(N, C, H, W)`` in [-1, 1].
        calls: of the net, for an image, those that guidance asks for a second time among them.
        prompt: what it was asked for; empty where it reads no words.
        captions: the classes of its images, where it was told such in turn.
        notes: what it warned of.
    """

    images: Tensor
    calls: int
    prompt: str
    captions: Sequence[str]
    notes: Sequence[Text]


def of_latents(models: Mapping[str, Model]) -> bool:
    """Whether models are pipelines of latents, told words or a class, one and all."""
    return all(isinstance(model.net, LatentForm) for model in models.values())


def drawings(models: Mapping[str, Model], options: Options) -> dict[str, Drawn]:
    """What models draw, each in its steps, words and guidance.

    Raises:
        UserError: where one of them reads words and there are none.
    """
    shared_task(models)
    worded = [name for name, model in models.items() if reads_words(model.net)]
    if worded and not options.prompt:
        raise UserError(text("prompt_empty", "{name} draws what words ask for: write a prompt, red heart say",
                             name=worded[0]))  # fmt: skip
    return {name: _drawn(model, options, beside=bool(worded)) for name, model in models.items()}


def _drawn(model: Model, options: Options, *, beside: bool) -> Drawn:
    """``beside`` says whether others of the comparison read words."""
    reads, notes = reads_words(model.net), list[Text]()
    if beside and not reads:
        notes.append(text("draws_wordless", "{name} reads no words: it draws without the prompt", name=model.name))
    with warnings.catch_warnings(record=True) as caught, counting(model.net) as counts:
        warnings.simplefilter("always", UserWarning)
        images = draw(model, options.num_images, options.seed, options.num_steps, prompt=options.prompt,
                      guidance=options.guidance)  # fmt: skip
    said = (each.message.args[0] for each in caught if isinstance(each.message, UserWarning))
    captions = [] if reads else captions_of(model.net, model.task, options.num_images)
    calls = max(sum(counts) // options.num_images, 1)
    return Drawn(
        images,
        calls,
        options.prompt if reads else "",
        captions,
        [*notes, *(each for each in said if isinstance(each, Text))],
    )


def draw(
    model: Model, num_images: int, seed: int, num_steps: int | None, *, prompt: Any = None,
    guidance: float | None = None,
) -> Tensor:  # fmt: skip
    """Images of a model; what it is not made to be told is of no account to it.

    Args:
        model: draws them.
        num_images: how many.
        seed: of the latents or the noise.
        num_steps: of those made to draw in few and of pipelines of latents; 0 or None is as many as they were made for.
        prompt: one or several in turn, for those that read words.
        guidance: of pipelines of latents.
    """
    if task_class(model.task).draws is None:
        _, task = measuring_task({model.name: model}, None)
        images: Tensor = task.draw(model.net, num_images=num_images, seed=seed)
        return images
    latents, few = isinstance(model.net, LatentForm), "sampler" in model.task
    return model.draw(num_images, seed=seed, num_steps=num_steps or None if latents or few else None,
                      prompt=prompt or None if reads_words(model.net) else None,
                      guidance=guidance if latents else None)  # fmt: skip


def side_by_side_of(drawn: Mapping[str, Drawn]) -> Shown:
    """Drawings of two models or more as pictures."""
    images, captions = {name: each.images for name, each in drawn.items()}, [each.captions for each in drawn.values()]
    first, second, *_ = images.values()
    told = captions[0] if all(each == captions[0] for each in captions) else ()
    grid = drawn_sheet(lambda path: sample_grids.drawings(path, images, told))
    notes = dict.fromkeys(note for each in drawn.values() for note in each.notes)
    return side_by_side(first, second, grid, max(each.prompt for each in drawn.values()), list(notes)[:NOTES])


def measured(models: Mapping[str, Model], drawn: Mapping[str, Drawn], options: Options) -> Report:
    """What pipelines of latents cost, as they drew, and how near their drawings are to those of the first."""
    facts, (reference, *_) = shared_task(models), drawn
    examples = {name: _example(model.net) for name, model in models.items()}
    rows, busy_cores = timed(models, examples, {name: each.calls for name, each in drawn.items()})
    near = [{}, *(_agreement(each.images, drawn[reference].images) for each in list(drawn.values())[1:])]
    rows = [row.model_copy(update={"metrics": figures}) for row, figures in zip(rows, near, strict=True)]
    asked = f' "{shortened(options.prompt)}"' if any(each.prompt for each in drawn.values()) else ""
    note = text("measured_prompt", "Figures are those of the {count} pictures above, from noise of seed {seed}, "
                "against the pictures of {name}; calls of a net are counted as it draws.", count=options.num_images,
                seed=options.seed, name=reference)  # fmt: skip
    notes = dict.fromkeys([note, *(told for each in drawn.values() for told in each.notes)])
    return compare(rows, task=f"{facts['name']}{asked}", per=text("an_image", "an image"), notes=list(notes),
                   busy_cores=busy_cores)  # fmt: skip


def _agreement(images: Tensor, target: Tensor) -> dict[str, float]:
    """PSNR in dB, SSIM and perceptual distance of images to others from the same noise, as large as those."""
    images = fitted(images, target.shape[-1])
    with torch.inference_mode():
        apart = perceptual("features32")(images, target)
    return {"psnr": psnr(images, target).mean().item(), "ssim": ssim(images, target).mean().item(),
            "perceptual": apart.mean().item()}  # fmt: skip


def _example(net: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """One flat latent at the noise level 1, and what else the net is told."""
    return torch.zeros(1, net.latent_channels, net.size, net.size), {"sigma": torch.ones(1), **net.example()}


__all__ = ["Drawn", "draw", "drawings", "measured", "of_latents", "side_by_side_of"]
