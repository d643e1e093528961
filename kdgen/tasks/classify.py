"""Say which class an image belongs to."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdgen.data import LIGHT, Labelled, derive, generator, is_labelled, make_images, make_jitter
from kdgen.data.jitter import Amounts
from kdgen.data.labelled import Counted, NamedClasses
from kdgen.data.mixing import Mix, mixed
from kdgen.data.source import Embedded, ImageSource, photograph_of
from kdgen.metrics import classified, predicted
from kdgen.registry import register
from kdgen.types import Batch, Metrics, Net, Task, Text, UserError, text
from kdgen.types.arguments import AnyChannels, Count, CountOrZero
from kdgen.utils.conditions import call
from kdgen.utils.devices import device_of, evaluating

CALL = 250
"""Images in one call of a net."""


@register("task")
class Classify(Task):
    """Say which class an image belongs to; nets answer with logits ``(B, K)``.

    Args:
        images: labelled images to train on, ``{"name": ..., "args": {...}}``: ``image_folder``, a folder for each
            class; ``npz`` and ``idx`` with labels; ``folder``, where each picture is a class of its own; or a
            ``mixture`` of such, whose classes stand side by side. Those to evaluate on are enough to measure nets. What
            ``aligned`` ones are described by, ``embedding``, nets are told that read it: a teacher, say.
        channels: 1 grey, 3 colour, or as many as ``aligned`` and sensors give.
        patch: height and width of images in pixels.
        evaluate: labelled images to evaluate on, with the same classes or the first few of them; if not given, those
            to train on, drawn anew.
        augment: random changes of every image in training, ``{"scale": 0.1, "shift": 0.08, "rotation": 0, "colour":
            0, "flip": 0}``; true stands for a scale of 0.1 and a shift of 0.08, false for none.
        smoothing: the share of each label that is spread over all classes, Szegedy et al. 2016, section 7.
        num_images: how many images a net is evaluated on at most; each counts once.
        names: of the classes, in the order of their labels, which a model says of itself; by default those of the
            images to train on.
        num_classes: of the nets; as many as the images to train on have, or else those to evaluate on. 0 is for nets
            without a head, which give features: their figure is ``neighbours``, see ``evaluate``.
        mix: ``mixup``, ``cutmix`` or ``both``: images to train on are mixed in pairs, and the truth with them, see
            ``kdgen.data.mixing``. A teacher is asked about the very image that the student sees (Beyer et al. 2022,
            arXiv 2106.05237, section 3), so that it need not be made of classes at all.
        balance: whether each class counts as much as any other in the loss, however few images it has: an image by the
            inverse of how often its class is drawn, with a mean of 1 (Cui et al. 2019, arXiv 1901.05555, section 4,
            at ``beta`` towards 1). What a teacher says counts as it is.

    Attributes:
        num_classes: of the nets.

    Raises:
        UserError: for an argument that does not fit.
    """

    gives = "logits"
    pipeline_tag = "image-classification"
    group, usual_preset = "classifier", "classify"
    equivariant = False
    primary_metric = taught_primary_metric = "accuracy"
    quick_eval_images = 1000
    needs: frozenset[str] = frozenset()

    def __init__(
        self,
        images: ImageSource | None = None,
        channels: AnyChannels = 3,
        patch: Count = 32,
        evaluate: ImageSource | None = None,
        augment: bool | Amounts = True,
        smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        num_images: Count = 10_000,
        num_classes: CountOrZero | None = None,
        mix: Mix | None = None,
        balance: bool = False,
        names: Sequence[str] | None = None,
    ) -> None:
        self.channels, self.patch, self.smoothing, self.num_images = channels, patch, smoothing, num_images
        self.jitter = (LIGHT if augment else None) if isinstance(augment, bool) else make_jitter(augment)
        given = evaluate if images is None else images
        if given is None:
            raise UserError(text("classify_images", 'classify: name labelled images, {{"name": "image_folder", '
                                 '"args": {{"path": ...}}}} with a folder for each class, or idx with its '
                                 'labels'))  # fmt: skip
        self.source = _labelled(given)
        self.held_out = evaluate is not None
        self.gallery = self.source if evaluate is None or images is None else _labelled(evaluate)
        self.num_classes = self.source.num_classes if num_classes is None else num_classes
        self._check_classes(trained=images is not None)
        if mix is not None and _told(self.source, 1, 0):
            raise UserError(text("mix_embeddings", "classify: of two mixed images neither embedding is right: leave "
                                 "mix or embeddings out"))  # fmt: skip
        if names is not None and len(names) != self.num_classes:
            raise UserError(text("names_length", "classify: names has {given} entries and there are {count} classes: "
                                 "give one for each", given=len(names), count=self.num_classes))  # fmt: skip
        known = self.source.classes if isinstance(self.source, NamedClasses) else ()
        self.names = tuple(known if names is None else names)
        self.mix, self._weight = mix, self._class_weights() if balance else None

    def _check_classes(self, *, trained: bool) -> None:
        """Refuse images whose labels cannot be those of the nets."""
        ours, theirs = (s.classes if isinstance(s, NamedClasses) else None for s in (self.source, self.gallery))
        if ours and theirs and not all(name in ("", known) for name, known in zip(theirs, ours, strict=False)):
            raise UserError(text("classify_folders", "classify: the folders to train on are {ours} and those to "
                                 "evaluate on {theirs}: give the latter `classes`, in the order of the former",
                                 ours=_few(ours), theirs=_few(theirs)))  # fmt: skip
        found = self.gallery.num_classes
        whose = text("images_have", "the images to train on have") if trained else text("nets_have", "the nets have")
        named = theirs is not None and not all(name.isdigit() for name in theirs if name) and not trained
        if self.num_classes and (found > self.num_classes or (named and found < self.num_classes)):
            raise UserError(text("classes_differ", "classify: {whose} {count} classes and those to evaluate on "
                                 "{found}: name images of the same classes, of folders their `classes`", whose=whose,
                                 count=self.num_classes, found=found))  # fmt: skip

    def _class_weights(self) -> Tensor:
        """How much each class counts ``(K,)``: the inverse of how often it is drawn, 1 in the mean over draws."""
        if not isinstance(self.source, Counted):
            raise UserError(text("classes_uncounted", "{type} does not say how often it draws each class: set balance "
                                 "to false", type=type(self.source).__name__))  # fmt: skip
        shares = F.pad(self.source.class_shares, (0, max(self.num_classes - self.source.num_classes, 0)))
        return torch.where(shares > 0, 1 / (shares * (shares > 0).sum()), 0.0).float()

    def describe(self) -> dict[str, Any]:
        """Name, number of classes, their names where all have one, size and channels of the images."""
        named = {"names": [*self.names]} if len(self.names) == self.num_classes and all(self.names) else {}
        return {"name": "classify", "num_classes": self.num_classes, **named, "size": self.patch,
                "channels": self.channels}  # fmt: skip

    @classmethod
    def limits(cls, facts: Mapping[str, Any]) -> str:
        """Its classes, and the size of its images."""
        return ("It knows only the classes that it was trained on, at about the size of image named in its "
                "configuration.")  # fmt: skip

    def fingerprint(self) -> str:
        """A hash of the description, the changes and the images."""
        known = (self.describe(), self.jitter, self.mix, self.source.fingerprint())
        return hashlib.sha256(repr(known).encode()).hexdigest()

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches, ``x`` images ``(B, C, patch, patch)``, ``y`` their classes ``(B,)`` int64.

        Of mixed images ``y`` holds the shares of all classes, ``(B, K)``.
        """
        for number in count(start):
            drawn = derive(seed, "batch", number)
            x, y = self.source.labelled(batch_size, self.patch, channels=self.channels, seed=drawn)
            if self.jitter is not None:
                x = self.jitter(x, generator(drawn, "augment"), photograph_of(self.source))
            if self.mix is not None:
                classes = self.num_classes or self.source.num_classes
                x, y = mixed(x, y, num_classes=classes, how=self.mix, random=generator(drawn, "mix"))
            yield Batch(x=x, y=y, cond=_told(self.source, batch_size, drawn))

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        """The batch as it is."""
        return batch

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        """Cross-entropy of logits ``(B, K)`` per image, ``(B,)``, in nats; balanced, each class times its weight."""
        assert batch.y is not None
        weight = None if self._weight is None else self._weight.to(out)
        return F.cross_entropy(out, batch.y, weight, reduction="none", label_smoothing=self.smoothing)

    def example(self) -> Batch:
        """A flat image."""
        return Batch(x=torch.zeros(1, self.channels, self.patch, self.patch), cond=_told(self.source, 1, 0))

    def answer_shape(self, batch: Batch) -> tuple[int, ...] | None:
        """A logit for each class, ``(K,)``; None of nets without a head."""
        return (self.num_classes,) if self.num_classes else None

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """How well a net tells classes, see ``kdgen.metrics.classification``, and as its teacher does, ``agreement``.

        ``accuracy`` is the share of images that it puts in their class, ``balanced_accuracy`` the mean of that over
        classes, ``auroc`` says how it ranks them, and ``ece`` how far its confidence is from its accuracy. Of nets
        without a head it is ``neighbours``: the share of images whose nearest other image, by the cosine of their
        features, is of the same class. An answer that is not finite puts an image in no class.

        Args:
            net: any net that gives ``num_classes`` logits.
            reference: the teacher.
            seed: of which images, and in which order.
            limit: the first so many images only.
        """
        num_images = min(limit or self.num_images, self._most)
        drawn = derive(seed, "evaluate")
        x, y = self.gallery.labelled(num_images, self.patch, channels=self.channels, seed=drawn)
        shown = Batch(x=x, cond=_told(self.gallery, num_images, drawn))
        if not self.num_classes:
            return {"neighbours": _share(y[_nearest(_answers(net, shown))] == y)}
        logits = _answers(net, shown)
        figures = classified(logits, y)
        if reference is not None and reference is not net:
            said = predicted(logits)
            figures["agreement"] = _share((said == predicted(_answers(reference, shown))) & (said >= 0))
        return figures

    @property
    def _most(self) -> int:
        return min(self.num_images, self.gallery.num_labelled or self.num_images)

    def describe_evaluation(self, *, reference: Net | None = None, seed: int = 0) -> Text:
        """How many images of which kind, and which seed."""
        kind = text("held_out", "held-out images") if self.held_out else \
            text("drawn_again", "draws of the training images")  # fmt: skip
        what = text("accuracy", "Accuracy is that") if self.num_classes else \
            text("neighbours", "The share whose nearest neighbour is of their class is that")  # fmt: skip
        return text("measured_classes", "{what} on {count:,} {kind} of {classes} classes, seed {seed}.", what=what,
                    count=self._most, kind=kind, classes=self.gallery.num_classes, seed=seed)  # fmt: skip


