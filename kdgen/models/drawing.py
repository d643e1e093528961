"""Images drawn by a model as users ask for them: by number, class, words, guidance."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kdgen.models.abilities import Generating, Guided, reads_words
from kdgen.models.parts import Drawn
from kdgen.models.task_arguments import task_class
from kdgen.types import Net, UserError, text
from kdgen.types.arguments import NonNegative, check_argument


def draw_by_name(
    net: Net,
    name: str,
    channels: int,
    task: Mapping[str, Any],
    num_images: int,
    *,
    seed: int,
    num_steps: int | None,
    label: int | Sequence[int] | None,
    prompt: str | Sequence[str] | None,
    guidance: float | None,
    progress: Drawn | None,
) -> Tensor:
    """Images ``(num_images, C, H, W)`` of a model of this name, channels and task; see ``Model.draw``."""
    if num_images < 1:
        raise UserError(text("images_least", "the number of images is at least 1, not {count}", count=num_images))
    num_steps = num_steps or next(iter(task.get("steps", ())), None)
    labels, words = _labels(name, task, label), _words(net, name, task, prompt, guidance)
    if isinstance(net, Generating):
        told = {} if labels is None else {"label": torch.tensor(labels)[torch.arange(num_images) % len(labels)]}
        return net.generate(num_images, seed=seed, num_steps=num_steps, progress=progress, **told, **words).cpu()
    made_for = task_class(task)
    if made_for.draws is None:
        raise UserError(text("draws_nothing", "{name} draws no images, it was made to {task}: name a generator "
                             "or a diffusion model", name=name,
                             task=task.get("name", text("change_them", "change them"))))  # fmt: skip
    for key in made_for.needed_facts:
        if key not in task:
            raise UserError(text("draws_with", "{name} does not say the {key} it draws with: declare task.{key}",
                                 name=name, key=key))  # fmt: skip
    return made_for.draw_model(net, {**task, "channels": channels}, num_images, seed=seed, num_steps=num_steps,
                               labels=labels, progress=progress)  # fmt: skip


def captions_of(net: Net, task: Mapping[str, Any], num_images: int) -> list[str]:
    """What each of the first images of a pipeline was asked for where nobody says: prompts or classes, in turn.

    Args:
        net: of any model; of those that are told neither there is nothing to say.
        task: what the model says of its task.
        num_images: how many.
    """
    if not isinstance(net, Guided):
        return []
    classes = [f"class {number}" for number in range(int(task.get("num_classes") or 0))]
    turn = list(task.get("prompts", ())) if reads_words(net) else classes
    return [turn[number % len(turn)] for number in range(num_images)] if turn else []


def _labels(name: str, task: Mapping[str, Any], label: int | Sequence[int] | None) -> list[int] | None:
    """The classes to draw; None for all of them in turn, or of a model without classes."""
    if label is None:
        return None
    labels = [label] if isinstance(label, int) else list(label)
    num_classes = int(task.get("num_classes") or 0)
    if not num_classes:
        raise UserError(text("draws_without_classes", "{name} draws images without classes: leave label out",
                             name=name))  # fmt: skip
    if not labels or not all(0 <= each < num_classes for each in labels):
        raise UserError(text("no_such_class", "{name} knows the classes 0 to {last}, not {given}: name some of "
                             "these", name=name, last=num_classes - 1, given=str(label)))  # fmt: skip
    return labels


def _words(
    net: Net, name: str, task: Mapping[str, Any], prompt: str | Sequence[str] | None, guidance: float | None
) -> dict[str, Any]:
    """What a pipeline is told beside a class, by argument; empty for any other model."""
    reads = reads_words(net)
    if prompt is not None and not reads:
        raise UserError(text("draws_without_words", "{name} reads no words: leave prompt out, or name a model of a "
                             "text-to-image pipeline", name=name))  # fmt: skip
    if guidance is None and isinstance(net, Guided):
        guidance = task.get("guidance")
    if guidance is not None:
        if not isinstance(net, Guided):
            raise UserError(text("draws_unguided", "{name} takes no guidance: leave it out", name=name))
        check_argument(name, "guidance", float(guidance), NonNegative)
    if not reads:
        return {} if guidance is None else {"guidance": guidance}
    prompts = [prompt] if isinstance(prompt, str) else list(prompt or task.get("prompts", ()))
    if not prompts:
        raise UserError(text("draws_words", "{name} draws what words ask for: give a prompt, as by --prompt 'red "
                             "heart'", name=name))  # fmt: skip
    return {"prompts": prompts, "guidance": guidance}
