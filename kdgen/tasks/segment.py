"""Say of each place of an image which class it is of."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, JsonValue
from torch import Generator, Tensor, nn

from kdgen.data import Gallery, Images, LabelMaps, derive, dihedral, generator, make_images
from kdgen.data.augment import NUM_DIHEDRAL
from kdgen.data.label_maps import IGNORED, shrunk
from kdgen.data.source import NOTHING_TO_EVALUATE, ImageSource, no_patches, no_whole_images
from kdgen.metrics.segmentation import boundary_f, boundary_scores, confusion, overlap
from kdgen.models.tiling import whole
from kdgen.registry import register
from kdgen.types import Batch, Metrics, Net, Task, Text, UserError, text
from kdgen.types.arguments import AnyChannels, Count
from kdgen.utils.conditions import call, conditions_of
from kdgen.utils.devices import device_of, evaluating
from kdgen.utils.distance import resample
from kdgen.utils.palette import palette

Turns = Literal["none", "mirror", "all"]
TURNS: dict[Turns, int] = {"none": 1, "mirror": 2, "all": NUM_DIHEDRAL}
"""How many of the eight symmetries of a square are drawn from; the second one mirrors left and right."""

Merged = Annotated[
    Sequence[Annotated[int, Field(ge=0)] | Annotated[Sequence[Annotated[int, Field(ge=0)]], Field(min_length=1)]],
    Field(description="for each class the teacher's class, or a list of those that make it up, e.g. [0, [1, 2]]"),
]
"""For each class of a task the class of a teacher, or several."""


@register("task")
class Segment(Task):
    """Say of each place of an image which class it is of; nets give logits ``(B, K, h, w)``, at any stride.

    Where there are no maps of labels the teacher alone says what is right, and any source of images does.

    Args:
        images: what to train on, ``{"name": ..., "args": {...}}``: ``label_maps``, or images alone; ``scenes`` if not
            given.
        num_classes: K; as many as the maps have, or the names. Needed where neither says it.
        names: of the classes, in the order of their labels; by default those of the maps.
        channels: 1 grey, 3 colour, or as many as ``aligned`` and sensors give.
        patch: height and width of training patches in pixels.
        evaluate: what to measure on, likewise; if not given the images to train on where they are whole ones, else
            bundled photographs.
        turn: how patches and their maps are turned: ``mirror`` left and right, ``all`` eight ways, or not at all.
        longest_side: whole images whose longer side has more pixels are shrunk to that, maps to the nearest place.
        teacher_classes: where a teacher's classes are others: for each class of the task the teacher's, or a list of
            those that make it up, whose probabilities are added. What is not named is left out.

    Attributes:
        num_classes: K.
        has_truth: whether there are maps to measure against; otherwise the teacher is what counts.
    """

    gives, dense = "logits", True
    pipeline_tag = "image-segmentation"
    default_images = "scenes"
    equivariant = False
    quick_eval_images = 4
    usual_preset, group = "segment-street", "segmenter"
    usual_methods = ("logits", "channel", "pairwise", "feature", "attention", "relation")
    needs: frozenset[str] = frozenset()

    def __init__(
        self,
        images: ImageSource | None = None,
        num_classes: Annotated[int, Field(ge=1, le=IGNORED)] | None = None,
        names: Sequence[str] | None = None,
        channels: AnyChannels = 3,
        patch: Count = 128,
        evaluate: ImageSource | None = None,
        turn: Turns = "mirror",
        longest_side: Count | None = None,
        teacher_classes: Merged | None = None,
    ) -> None:
        self.channels, self.patch, self.turn, self.longest_side = channels, patch, turn, longest_side
        self.source: Images = make_images(images if images is not None else {"name": self.default_images})
        if not isinstance(self.source, Images):
            raise no_patches(self.source)
        own = evaluate is None and images is not None and isinstance(self.source, Gallery)
        gallery: Any = self.source if own else make_images(evaluate or {"name": "photographs"})
        if not isinstance(gallery, Gallery):
            raise no_whole_images(gallery)
        self.gallery = gallery
        self.held_out = not own
        maps = [source for source in (self.source, self.gallery) if isinstance(source, LabelMaps)]
        self.names = tuple(names if names is not None else maps[0].classes if maps else ())
        self.num_classes = _settled(num_classes, self.names, maps)
        self.has_truth = isinstance(self.gallery, LabelMaps)
        self.primary_metric = self.taught_primary_metric = "miou" if self.has_truth else "miou@teacher"
        self.teacher_classes = teacher_classes
        if teacher_classes is not None and len(teacher_classes) != self.num_classes:
            raise UserError(text("teacher_classes_length", "segment: teacher_classes has {given} entries and there are "
                                 "{count} classes: give one for each", given=len(teacher_classes),
                                 count=self.num_classes))  # fmt: skip

    def describe(self) -> dict[str, JsonValue]:
        """Name, number of classes, their names where they have some, channels, and how large images are at most."""
        told: dict[str, JsonValue] = {"names": [*self.names]} if self.names else {}
        told |= {} if self.longest_side is None else {"longest_side": self.longest_side}
        return {"name": "segment", "num_classes": self.num_classes, **told, "channels": self.channels}

    @classmethod
    def limits(cls, facts: Mapping[str, Any]) -> str:
        """Its classes."""
        named = [str(name) for name in facts.get("names", ())]
        return f"It knows {_listed(named) if named else 'the classes that it was trained on'}, and gives every place " \
               "one of these, whatever it shows."  # fmt: skip

    @classmethod
    def degrade(
        cls, images: Tensor, facts: Mapping[str, Any], *, sigma: float = 25.0, strength: float = 0.5, random: Generator
    ) -> Batch:
        """The images themselves, of which no truth is known."""
        return Batch(x=images)

    def fingerprint(self) -> str:
        """A hash of the description, how patches are drawn and the images."""
        known = (self.describe(), self.patch, self.turn, self.source.fingerprint())
        return hashlib.sha256(repr(known).encode()).hexdigest()

    def guided(self, teacher: Net) -> Net:
        """The teacher, its classes made those of the task where these are others."""
        return teacher if self.teacher_classes is None else Regrouped(teacher, self.teacher_classes)

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches, ``x`` ``(B, C, patch, patch)`` and, of maps, labels ``y`` ``(B, patch, patch)`` int64."""
        for number in count(start):
            drawn = derive(seed, "batch", number)
            how = {"channels": self.channels, "seed": drawn}
            if isinstance(self.source, LabelMaps):
                x, y = self.source.mapped(batch_size, self.patch, **how)
            else:
                x, y = self.source.patches(batch_size, self.patch, **how), None
            turned = torch.randint(TURNS[self.turn], (batch_size,), generator=generator(drawn, "turn"))
            yield Batch(x=dihedral(x, turned), y=None if y is None else dihedral(y, turned))

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        """The batch as it is."""
        return batch

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        """Cross-entropy of logits ``(B, K, h, w)`` at the size of the labels, per image ``(B,)``, in nats.

        The mean over the places that count; 0 for an image without any. None where there are no labels.
        """
        if batch.y is None:
            return None
        each = F.cross_entropy(enlarged(out, batch.y), batch.y, reduction="none", ignore_index=IGNORED)
        return each.sum((1, 2)) / (batch.y != IGNORED).sum((1, 2)).clamp_min(1)

    def example(self) -> Batch:
        """A flat image of 256x256 pixels."""
        return Batch(x=torch.zeros(1, self.channels, 256, 256))

    def answer_shape(self, batch: Batch) -> tuple[int, ...]:
        """A logit for each class at each place, ``(K, H, W)``; nets may give fewer places."""
        return self.num_classes, *batch.x.shape[-2:]

    def pictured(self, answer: Tensor) -> Tensor:
        """Logits ``(B, K, H, W)`` or labels ``(B, H, W)`` in colours, ``(B, 3, H, W)`` in [-1, 1]; ignored is black."""
        labels = answer.argmax(1) if answer.ndim == 4 else answer
        colours = torch.cat([palette(self.num_classes), torch.zeros(IGNORED + 1 - self.num_classes, 3)])
        return colours.to(labels.device)[labels].permute(0, 3, 1, 2) * 2 - 1

    def evaluation_images(self, *, seed: int = 0, limit: int | None = None) -> Iterator[tuple[str, Batch]]:
        """The images to measure on by name, each a batch of one, with its map if it has one."""
        if isinstance(self.gallery, LabelMaps):
            for name, x, y in islice(self.gallery.whole_maps(self.channels), limit):
                yield name, self._sized(x, y)
            return
        for name, x in islice(self.gallery.images(self.channels), limit):
            yield name, self._sized(x, None)

    def _sized(self, x: Tensor, y: Tensor | None) -> Batch:
        height, width = x.shape[-2:]
        share = min((self.longest_side or max(height, width)) / max(height, width), 1)
        x, y = shrunk(x, y, (max(round(height * share), 1), max(round(width * share), 1)))
        return Batch(x=x, y=y)

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """How well the labels that a net gives agree with the maps, and with the teacher's.

        Labels are the classes of the largest logits, which are brought to the image's size first (bilinear). Figures
        come from all images together, ``pixel_accuracy``, ``miou``, ``dice`` and ``boundary_f`` against the maps; and
        of a teacher ``agreement``, the share of places, ``miou@teacher`` and ``dice@teacher``. A place whose logits are
        not finite is of no class.

        Args:
            net: any net of ``num_classes`` logits a place.
            reference: the teacher.
            seed: unused: nothing is drawn.
            limit: the first so many images only.

        Raises:
            UserError: without maps and without a teacher.
        """
        if reference is None and not self.has_truth:
            raise UserError(text("no_maps", "there are no maps of labels to measure against: name a teacher, or "
                                 "evaluate on label_maps"))  # fmt: skip
        beside = reference if reference is not net else None
        right = torch.zeros(self.num_classes, self.num_classes + 1, dtype=torch.int64)
        alike, edges, images = right.clone(), list[dict[int, float]](), 0
        for _, batch in self.evaluation_images(limit=limit):
            images += 1
            said = labels_of(net, batch)
            if batch.y is not None:
                right += confusion(said, batch.y, self.num_classes)
                edges.append(boundary_scores(said[0], batch.y[0]))
            if beside is not None:
                alike += confusion(said, labels_of(beside, batch), self.num_classes)
        if not images:
            raise UserError(NOTHING_TO_EVALUATE)
        figures = {**overlap(right), "boundary_f": boundary_f(edges)} if self.has_truth else {}
        if beside is not None:
            agreed = overlap(alike)
            figures["agreement"] = agreed.pop("pixel_accuracy")
            figures |= {f"{key}@teacher": value for key, value in agreed.items()}
        return figures

    def describe_evaluation(self, *, reference: Net | None = None, seed: int = 0) -> Text:
        """On what, and against what."""
        which = "" if self.held_out else text("trained_on", ", those it was trained on")
        if self.has_truth:
            return text("measured_maps", "Measured against the maps of labels of {count} classes{which}.",
                        count=self.num_classes, which=which)  # fmt: skip
        return text("measured_labels", "Measured by how many places of whole images get the teacher's label{which}: "
                    "there are no maps of labels.", which=which)  # fmt: skip


