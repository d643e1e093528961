"""Ask the teacher about inputs that nobody has the truth for."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, get_args

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdgen.methods.layer_matching import outputs
from kdgen.methods.validation import ask, check_outputs, check_same_view
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net, UserError, text
from kdgen.types.arguments import NonNegative
from kdgen.utils.distance import Distance, distance, resample

Mode = Literal["rescale", "mix", "renoise"]
Modes = Annotated[
    Sequence[Mode],
    Field(min_length=1, description=text("some_of", "a list of some of {names:, }", names=[*get_args(Mode)])),
]
Input = tuple[Tensor, Mapping[str, Tensor]]


@register("method", handle="dukd")
class Upcycling(Method):
    """Data upcycling: new inputs made from the batch, answered by the teacher (DUKD, arXiv 2309.14162).

    The paper zooms its training images in and out, and has the student see them flipped or rotated while the teacher
    sees them upright: ``L = d(A^-1(student(A(x'))), teacher(x'))``. Here ``A`` is one of the 8 flips and quarter turns.

    A denoiser's input means nothing unless its noise is still what ``cond["sigma"]`` says: white, and of that level.
    Resampling or averaging noisy pixels breaks both. So where the batch knows the truth ``y`` and the level, it is
    the truth that is rescaled or mixed, and the image's own noise ``x - y`` is added again. Where it does not:

    - ``rescale`` zooms out by two by sorting even and odd rows and columns into four small images side by side, each
      a mirror of its neighbour; this permutes pixels and so leaves white noise exactly as it was.
    - ``mix`` adds deviations from the mean with weights ``sqrt(a)`` and ``sqrt(1 - a)``, and the means with ``a`` and
      ``1 - a``: the level becomes ``sqrt(a s1^2 + (1 - a) s2^2)``, and so does the contrast.
    - ``renoise`` adds noise of level ``e`` and says ``sqrt(s^2 + e^2)``; with a truth it draws all of that afresh. It
      is for nets that know a range of levels (or, with a truth and ``extra_sigma`` 0, for fresh noise at the same).

    Each step draws one of the modes. The teacher answers anew every time; ``share`` bounds what that costs.

    Args:
        modes: which inputs to make: ``rescale``, ``mix``, ``renoise``.
        share: share of the batch that is upcycled in each step, above 0 and at most 1, at least one image.
        loss: ``l1``, ``l2``, ``charbonnier`` or ``huber``.
        zoom: rescaling is by a factor between ``1 / zoom`` and ``zoom``, at least 1, where the truth is known.
        extra_sigma: largest extra noise of ``renoise``, in 8-bit units.
        consistency: whether the student sees its inputs flipped and turned.

    Raises:
        UserError: for unknown modes or numbers out of range; in ``attach`` where student and teacher see different
            inputs, for conditions other than ``sigma``, and for ``renoise`` without it.
    """

    reads = frozenset()

    def __init__(
        self,
        modes: Modes = ("rescale", "mix"),
        share: Annotated[float, Field(ge=1e-6, le=1)] = 0.5,
        loss: Distance = "l2",
        zoom: Annotated[float, Field(ge=1)] = 2.0,
        extra_sigma: NonNegative = 10.0,
        consistency: bool = True,
    ) -> None:
        super().__init__()
        self.modes, self.share, self.kind, self.zoom = tuple(modes), share, loss, zoom
        self.extra, self.consistency = 2 * extra_sigma / 255, consistency

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Check that new inputs can be made of such batches. Raises UserError where they cannot."""
        check_same_view("upcycling", batch)
        if batch.x.ndim != 4:
            shape = tuple(batch.x.shape[1:])
            raise UserError(text("upcycling_images", "upcycling makes new images, but the nets are given {shape}: "
                                 "leave it out", shape=str(shape)))  # fmt: skip
        check_outputs("upcycling", *outputs(student, teacher, batch), images=True)
        unknown = sorted(set(batch.cond) - {"sigma"})
        if unknown:
            raise UserError(text("upcycling_condition", "upcycling cannot make inputs for the condition {name!r}: "
                                 "use another method", name=str(unknown[0])))  # fmt: skip
        if "renoise" in self.modes and "sigma" not in batch.cond:
            raise UserError(text("upcycling_renoise", "upcycling: renoise needs a task that tells the noise level; "
                                 "leave it out of modes"))  # fmt: skip

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """``d(A^-1(student(A(x'))), teacher(x'))``, ``(B,)``; draws from the global generator.

        Only the first images of the batch are upcycled; theirs are scaled so that the mean over the batch is the mean
        over them, and the others' are 0.
        """
        size = len(inputs.batch.x)
        count = max(1, round(self.share * size))
        x, cond = self.upcycle(inputs.batch, count)
        turn = int(torch.randint(8, ())) if self.consistency else 0
        with torch.no_grad():
            teacher = ask(inputs.teacher_net, x, cond)
        student = turned_back(ask(inputs.student_net, turned(x, turn), cond), turn)
        error = distance(self.kind, student, resample(teacher, student))
        return torch.cat([error * (size / count), error.new_zeros(size - count)])

    def upcycle(self, batch: Batch, count: int) -> Input:
        """New inputs ``(count, C, H, W)`` and their conditions, of a mode drawn at random."""
        mode = self.modes[int(torch.randint(len(self.modes), ()))]
        if mode == "rescale":
            return rescaled(batch, count, self.zoom)
        return mixed(batch, count) if mode == "mix" else renoised(batch, count, self.extra)


def rescaled(batch: Batch, count: int, zoom: float) -> Input:
    """The first images of a batch seen closer or from further away, with the noise they had, see ``Upcycling``."""
    x, cond = batch.x[:count], {key: value[:count] for key, value in batch.cond.items()}
    clean = _truth(batch)
    if clean is None:
        return tiled(tiled(x).mT).mT, cond
    return zoomed(clean[:count], zoom) + (x - clean[:count]), cond


def mixed(batch: Batch, count: int) -> Input:
    """The first images of a batch, each blended with another of the batch, see ``Upcycling``."""
    size = len(batch.x)
    shift = 1 + int(torch.randint(max(size - 1, 1), ()))
    a = torch.rand(count, 1, 1, 1, device=batch.x.device)

    def pair(t: Tensor) -> tuple[Tensor, Tensor]:
        return t[:count], t.roll(-shift, 0)[:count]

    first, second = pair(batch.x)
    truth = _truth(batch)
    if truth is not None:
        clean, other_clean = pair(truth)
        return a * clean + (1 - a) * other_clean + (first - clean), {"sigma": batch.cond["sigma"][:count]}
    mean, other_mean = first.mean((2, 3), keepdim=True), second.mean((2, 3), keepdim=True)
    x = a * mean + (1 - a) * other_mean + a.sqrt() * (first - mean) + (1 - a).sqrt() * (second - other_mean)
    if "sigma" not in batch.cond:
        return x, {}
    sigma, other_sigma = pair(batch.cond["sigma"])
    weight = a.flatten()
    return x, {"sigma": (weight * sigma.square() + (1 - weight) * other_sigma.square()).sqrt()}


def renoised(batch: Batch, count: int, extra: float) -> Input:
    """The first images of a batch with up to ``extra`` more noise, in units of the image range, see ``Upcycling``."""
    x, sigma = batch.x[:count], batch.cond["sigma"][:count]
    extra_level = extra * torch.rand_like(sigma)
    level = (sigma.square() + extra_level.square()).sqrt()
    truth = _truth(batch)
    clean, noise_level = (x, extra_level) if truth is None else (truth[:count], level)
    return clean + noise_level.view(-1, 1, 1, 1) * torch.randn_like(x), {"sigma": level}


def zoomed(image: Tensor, zoom: float) -> Tensor:
    """Images ``(B, C, H, W)`` scaled by factors of ``1 / zoom`` to ``zoom`` about random places, size kept.

    Bilinear; what lies beyond the edge is mirrored.
    """
    extent = torch.exp((2 * torch.rand(len(image), device=image.device) - 1) * math.log(zoom))
    place = (2 * torch.rand(2, len(image), device=image.device) - 1) * (1 - extent).abs()
    zero = torch.zeros_like(extent)
    rows = torch.stack([torch.stack([extent, zero, place[0]], -1), torch.stack([zero, extent, place[1]], -1)], 1)
    grid = F.affine_grid(rows, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def tiled(image: Tensor) -> Tensor:
    """Even columns, then odd ones in reverse order: two narrow images side by side, the second mirrored."""
    return torch.cat([image[..., 0::2], image[..., 1::2].flip(-1)], -1)


def turned(image: Tensor, turn: int) -> Tensor:
    """An image ``(B, C, H, W)`` under one of the 8 flips and quarter turns, counted from 0 for none."""
    rotated = image.rot90(turn % 4, (2, 3))
    return rotated.flip(-1) if turn >= 4 else rotated


def turned_back(image: Tensor, turn: int) -> Tensor:
    """The inverse of ``turned``."""
    return (image.flip(-1) if turn >= 4 else image).rot90(-turn % 4, (2, 3))


def _truth(batch: Batch) -> Tensor | None:
    has_truth = batch.y is not None and batch.y.shape == batch.x.shape and "sigma" in batch.cond
    return batch.y if has_truth else None
