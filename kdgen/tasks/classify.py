"""Say which class an image belongs to."""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.checks import check_count
from kdgen.data import LIGHT, Labelled, derive, generator, is_labelled, make_images, make_jitter
from kdgen.devices import device_of, evaluating
from kdgen.registry import register
from kdgen.types import Batch, Metrics, Net, UserError

CALL = 250
"""Images in one call of a net."""


@register("task")
class Classify:
    """Say which class an image belongs to; nets answer with logits ``(B, K)``.

    Args:
        images: labelled images to train on, ``{"name": ..., "args": {...}}``: ``idx`` with labels, ``folder``, where
            each picture is a class of its own, or a ``mixture`` of such, whose classes stand side by side.
        channels: 1 grey, 3 colour.
        patch: height and width of images in pixels.
        evaluate: labelled images to evaluate on, with the same classes or the first few of them; if not given, those
            to train on, drawn anew.
        augment: random changes of every image in training, ``{"scale": 0.1, "shift": 0.08, "rotation": 0, "colour":
            0, "flip": 0}``; true stands for a scale of 0.1 and a shift of 0.08, false for none.
        smoothing: the share of each label that is spread over all classes, Szegedy et al. 2016, section 7.
        num_images: how many images a net is evaluated on.

    Raises:
        UserError: for an argument that does not fit.
    """

    equivariant = False
    headline = taught_headline = "accuracy"
    quick = 1000

    def __init__(
        self,
        images: Mapping[str, Any] | Labelled,
        channels: int = 3,
        patch: int = 32,
        evaluate: Mapping[str, Any] | Labelled | None = None,
        augment: bool | Mapping[str, float] = True,
        smoothing: float = 0.0,
        num_images: int = 10_000,
    ) -> None:
        if channels not in (1, 3):
            raise UserError(f"classify: channels is 1 (grey) or 3 (colour), not {channels!r}")
        for name, value in (("patch", patch), ("num_images", num_images)):
            check_count("classify", name, value)
        if not 0 <= smoothing < 1:
            raise UserError(f"classify: smoothing is a share from 0 to below 1, not {smoothing!r}")
        self.channels, self.patch, self.smoothing, self.num_images = channels, patch, smoothing, num_images
        self.jitter = (LIGHT if augment else None) if isinstance(augment, bool) else make_jitter(augment)
        self.source = _labelled(images)
        self.held_out = evaluate is not None
        self.gallery = self.source if evaluate is None else _labelled(evaluate)
        self.num_classes = self.source.num_classes
        if self.gallery.num_classes > self.num_classes:
            raise UserError(f"classify: the images to train on have {self.num_classes} classes and those to evaluate "
                            f"on {self.gallery.num_classes}: name images of the same classes")  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """Name, number of classes, size and channels of the images."""
        return {"name": "classify", "num_classes": self.num_classes, "size": self.patch, "channels": self.channels}

    def fingerprint(self) -> str:
        """A hash of the description, the changes and the images."""
        known = (self.describe(), self.jitter, self.source.fingerprint())
        return hashlib.sha256(repr(known).encode()).hexdigest()

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches, ``x`` images ``(B, C, patch, patch)``, ``y`` their classes ``(B,)`` int64."""
        for number in count(start):
            drawn = derive(seed, "batch", number)
            x, y = self.source.labelled(batch_size, self.patch, channels=self.channels, seed=drawn)
            if self.jitter is not None:
                x = self.jitter(x, generator(drawn, "augment"))
            yield Batch(x=x, y=y)

    def renewed(self, batch: Batch, *, seed: int) -> Batch:
        """The batch as it is."""
        return batch

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        """Cross-entropy of logits ``(B, K)`` per image, ``(B,)``, in nats."""
        assert batch.y is not None
        return F.cross_entropy(out, batch.y, reduction="none", label_smoothing=self.smoothing)

    def example(self) -> Batch:
        """A flat image."""
        return Batch(x=torch.zeros(1, self.channels, self.patch, self.patch))

    def answer_shape(self, batch: Batch) -> tuple[int, ...]:
        """A logit for each class, ``(K,)``."""
        return (self.num_classes,)

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """The share of images a net puts in their class, ``accuracy``, and in the teacher's, ``agreement``.

        Args:
            net: any net that gives ``num_classes`` logits.
            reference: the teacher.
            seed: of which images, and in which order.
            limit: the first so many images only.
        """
        num_images = min(limit or self.num_images, self.num_images)
        drawn = derive(seed, "evaluate")
        x, y = self.gallery.labelled(num_images, self.patch, channels=self.channels, seed=drawn)
        said = _classes(net, x)
        figures = {"accuracy": _share(said == y)}
        if reference is not None and reference is not net:
            figures["agreement"] = _share(said == _classes(reference, x))
        return figures

    def provenance(self, *, reference: Net | None = None, seed: int = 0) -> str:
        """How many images of which kind, and which seed."""
        kind = "held-out images" if self.held_out else "draws of the training images"
        return f"Accuracy is that on {self.num_images:,} {kind} of {self.gallery.num_classes} classes, seed {seed}."


def _labelled(described: Any) -> Labelled:
    source = make_images(described)
    if not is_labelled(source):
        raise UserError(f"{type(source).__name__} knows no classes: name idx with its `labels`, a folder, or a mixture "
                        "of such")  # fmt: skip
    labelled: Labelled = source
    return labelled


def _classes(net: Net, x: Tensor) -> Tensor:
    where = device_of(net)
    with evaluating(net):
        return torch.cat([net(part.to(where)).argmax(1).cpu() for part in torch.split(x, CALL)])


def _share(right: Tensor) -> float:
    return right.double().mean().item()


__all__ = ["Classify"]
