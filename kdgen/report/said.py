"""What models say of a picture: its class, the class of each place, or where it is unlike good ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from kdgen.data import framed
from kdgen.data.damages.view import view_of
from kdgen.data.pictures import to_grey, to_tensor
from kdgen.models.fault_maps import BRIGHTEST, FaultMaps, heat
from kdgen.models.model import Model
from kdgen.models.task_arguments import task_class
from kdgen.tasks.segment import labels_of
from kdgen.types import Batch, UserError, text
from kdgen.utils.conditions import call
from kdgen.utils.convert import to_pictures
from kdgen.utils.devices import device_of, evaluating
from kdgen.utils.palette import class_names, palette

About = Literal["classes", "places", "faults"]

COVER, QUIET = 0.62, 0.4
"""How much of a picture the colour of a class covers, and that of the first class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a model says of a picture.

    Attributes:
        about: what it is about.
        seen: the picture as the model saw it.
        shown: that with what is said of its places over it; the same again where it is said of the whole.
        shares: for each class its name, how probable it is or what share of the places is of it, and its number, the
            largest first; nothing of faults.
        score: the largest value of a map of faults, of which one in 200 places of good pictures exceeds 0.1.
        answer: probabilities ``(K,)``, labels ``(H, W)`` or a map ``(H, W)``, on the CPU.
    """

    about: About
    seen: Image.Image
    shown: Image.Image
    shares: tuple[tuple[str, float, int], ...] = ()
    score: float | None = None
    answer: Tensor


def about_of(facts: Mapping[str, Any]) -> About | None:
    """What a model says something about, by what it says of its task; None for one that makes or changes images."""
    task = task_class(facts)
    if task.reads != "images" or task.draws is not None:
        return None
    if task.gives == "logits":
        return "places" if task.dense else "classes"
    return "faults" if task.gives == "features" else None


def shown_to(model: Model, picture: Image.Image, *, seed: int = 0) -> Batch:
    """A picture as a model is shown it: in its channels, the size that it says it was made for, and its view.

    Args:
        model: any model of images.
        picture: grey or RGB.
        seed: of what the view draws.
    """
    x = to_tensor(np.asarray(picture), model.channels)
    if (size := model.task.get("size")) is not None:
        x = framed(x, int(size))
    elif (most := int(model.task.get("longest_side") or 0)) and max(x.shape[-2:]) > most:
        share = most / max(x.shape[-2:])
        x = F.interpolate(x, tuple(max(round(side * share), 1) for side in x.shape[-2:]), mode="area")
    view, _ = view_of(model.task)
    x, cond = view.each(x, seed)
    return Batch(x=x, cond=dict(cond))


def say(model: Model, picture: Image.Image, *, seed: int = 0) -> Said:
    """Ask a model about a picture. Takes what ``shown_to`` does.

    Raises:
        UserError: for a model that says nothing of pictures, or answers otherwise than its task says; maps of faults
            give models of ``kdgen.tasks.fault_finding.open_detector`` alone.
    """
    about, batch = about_of(model.task), shown_to(model, picture, seed=seed)
    if about == "places":
        return _places(model, batch)
    if about == "faults" and isinstance(model.net, FaultMaps):
        return _faults(_answer(model, batch, 4)[0, 0], batch.x)
    if about != "classes":
        raise UserError(text("says_nothing", "{name} says nothing of a picture by itself", name=model.name))
    sure = _answer(model, batch, 2)[0].softmax(0)
    names, (seen,) = class_names(model.task, len(sure)), to_pictures(batch.x.clamp(-1, 1))
    shares = tuple((names[number], float(sure[number]), number) for number in sure.argsort(descending=True).tolist())
    return Said(about="classes", seen=seen, shown=seen, shares=shares, answer=sure)


def agreement(first: Said, second: Said) -> float | None:
    """How far two models say the same: the probability that they share, the places of one class, the maps' correlation.

    None where they speak of other things, or other numbers of classes, or a map is the same everywhere.
    """
    one, other = first.answer, second.answer
    if first.about != second.about or len(first.shares) != len(second.shares):
        return None
    if first.about == "classes":
        return float(torch.minimum(one, other).sum())
    size = max(one.shape, other.shape, key=lambda shape: shape[0] * shape[1])
    one, other = (F.interpolate(each[None, None].float(), size, mode="nearest-exact") for each in (one, other))
    if first.about == "places":
        return float((one == other).float().mean())
    together = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
    return float(together) if together.isfinite() else None


def _answer(model: Model, batch: Batch, rank: int) -> Tensor:
    """A model's answer on the CPU in float32. Raises UserError for one of another rank, or not finite."""
    at = batch.to(device_of(model.net))
    with evaluating(model.net):
        out = call(model.net, at.x, at.cond).float().cpu()
    if out.ndim != rank:
        raise UserError(text("says_other", "{name} answers in the shape {shape}, which is not what its task says",
                             name=model.name, shape=str(tuple(out.shape))))  # fmt: skip
    if not out.isfinite().all():
        raise UserError(text("says_not_finite", "the answer of {name} is not finite", name=model.name))
    return out


def _places(model: Model, batch: Batch) -> Said:
    (labels,) = labels_of(model.net, batch)
    count = int(model.task.get("num_classes") or labels.max() + 1)
    counts = torch.bincount(labels[labels >= 0], minlength=count).double() / labels.numel()
    colours = torch.cat([palette(len(counts)), torch.zeros(1, 3)])[labels]
    cover = torch.where(labels == 0, QUIET, COVER)[..., None]
    seen, grey = _unit(batch.x), _grey(batch.x)
    base = torch.where(labels[..., None] == 0, seen, grey)
    names = class_names(model.task, len(counts))
    order = counts.argsort(descending=True, stable=True).tolist()
    return Said(about="places", seen=_picture(seen), shown=_picture(base * (1 - cover) + colours * cover),
                shares=tuple((names[number], float(counts[number]), number) for number in order),
                answer=labels)  # fmt: skip


def _faults(found: Tensor, x: Tensor) -> Said:
    seen, cover = _unit(x), (found / BRIGHTEST).clamp(0, 1)[..., None]
    coloured = (heat(found[None, None])[0].movedim(0, -1) + 1) / 2
    return Said(about="faults", seen=_picture(seen), shown=_picture(_grey(x) * (1 - cover) + coloured * cover),
                score=float(found.amax()), answer=found)  # fmt: skip


def _unit(x: Tensor) -> Tensor:
    """The image of ``(1, 1 or 3, H, W)`` in [-1, 1] as ``(H, W, 3)`` in [0, 1]."""
    return ((x[0].float().clamp(-1, 1) + 1) / 2).expand(3, -1, -1).movedim(0, -1)


def _grey(x: Tensor) -> Tensor:
    """The same without its colours."""
    return _unit(to_grey(x) if x.shape[1] == 3 else x)


def _picture(unit: Tensor) -> Image.Image:
    return Image.fromarray((unit.numpy() * 255).round().astype(np.uint8))


__all__ = ["About", "Said", "about_of", "agreement", "say", "shown_to"]
