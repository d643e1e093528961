"""What an exported net is checked and calibrated on: inputs of its own task, of even and of odd sizes."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from kdgen.data.source import Gallery
from kdgen.models.input_shape import InputShape, mirrored
from kdgen.models.model import Model
from kdgen.report.sample_grids import Pictured
from kdgen.tasks.autoencode import Autoencode
from kdgen.tasks.diffuse import Diffuse
from kdgen.types import Batch, Task
from kdgen.utils.conditions import with_maps

CHECKED = 3
"""How many images parity is measured on, each at several sizes."""


def evaluation_inputs(model: Model, task: Task) -> list[Batch]:
    """A few inputs of the task's evaluation images, or else of its batches."""
    if isinstance(task, Pictured):
        return [batch for _, batch in task.evaluation_images(limit=CHECKED)]
    if isinstance(task, Autoencode) and isinstance(task.gallery, Gallery):
        return [Batch(x=task.seen(y)) for _, y in islice(task.gallery.images(task.channels), CHECKED)]
    return [training_inputs(model, task, count=CHECKED, seed=1)]


def training_inputs(model: Model, task: Task, *, count: int, seed: int = 0) -> Batch:
    """A batch as the task trains on it; a diffusion net is shown images that it draws itself, under noise."""
    if isinstance(task, Diffuse):
        y = task.draw(model.net, num_images=count, seed=seed)
        return task.resample_noise(Batch(x=y, y=y), seed=seed)
    return next(iter(task.batches(batch_size=count, seed=seed)))


def at_sizes(batch: Batch, taken: InputShape | None) -> Iterator[Batch]:
    """A batch as near its own size as is taken, and doubled and cut to odd sizes where height and width are free.

    Args:
        batch: ``x`` ``(B, C, H, W)``, or of another rank.
        taken: the heights and widths; None for inputs that have none, which are given as they are.
    """
    if taken is None:
        yield batch
        return
    multiple = taken.multiple
    height, width = (side // multiple for side in batch.x.shape[-2:])
    yield at_size(batch, *taken.at_least(height * multiple, width * multiple))
    for tall, wide in ((_odd(height - 1), _odd(width - 4)), (_odd(height // 5), _odd(width // 3))):
        if min(tall, wide) > 0 and taken.takes(tall * multiple, wide * multiple):
            one = at_size(batch, tall * multiple, wide * multiple)
            other = with_maps(one.cond, one.x, lambda each: each.flip(-1))
            yield Batch(x=torch.cat([one.x, one.x.flip(-1)]),
                        cond={name: torch.cat([value, other[name]]) for name, value in one.cond.items()})  # fmt: skip


def at_size(batch: Batch, height: int, width: int) -> Batch:
    """A batch whose images, and the maps that are as large, are continued by mirroring or cut to a size."""
    x = mirrored(batch.x, height, width)
    return Batch(x=x, cond=with_maps(batch.cond, batch.x, lambda each: mirrored(each, height, width)))


def _odd(number: int) -> int:
    return number - 1 + number % 2


def conditions(batch: Batch, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """The input and those conditions that a graph takes, in its order."""
    return (batch.x, *(batch.cond[name] for name in names))
