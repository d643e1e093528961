"""Remove additive white Gaussian noise."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kdgen.data import Pairs, generator
from kdgen.data.source import ImageSource
from kdgen.registry import register
from kdgen.tasks.near_truth import Loss
from kdgen.tasks.noise_levels import NoiseLevels, NoiseRange, evaluation_levels, noise_range
from kdgen.tasks.restoration import OF_PAIRS, Restoration
from kdgen.types import Batch, Task, Text, UserError, text
from kdgen.types.arguments import ChannelsOrBoth, Count


@register("task")
class Denoise(Restoration):
    """Remove additive white Gaussian noise, at one level or blind over a range, in grey or colour.

    Noise is never clipped: ``x = y + 2 * sigma / 255 * n`` with ``n`` standard normal. ``cond["sigma"]`` tells the nets
    the level; a net that is blind ignores it.

    Args:
        sigma: standard deviation of the noise in 8-bit units, 0 to 100, or ``[low, high]`` to draw it for each image.
        channels: 1 grey, 3 colour, or ``"both"``: batches of even number are grey and those of odd number colour, for
            nets that take either.
        images: where training patches come from, ``{"name": ..., "args": {...}}``; ``scenes`` if not given. Of
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
    baseline_name = text("noisy_input", "noisy input")
    group, usual_preset = "denoiser", "denoise"
    usual_methods = (*Task.usual_methods, "jacobian")

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
        super().__init__(channels=channels, images=images, patch=patch, evaluate=evaluate, loss=loss, levels={},
                         damaged=not clean, truthless=not clean and not self.high)  # fmt: skip
        if self.pairs is not None and not clean:
            raise UserError(text("pairs_are_clean", "pairs have clean images: leave clean out"))
        lowest = self.high if isinstance(self.gallery, Pairs) else self.low
        self.evaluate_sigmas = evaluation_levels(lowest, self.high, evaluate_sigmas)
        self.levels = {f"{sigma:g}": sigma for sigma in self.evaluate_sigmas}

    def damage(self, images: Tensor, random: torch.Generator, level: float | None = None) -> tuple[Tensor, Any]:
        """The images under noise of standard deviation ``level`` in 8-bit units, and ``sigma``; see the base."""
        std = self._std(len(images), random, level)
        noise = torch.randn(images.shape, generator=random)
        return torch.addcmul(images, noise, std[:, None, None, None]), {"sigma": std}

    def told(self, number: int, random: torch.Generator, level: float | None = None) -> Mapping[str, Tensor]:
        """``sigma`` of images that are noisy already, where there is but one; see the base."""
        known = level is not None or self.low == self.high
        return {"sigma": self._std(number, random, level)} if known else {}

    def _std(self, number: int, random: torch.Generator, level: float | None) -> Tensor:
        """Standard deviations in units of the image range, ``(B,)``."""
        if level is not None:
            return torch.full((number,), 2 * level / 255)
        return 2 / 255 * (self.low + (self.high - self.low) * torch.rand(number, generator=random))

    def describe(self) -> dict[str, Any]:
        """The task as a model's configuration states it: name, noise levels in 8-bit units, channels."""
        sigma: float | list[float] = self.low if self.low == self.high else [self.low, self.high]
        told = {"name": "denoise", "sigma": sigma, "channels": "both" if self.both else self.channels}
        return told | ({"damage": OF_PAIRS} if self.pairs is not None or self.truthless else {})

    @classmethod
    def degrade(
        cls, images: Tensor, facts: Mapping[str, Any], *, sigma: float = 25.0, strength: float = 0.5,
        random: torch.Generator,
    ) -> Batch:  # fmt: skip
        """The images under noise; see the base."""
        return Batch(x=images + 2 * sigma / 255 * torch.randn(images.shape, generator=random), y=images)

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

    def describe_levels(self, seed: int) -> Text:
        """On which noise levels and with which seed."""
        return text("measured_noisy", "Measured against the clean images, noise of sigma {levels:, } with seed {seed}.",
                    levels=[f"{sigma:g}" for sigma in self.evaluate_sigmas], seed=seed)  # fmt: skip

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        """The same truth under fresh noise of the same level; a batch of pairs or without truth as it is."""
        if batch.y is None or self.given:
            return batch
        noise = torch.randn(batch.y.shape, generator=generator(seed, "noise"))
        return replace(batch, x=torch.addcmul(batch.y, noise, batch.cond["sigma"].view(-1, 1, 1, 1)))

    def fingerprint(self) -> str:
        """A hash of the noise levels, the size of patches and the source of images."""
        known = (self.describe(), self.patch, self.given, self.source.fingerprint())
        return hashlib.sha256(repr(known).encode()).hexdigest()