def _labelled(described: Any) -> Labelled:
    source = make_images(described)
    if not is_labelled(source):
        raise UserError(text("no_classes", "{type} knows no classes: name image_folder, npz or idx with labels, a "
                             "folder, or a mixture of such", type=type(source).__name__))  # fmt: skip
    labelled: Labelled = source
    return labelled


def _told(source: object, count: int, seed: int) -> Mapping[str, Tensor]:
    """What nets are told of the labelled images that a source gives by these arguments, ``(count, ...)`` by name."""
    return source.embedded(count, seed=seed) if isinstance(source, Embedded) else {}


def _answers(net: Net, batch: Batch) -> Tensor:
    where = device_of(net)
    parts = (part.to(where) for part in batch.split(math.ceil(len(batch.x) / CALL)))
    with evaluating(net):
        return torch.cat([call(net, part.x, part.cond).float().cpu() for part in parts])


def _nearest(features: Tensor) -> Tensor:
    """The position of the nearest other one for each of ``(N, D)`` features, by cosine."""
    unit = F.normalize(features, dim=1)
    near = [unit[start : start + CALL] @ unit.T for start in range(0, len(unit), CALL)]
    for number, part in enumerate(near):
        at = torch.arange(len(part))
        part[at, at + number * CALL] = -torch.inf
    return torch.cat([part.argmax(1) for part in near])


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def _share(right: Tensor) -> float:
    return right.double().mean().item()


__all__ = ["Classify"]
