"""Remove additive white Gaussian noise."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count, islice
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdgen.data import NUM_DIHEDRAL, Gallery, Images, Pairs, derive, dihedral, generator, make_images
from kdgen.data.source import NOTHING_TO_EVALUATE, ImageSource, no_patches, no_whole_images
from kdgen.metrics import psnr, sharpness, ssim
from kdgen.models.tiling import whole
from kdgen.registry import register
from kdgen.tasks.noise_levels import NoiseLevels, NoiseRange, evaluation_levels, noise_range
from kdgen.types import Batch, Metrics, Net, Task, Text, UserError, text
from kdgen.types.arguments import ChannelsOrBoth, Count
from kdgen.utils.devices import device_of, evaluating
from kdgen.utils.distance import distance

BLOCK_PIXELS = 2**20

Loss = Literal["charbonnier", "l1", "l2"]


@register("task")
class Denoise(Task):
    """Remove additive white Gaussian noise, at one level or blind over a range, in grey or colour.

    Noise is never clipped: ``x = y + 2 * sigma / 255 * n`` with ``n`` standard normal. ``cond["sigma"]`` tells the nets
    the level; a net that is blind ignores it.

    Args:
        sigma: standard deviation of the noise in 8-bit units, 0 to 100, or ``[low, high]`` to draw it for each image.
        channels: 1 grey, 3 colour, or ``"both"``: batches of even number are grey and those of odd number colour, for
            nets that take either.
        images: where training patches come from, ``{"name": ..., "args": {...}}``; dead leaves if not given. Of
            ``pairs`` the damaged pictures are the input as they are and the clean ones the truth, whatever the damage.
        patch: height and width of training patches in pixels.
        clean: whether the images are free of noise. If not, they are noisy already with the declared ``sigma``; they
            are the input as they are, there is no ground truth and the teacher is the only guide. ``cond`` holds
            ``sigma`` only where it is a single level, since within a range an image's own level is not known. A
            ``sigma`` of 0 says that the damage is another or not known.
        evaluate: whole clean images to evaluate on, likewise, or ``pairs``; if not given the pairs to train on where
            there are any, or else bundled photographs. Without clean images and with a ``sigma`` of 0 they are damaged
            ones, those to train on if not given, and nets are measured by how near they come to the teacher.
        evaluate_sigmas: noise levels to evaluate at; by default ``sigma``, and for a range those of 15, 25 and 50 that
            lie within, or else its upper end.
        loss: ``"charbonnier"`` (see ``loss``), ``"l1"`` or ``"l2"``.

    Attributes:
        channels: of the images, 1 or 3; 3 for both.
        has_truth: whether there are clean images to measure against; otherwise the teacher is what counts.

    Raises:
        UserError: for an argument that does not fit.
    """

    takes_sigma = True
    default_images, baseline_name = "dead_leaves", text("noisy_input", "noisy input")
    group, usual_preset = "denoiser", "denoise"
    usual_methods = (*Task.usual_methods, "jacobian")
    channels: int
    equivariant = True
    quick_eval_images = 2
    needs: frozenset[str] = frozenset()

    def __init__(
        self,
        sigma: NoiseRange = 25.0,
        channels: ChannelsOrBoth = 1,
        images: ImageSource | None = None,
        patch: Count = 64,
        clean: bool = True,
        evaluate: ImageSource | None = None,
        evaluate_sigmas: NoiseLevels | None = None,
        loss: Loss = "charbonnier",
    ) -> None:
        self.low, self.high = noise_range(sigma)
        if not clean and images is None:
            raise UserError(text("clean_needs_noisy", 'clean=false needs noisy images: set images to {{"name": '
                                 '"folder", "args": {{"path": ...}}}}'))  # fmt: skip
        self.both = channels == "both"
        self.channels = 3 if channels == "both" else channels
        self.patch, self.loss_name = patch, loss
        self.source: Images = make_images(images if images is not None else {"name": self.default_images})
        self.pairs = self.source if isinstance(self.source, Pairs) else None
        if self.pairs is not None and not clean:
            raise UserError(text("pairs_are_clean", "pairs have clean images: leave clean out"))
        self.noisy = not clean or self.pairs is not None
        self.damaged = not clean and not self.high
        own = evaluate is None and (self.pairs is not None or self.damaged)
        self.held_out = not own
        self.gallery: Gallery = self.source if own else make_images(evaluate or {"name": "photographs"})
        self.has_truth = not self.damaged or isinstance(self.gallery, Pairs)
        self.primary_metric = self.taught_primary_metric = "psnr" if self.has_truth else "psnr@teacher"
        if not isinstance(self.source, Images):
            raise no_patches(self.source)
        if not isinstance(self.gallery, Gallery):
            raise no_whole_images(self.gallery)
        lowest = self.high if isinstance(self.gallery, Pairs) else self.low
        self.evaluate_sigmas = evaluation_levels(lowest, self.high, evaluate_sigmas)

    def describe(self) -> dict[str, Any]:
        """The task as a model's configuration states it: name, noise levels in 8-bit units, channels."""
        sigma: float | list[float] = self.low if self.low == self.high else [self.low, self.high]
        told = {"name": "denoise", "sigma": sigma, "channels": "both" if self.both else self.channels}
        return told | ({"damage": "that of its training images"} if self.pairs is not None or self.damaged else {})

    @classmethod
    def degrade(cls, images: Tensor, facts: Mapping[str, Any], *, sigma: float, random: torch.Generator) -> Tensor:
        """The images under noise; see the base."""
        return images + 2 * sigma / 255 * torch.randn(images.shape, generator=random)

    @classmethod
    def limits(cls, facts: Mapping[str, Any]) -> str:
        """Its noise, or the damage of its pairs."""
        made, other = "Gaussian noise at the levels named above", "on other noise, blur or compression its answers are"
        if "damage" in facts:
            made, other = "the damage of the images that it was trained on", "what it does to other damage is"
        return f"It was made for {made}; {other} not known."

    @classmethod
    def evaluation_source(cls, args: Mapping[str, Any]) -> Any:
        """Those to evaluate on; if there are none, pairs or damaged images to train on, or else bundled photographs."""
        images = args.get("images")
        damaged = not args.get("clean", True) and not args.get("sigma", 25)
        paired = isinstance(images, Mapping) and images.get("name") == "pairs"
        return args.get("evaluate") or (images if damaged or paired else {"name": "photographs"})

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches, ``x`` and ``y`` ``(B, C, patch, patch)``; each depends on seed, size and number alone.

        Patches are made for a block of successive batches at once, which depends on its number alone likewise.
        """
        length = max(BLOCK_PIXELS // (self.patch**2 * batch_size), 1)
        block, patches = -1, list[Tensor]()
        for number in count(start):
            if number // length != block:
                block = number // length
                patches = self._block(block, length, batch_size, seed)
            yield self._batch(patches[number % length], generator(seed, "batch", number))

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        """The same truth under fresh noise of the same level; a batch of pairs or without truth as it is."""
        if batch.y is None or self.noisy:
            return batch
        noise = torch.randn(batch.y.shape, generator=generator(seed, "noise"))
        return replace(batch, x=torch.addcmul(batch.y, noise, batch.cond["sigma"].view(-1, 1, 1, 1)))

    def fingerprint(self) -> str:
        """A hash of the noise levels, the size of patches and the source of images."""
        known = (self.describe(), self.patch, self.noisy, self.source.fingerprint())
        return hashlib.sha256(repr(known).encode()).hexdigest()

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        """The distance to the ground truth per image, ``(B,)``, averaged over channels and pixels; None without truth.

        Charbonnier is ``sqrt(d^2 + eps^2)`` with eps 1e-3, Charbonnier et al., ICIP 1994; l1 is ``|d|``, l2 ``d^2``.
        """
        if batch.y is None:
            return None
        return distance(self.loss_name, out, batch.y)

    def example(self) -> Batch:
        """A flat image of 256x256."""
        level = self.evaluate_sigmas[len(self.evaluate_sigmas) // 2]
        return Batch(x=torch.zeros(1, self.channels, 256, 256), cond={"sigma": torch.full((1,), 2 * level / 255)})

    def answer_shape(self, batch: Batch) -> tuple[int, ...]:
        """That of the noisy image, ``(C, H, W)``."""
        return tuple(batch.x.shape[1:])

    def describe_evaluation(self, *, reference: Net | None = None, seed: int = 0) -> Text:
        """On which noise levels and with which seed."""
        which = "" if self.held_out else text("trained_on", ", those it was trained on")
        if not self.has_truth:
            return text("measured_damaged", "Measured against the teacher's answers to damaged images{which}: there "
                        "are no clean ones.", which=which)  # fmt: skip
        if isinstance(self.gallery, Pairs):
            return text("measured_pairs", "Measured against the clean images of {count:,} pairs{which}.",
                        count=len(self.gallery.names), which=which)  # fmt: skip
        return text("measured_noisy", "Measured against the clean images, noise of sigma {levels:, } with seed {seed}.",
                    levels=[f"{sigma:g}" for sigma in self.evaluate_sigmas], seed=seed)  # fmt: skip

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """Quality on the evaluation images: ``psnr`` in dB, ``ssim``, ``sharpness``, averaged over images and levels.

        Each image gets noise of its own, the same for every net; the net sees whole images one by one, in tiles if it
        takes one size alone, and its output is clamped to [-1, 1]. With several noise levels each also stands by
        itself, as ``psnr@15``. The net is evaluated where it lies and its modes are left as they were.

        Args:
            net: any net for images of ``channels``.
            reference: the teacher, for damaged images without clean ones: figures are then ``psnr@teacher`` and
                ``ssim@teacher``.
            seed: of the noise.
            limit: use the first so many images only.
        """
        if not self.has_truth:
            return self._beside(net, reference, limit)
        figures: dict[float, dict[str, float]] = {}
        where = device_of(net)
        with evaluating(net):
            for sigma in self.evaluate_sigmas:
                rows = []
                for _, batch in self.evaluation_images(seed=seed, limit=limit, sigma=sigma):
                    batch = batch.to(where)
                    truth = batch.y
                    assert truth is not None
                    out = whole(net, batch.x, batch.cond).float().clamp(-1, 1)
                    rows.append([psnr(out, truth).item(), ssim(out, truth).item(), sharpness(out, truth).item()])
                if not rows:
                    raise UserError(NOTHING_TO_EVALUATE)
                figures[sigma] = dict(zip(("psnr", "ssim", "sharpness"), _means(rows), strict=True))
        columns = _means([list(row.values()) for row in figures.values()])
        means = dict(zip(("psnr", "ssim", "sharpness"), columns, strict=True))
        if len(figures) > 1:
            means |= {f"{name}@{sigma:g}": value for sigma, row in figures.items() for name, value in row.items()}
        return means

    def _beside(self, net: Net, reference: Net | None, limit: int | None) -> Metrics:
        """How near a net comes to the teacher on images that have no truth; nothing of the teacher itself."""
        if reference is None:
            raise UserError(text("nothing_clean", "there are no clean images to measure against: name a teacher, or "
                                 "evaluate on `pairs`"))  # fmt: skip
        if net is reference:
            return {}
        rows = []
        for _, batch in self.evaluation_images(limit=limit):
            answers = []
            for each in (net, reference):
                at = batch.to(device_of(each))
                with evaluating(each):
                    answers.append(whole(each, at.x, at.cond).float().clamp(-1, 1).cpu())
            rows.append([psnr(*answers).item(), ssim(*answers).item()])
        return dict(zip(("psnr@teacher", "ssim@teacher"), _means(rows), strict=True))

    def evaluate_input(self, *, seed: int = 0, limit: int | None = None) -> Metrics:
        """The figures of the noisy images themselves, as ``evaluate`` gives them for a net."""
        return self.evaluate(_Untouched(), seed=seed, limit=limit)

    def evaluation_images(
        self, *, seed: int = 0, limit: int | None = None, sigma: float | None = None
    ) -> Iterator[tuple[str, Batch]]:
        """The evaluation images by name, each a batch of one, with its truth if it has any, as ``evaluate`` shows them.

        Args:
            seed: of the noise.
            limit: the first so many images only.
            sigma: noise level in 8-bit units; the middle one of those evaluated at if not given.
        """
        level = self.evaluate_sigmas[len(self.evaluate_sigmas) // 2] if sigma is None else float(sigma)
        std = torch.full((1,), 2 * level / 255)
        if isinstance(self.gallery, Pairs):
            for name, x, y in islice(self.gallery.whole_pairs(self.channels), limit):
                yield name, Batch(x=x, y=y, cond={"sigma": std})
            return
        for index, (name, y) in enumerate(islice(self.gallery.images(self.channels), limit)):
            if not self.has_truth:
                yield name, Batch(x=y, cond={"sigma": std})
                continue
            noise = torch.randn(y.shape, generator=generator(seed, "evaluate", index, level))
            yield name, Batch(x=y + std * noise, y=y, cond={"sigma": std})

    def _block(self, block: int, length: int, batch_size: int, seed: int) -> list[Tensor]:
        numbers = range(block * length, (block + 1) * length)
        channels = [(1 if number % 2 == 0 else 3) if self.both else self.channels for number in numbers]
        ready = {}
        for each in sorted(set(channels)):
            drawn, how = derive(seed, "block", block, each), (channels.count(each) * batch_size, self.patch)
            if self.pairs is not None:
                patches = torch.cat(self.pairs.paired(*how, channels=each, seed=drawn), 1)
            else:
                patches = self.source.patches(*how, channels=each, seed=drawn)
            ready[each] = iter(patches.view(-1, batch_size, *patches.shape[1:]))
        return [next(ready[each]) for each in channels]

    def _batch(self, patches: Tensor, random: torch.Generator) -> Batch:
        y = dihedral(patches, torch.randint(NUM_DIHEDRAL, (len(patches),), generator=random))
        std = 2 / 255 * (self.low + (self.high - self.low) * torch.rand(len(y), generator=random))
        if self.noisy:
            cond = {"sigma": std} if self.low == self.high else {}
            x, *truth = y.chunk(1 if self.pairs is None else 2, 1)
            return Batch(x=x, y=truth[0] if truth else None, cond=cond)
        noise = torch.randn(y.shape, generator=random)
        return Batch(x=torch.addcmul(y, noise, std[:, None, None, None]), y=y, cond={"sigma": std})


class _Untouched(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def _means(rows: list[list[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]