class Regrouped(nn.Module):
    """A segmenter whose classes are made others: each the sum of the probabilities of some of its own."""

    def __init__(self, net: Net, classes: Merged) -> None:
        super().__init__()
        self.net, self.conditions = net, conditions_of(net)
        self.classes = [[each] if isinstance(each, int) else [*each] for each in classes]

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        """Logits ``(B, K, h, w)``. Raises UserError where a class is named that the net does not have."""
        logits = call(self.net, x, cond)
        if (last := max(map(max, self.classes))) >= logits.shape[1]:
            raise UserError(text("teacher_classes_most", "segment: teacher_classes names class {last}, and the "
                                 "teacher has {count}, from 0", last=last, count=logits.shape[1]))  # fmt: skip
        return torch.stack([logits[:, each].logsumexp(1) for each in self.classes], 1)


def enlarged(logits: Tensor, like: Tensor) -> Tensor:
    """Logits ``(B, K, h, w)`` at the height and width of another tensor, bilinear, float32."""
    return resample(logits, like[:, None] if like.ndim == 3 else like)


def labels_of(net: Net, batch: Batch) -> Tensor:
    """The class of each place of a batch, ``(B, H, W)`` int64 on the CPU, -1 where an answer is not finite."""
    at = batch.to(device_of(net))
    with evaluating(net):
        logits = enlarged(whole(net, at.x, at.cond), at.x)
    return torch.where(logits.isfinite().all(1), logits.argmax(1), -1).cpu()


def _settled(num_classes: int | None, names: Sequence[str], maps: Sequence[LabelMaps]) -> int:
    """How many classes there are. Raises UserError where nothing says it, and where what does says otherwise."""
    told = [*([num_classes] if num_classes is not None else []), *([len(names)] if names else []),
            *(each.num_classes for each in maps)]  # fmt: skip
    if not told:
        raise UserError(text("segment_classes", "segment: say how many classes there are, task.args.num_classes"))
    if len(set(told)) > 1:
        raise UserError(text("segment_classes_differ", "segment: num_classes, names and label_maps say {counts:, } "
                             "classes: give all the same", counts=[str(each) for each in told]))  # fmt: skip
    return told[0]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


__all__ = ["Segment", "labels_of"]
