"""A picture of what a student does, for its page."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from kdgen import registry
from kdgen.data import framed
from kdgen.data.photographs import Photographs
from kdgen.models.abilities import Scheduled
from kdgen.models.drawing import captions_of
from kdgen.models.model import Model
from kdgen.models.task_arguments import changes_images, task_class
from kdgen.report.captions import information
from kdgen.report.sample_grids import tiles
from kdgen.types import UserError
from kdgen.utils.convert import sheet, to_pictures
from kdgen.utils.seed import generator

DRAWN = 16
SIZE = 144
"""Height and width of a photograph in pixels."""

NUM_STEPS = 50
"""Steps of a diffusion model's sampler, where it would take more by itself."""


def gallery(model: Model, path: Path) -> None:
    """Write a picture: images that the student draws, or photographs before and after it.

    A student that does neither leaves none.
    """
    try:
        drawn = model.draw(DRAWN, seed=0, num_steps=_steps(model))
        captions = captions_of(model.net, model.task, DRAWN)
        pictures = tiles(drawn, captions) if captions else to_pictures(drawn)
        sheet(pictures).save(path, pnginfo=information(captions))
    except UserError:
        if model.task.get("name") not in registry.names("task") or not changes_images(model.task):
            return
        try:
            _before_and_after(model, path, SIZE)
        except RuntimeError:  # a fully connected net takes one size alone
            if "size" not in model.task:
                raise
            _before_and_after(model, path, int(model.task["size"]))


def _steps(model: Model) -> int | None:
    """At most ``NUM_STEPS``; None for a net that draws without a scheduler, or was made for a number of steps."""
    scheduler: Any = model.net.scheduler if isinstance(model.net, Scheduled) else None
    if scheduler is None or "steps" in model.task:
        return None
    return min(NUM_STEPS, int(scheduler.config.num_train_timesteps))


@torch.inference_mode()
def _before_and_after(model: Model, path: Path, size: int) -> None:
    """Four photographs of ``size`` in two rows: what the student is given, and what it makes of them."""
    images = torch.cat([framed(x, size) for _, x in Photographs().images(model.channels)][1:])
    task, levels = task_class(model.task), model.task.get("sigma", 25)
    sigma = float(levels if isinstance(levels, int | float) else levels[-1])
    shown = task.degrade(images, model.task, sigma=sigma, random=generator(0, "gallery"))
    inputs = shown.x
    outputs = model.restore(inputs, sigma, shown.cond.get("mask")) if task.tiled else model.eval().net(inputs)
    if inputs.shape != outputs.shape:
        inputs = F.interpolate(inputs, outputs.shape[-2:], mode="bicubic", antialias=True)
    rows = torch.cat([inputs, outputs]).clamp(-1, 1)
    sheet(to_pictures(rows), columns=len(images)).save(path)
