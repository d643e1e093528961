"""What all restoring shares: clean images and damaged ones, batches of both, and how near a net comes to the clean."""

import math
from collections.abc import Iterator, Mapping
from itertools import count, islice
from typing import Any, Literal

import torch
from torch import Tensor

from kdgen.data import NUM_DIHEDRAL, Gallery, Images, Pairs, derive, dihedral, generator, make_images
from kdgen.data.source import NOTHING_TO_EVALUATE, Gapped, no_patches, no_whole_images
from kdgen.metrics import psnr, sharpness, ssim
from kdgen.models.tiling import whole
from kdgen.tasks.agreement import Agreement
from kdgen.tasks.baseline import Baseline
from kdgen.tasks.near_truth import Loss, NearTruth, without_gaps
from kdgen.types import Batch, Metrics, Net, Text, UserError, text
from kdgen.utils.devices import device_of, evaluating

BLOCK_PIXELS = 2**20

Aim = Literal["truth", "teacher"]
OF_PAIRS = "that of its training images"
"""The damage of images that were damaged already, as a model's configuration states it."""


class Restoration(NearTruth):
    """Undo damage. A task of it says how clean images are damaged, in training and at each level it is measured at.

    Args:
        channels: 1 grey, 3 colour, or ``"both"``: batches of even number are grey and those of odd number colour, for
            nets that take either.
        images: where training patches come from, ``{"name": ..., "args": {...}}``. Of ``pairs`` the damaged pictures
            are the input as they are and the clean ones the truth, whatever the damage.
        patch: height and width of clean training patches in pixels.
        evaluate: whole clean images to evaluate on, likewise, or ``pairs``; if not given the pairs to train on where
            there are any, or else bundled photographs.
        loss: ``"charbonnier"`` (see ``loss``), ``"l1"`` or ``"l2"``.
        levels: how strong the damage is that nets are measured at, by name.
        damaged: whether the images to train on are damaged already.
        truthless: whether those to evaluate on are as well, if they are no pairs.
        aim: what a taught net is to be near to: the clean images, or the teacher's answers where these are what is
            wanted, detail that it invents say. Figures with ``@teacher`` then stand beside those of the truth.
        primary: which figure of ``measure`` decides, where there is a truth.

    Attributes:
        channels: of the images, 1 or 3; 3 for both.
        has_truth: whether there are clean images to measure against; otherwise the teacher is what counts.

    Raises:
        UserError: for an argument that does not fit.
    """

    default_images = "scenes"
    equivariant = True
    quick_eval_images = 2
    needs: frozenset[str] = frozenset()
    scale = 1
    channels: int

    def __init__(
        self, *, channels: int | Literal["both"], images: Any, patch: int, evaluate: Any, loss: Loss,
        levels: Mapping[str, float], damaged: bool = False, truthless: bool = False, aim: Aim = "truth",
        primary: str = "psnr",
    ) -> None:  # fmt: skip
        self.both = channels == "both"
        self.channels = 3 if channels == "both" else channels
        self.patch, self.loss_name, self.levels = patch, loss, dict(levels)
        self.source: Images = make_images(images if images is not None else {"name": self.default_images})
        self.pairs = self.source if isinstance(self.source, Pairs) else None
        self.given = damaged or self.pairs is not None
        own = evaluate is None and (self.pairs is not None or truthless)
        self.held_out, self.truthless = not own, truthless
        self.gallery: Gallery = self.source if own else make_images(evaluate or {"name": "photographs"})
        if self.pairs is not None:
            self.scale = self.pairs.scale
        if isinstance(self.gallery, Pairs) and self.gallery.scale != self.scale:
            raise UserError(text("two_scales", "images become {scale} times larger in training, and {other} times in "
                                 "the pairs to evaluate on: give both the same", scale=self.scale,
                                 other=self.gallery.scale))  # fmt: skip
        self.has_truth = not truthless or isinstance(self.gallery, Pairs)
        self.primary_metric = primary if self.has_truth else "psnr@teacher"
        self.taught_primary_metric = "psnr@teacher" if aim == "teacher" else self.primary_metric
        self.gaps = any(isinstance(each, Gapped) and each.gaps for each in (self.source, self.gallery))
        self.agreement = Agreement()
        if not isinstance(self.source, Images):
            raise no_patches(self.source)
        if not isinstance(self.gallery, Gallery):
            raise no_whole_images(self.gallery)

    def damage(self, images: Tensor, random: torch.Generator, level: float | None = None) -> tuple[Tensor, Any]:
        """Damaged images ``(B, C, H', W')`` and conditions, of one of ``levels`` or drawn as in training.

        Args:
            images: clean ones, ``(B, C, H, W)`` in [-1, 1].
            random: a CPU generator.
            level: how strong.
        """
        raise NotImplementedError

    def told(self, number: int, random: torch.Generator, level: float | None = None) -> Mapping[str, Tensor]:
        """Conditions of so many images that were damaged already, ``(B, ...)``: here nothing is known of them."""
        return {}

    def measure(self, out: Tensor, truth: Tensor) -> dict[str, float]:
        """The figures of one restored image ``(1, C, H, W)`` in [-1, 1]."""
        return {"psnr": psnr(out, truth).item(), "ssim": ssim(out, truth).item(),
                "sharpness": sharpness(out, truth).item()}  # fmt: skip

    def _measured(self, out: Tensor, truth: Tensor) -> dict[str, float]:
        """What ``measure`` says; readings that are missing from the truth count as right, and for nothing in PSNR."""
        figures = self.measure(out, without_gaps(truth, out) if self.gaps else truth)
        if self.gaps and "psnr" in figures:
            figures["psnr"] += 10 * math.log10(max(1 - truth.isnan().double().mean().item(), 1e-10))
        return figures

    @property
    def keeps(self) -> bool:
        """Whether its damage leaves a channel that says what was read right, see ``Damage``."""
        return self.given

    @property
    def middle(self) -> float:
        """The level at which a single example is shown."""
        levels = list(self.levels.values())
        return levels[len(levels) // 2]

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches, ``x`` and ``y`` ``(B, C, patch, patch)``; each depends on seed, size and number alone.

        Patches are made for a block of successive batches at once, which depends on its number alone likewise.
        """
        length = max(BLOCK_PIXELS // (self.patch**2 * batch_size), 1)
        block, patches = -1, list[tuple[Tensor, ...]]()
        for number in count(start):
            if number // length != block:
                block = number // length
                patches = self._block(block, length, batch_size, seed)
            yield self._batch(patches[number % length], generator(seed, "batch", number))

    def example(self) -> Batch:
        """A flat image whose restored one has 256x256 pixels."""
        small = torch.zeros(1, self.channels, 256 // self.scale, 256 // self.scale)
        if self.given:
            return Batch(x=small, cond=self.told(1, generator(0), self.middle))
        _, cond = self.damage(torch.zeros(1, self.channels, 256, 256), generator(0), self.middle)
        return Batch(x=small, cond=cond)

    def answer_shape(self, batch: Batch) -> tuple[int, ...]:
        """That of the clean image, ``(C, H, W)``."""
        channels, height, width = batch.x.shape[1:]
        return channels, self.scale * height, self.scale * width

    def describe_evaluation(self, *, reference: Net | None = None, seed: int = 0) -> Text:
        """On which levels of damage and with which seed."""
        which = "" if self.held_out else text("trained_on", ", those it was trained on")
        if not self.has_truth:
            return text("measured_damaged", "Measured against the teacher's answers to damaged images{which}: there "
                        "are no clean ones.", which=which)  # fmt: skip
        if isinstance(self.gallery, Pairs):
            return text("measured_pairs", "Measured against the clean images of {count:,} pairs{which}.",
                        count=len(self.gallery.names), which=which)  # fmt: skip
        return self.describe_levels(seed)

    def describe_levels(self, seed: int) -> Text:
        """The same for clean images that the task damages itself."""
        raise NotImplementedError

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """Quality on the evaluation images: what ``measure`` gives, averaged over images and levels.

        Each image gets damage of its own, the same for every net; the net sees whole images one by one, in tiles if it
        takes one size alone, and its output is clamped to [-1, 1]. With several levels each also stands by itself, as
        ``psnr@15``. The net is evaluated where it lies and its modes are left as they were.

        Args:
            net: any net for images of ``channels``.
            reference: the teacher, where its answers are the aim or there are no clean images: figures are then also,
                or else only, ``psnr@teacher``, ``ssim@teacher`` and ``perceptual@teacher``.
            seed: of the damage.
            limit: use the first so many images only.
        """
        if not self.has_truth:
            return self._beside(net, reference, limit)
        beside = reference if self.taught_primary_metric == "psnr@teacher" and net is not reference else None
        figures: dict[str, dict[str, float]] = {}
        where = device_of(net)
        with evaluating(net):
            for name, level in self.levels.items():
                rows = []
                for image, batch in self.evaluation_images(seed=seed, limit=limit, level=level):
                    batch = batch.to(where)
                    truth = batch.y
                    assert truth is not None
                    out = whole(net, batch.x, batch.cond).float().clamp(-1, 1)
                    rows.append(self._measured(out, truth))
                    if beside is not None:
                        rows[-1] |= self.agreement(out, beside, batch, (image, name, seed))
                if not rows:
                    raise UserError(NOTHING_TO_EVALUATE)
                figures[name] = _means(rows)
        means = _means(list(figures.values()))
        if len(figures) > 1:
            means |= {f"{key}@{name}": value for name, row in figures.items() for key, value in row.items()}
        return means

    def _beside(self, net: Net, reference: Net | None, limit: int | None) -> Metrics:
        """How near a net comes to the teacher on images that have no truth; nothing of the teacher itself."""
        if reference is None:
            raise UserError(text("only_teacher_measures", "only a teacher says what is right here: name it by "
                                 "--teacher") if self.taught_alone else
                            text("nothing_clean", "there are no clean images to measure against: name a teacher, or "
                                 "evaluate on `pairs`"))  # fmt: skip
        if net is reference:
            return {}
        rows = []
        for image, batch in self.evaluation_images(limit=limit):
            at = batch.to(device_of(net))
            with evaluating(net):
                out = whole(net, at.x, at.cond).float().clamp(-1, 1)
            rows.append(self.agreement(out, reference, batch, (image, "", 0)))
        if not rows:
            raise UserError(NOTHING_TO_EVALUATE)
        return _means(rows)

    def evaluate_input(self, *, seed: int = 0, limit: int | None = None) -> Metrics:
        """The figures of the damaged images themselves, enlarged where nets enlarge, as ``evaluate`` gives them."""
        return self.evaluate(Baseline(self), seed=seed, limit=limit)

    def evaluation_images(
        self, *, seed: int = 0, limit: int | None = None, level: float | None = None
    ) -> Iterator[tuple[str, Batch]]:
        """The evaluation images by name, each a batch of one, with its truth if it has any, as ``evaluate`` shows them.

        Args:
            seed: of the damage.
            limit: the first so many images only.
            level: how strong the damage is; the middle one of those evaluated at if not given.
        """
        level = self.middle if level is None else float(level)
        unseen = generator(seed, "evaluate")
        if isinstance(self.gallery, Pairs):
            for name, x, y in islice(self.gallery.whole_pairs(self.channels), limit):
                yield name, Batch(x=x, y=y, cond=self.told(1, unseen, level))
            return
        for index, (name, y) in enumerate(islice(self.gallery.images(self.channels), limit)):
            if not self.has_truth:
                yield name, Batch(x=y, cond=self.told(1, unseen, level))
                continue
            y = y[..., : y.shape[-2] // self.scale * self.scale, : y.shape[-1] // self.scale * self.scale]
            x, cond = self.damage(y, generator(seed, "evaluate", index, level), level)
            yield name, Batch(x=x, y=y, cond=cond)

    def _block(self, block: int, length: int, batch_size: int, seed: int) -> list[tuple[Tensor, ...]]:
        numbers = range(block * length, (block + 1) * length)
        channels = [(1 if number % 2 == 0 else 3) if self.both else self.channels for number in numbers]
        ready = {}
        for each in sorted(set(channels)):
            drawn, how = derive(seed, "block", block, each), (channels.count(each) * batch_size, self.patch)
            if self.pairs is not None:
                patches: tuple[Tensor, ...] = self.pairs.paired(*how, channels=each, seed=drawn)
            else:
                patches = (self.source.patches(*how, channels=each, seed=drawn),)
            ready[each] = zip(*(part.view(-1, batch_size, *part.shape[1:]) for part in patches), strict=True)
        return [next(ready[each]) for each in channels]

    def _batch(self, patches: tuple[Tensor, ...], random: torch.Generator) -> Batch:
        how = torch.randint(NUM_DIHEDRAL, (len(patches[0]),), generator=random)
        x, *truth = (dihedral(part, how) for part in patches)
        if self.given:
            return Batch(x=x, y=truth[0] if truth else None, cond=self.told(len(x), random))
        damaged, cond = self.damage(x, random)
        return Batch(x=damaged, y=x, cond=cond)


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
