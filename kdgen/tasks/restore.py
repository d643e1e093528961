"""Undo damages of any kind."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, JsonValue
from torch import Tensor

from kdgen.data import generator
from kdgen.data.damages import check_same_channels, make_damages
from kdgen.data.source import ImageSource
from kdgen.metrics import psnr, ssim
from kdgen.registry import Spec, register
from kdgen.tasks.near_truth import Loss
from kdgen.tasks.restoration import OF_PAIRS, Aim, Restoration
from kdgen.types import Batch, Text, UserError, text
from kdgen.types.arguments import ChannelsOrBoth, Count, Share

Damages = Annotated[
    Sequence[str | Mapping[str, Any] | Spec],
    Field(min_length=1, description='a list of damages, each a name or {"name": ..., "args": {...}}'),
]
Shares = Annotated[Sequence[Share], Field(min_length=1, description="a list of at least one share in [0, 1]")]
Over = Annotated[Literal["rgb", "y"], Field(description='"rgb" or "y"')]


@register("task")
class Restore(Restoration):
    """Undo damages: noise, blur, fewer pixels, JPEG, darkness, holes and others, alone or one after another.

    Args:
        damages: what happens to a clean image, in this order, see ``kdgen list damages``: names, or
            ``{"name": "shrink", "args": {"scale": 4}}``. How strong each is, is drawn from its range for each image.
        channels: 1 grey, 3 colour, or ``"both"``: batches of even number are grey and those of odd number colour; of
            a sensor as many as it gives.
        images: where training patches come from, ``{"name": ..., "args": {...}}``; ``scenes`` if not given. Of
            ``pairs`` the damaged pictures are the input as they are, whatever ``damages`` says.
        patch: height and width of clean training patches in pixels, a multiple of what the damages shrink by.
        evaluate: whole clean images to evaluate on, likewise, or ``pairs``; if not given the pairs to train on where
            there are any, or else bundled photographs.
        evaluate_at: shares of the ranges to evaluate at: 0 is the least damage, 1 the most.
        loss: ``"charbonnier"``, ``"l1"`` or ``"l2"``.
        aim: what a student is measured by beside a teacher: ``"truth"``, how near it comes to the clean images, or
            ``"teacher"``, to the teacher's answers, where these are what is wanted: detail that a GAN invents is far
            from the truth, and a blurred picture nearer.
        measure: ``"rgb"``, or ``"y"`` as papers on super-resolution do: luma (BT.601) of 8-bit images, without a
            border of as many pixels as the scale; figures are then called ``psnr_y`` and ``ssim_y``.
    """

    scales, takes_strength, usual_preset, group = True, True, "upscale-x4", "restorer"
    baseline_name = text("damaged_input", "damaged input")

    def __init__(
        self,
        damages: Damages = ("noise",),
        channels: ChannelsOrBoth = 3,
        images: ImageSource | None = None,
        patch: Count = 64,
        evaluate: ImageSource | None = None,
        evaluate_at: Shares = (0.5,),
        loss: Loss = "charbonnier",
        aim: Aim = "truth",
        measure: Over = "rgb",
    ) -> None:
        self.damages, self.over = make_damages(damages), measure
        self.scale = self.damages.scale
        super().__init__(channels=channels, images=images, patch=patch, evaluate=evaluate, loss=loss, aim=aim,
                         levels={f"{share:g}": float(share) for share in evaluate_at},
                         primary="psnr_y" if measure == "y" else "psnr")  # fmt: skip
        if patch % self.scale:
            raise UserError(text("patch_no_multiple", "patch is {patch}, and images become {scale} times smaller: make "
                                 "it a multiple of that", patch=patch, scale=self.scale))  # fmt: skip
        check_same_channels("restore", self.damages, self.channels)

    @property
    def keeps(self) -> bool:
        """See the base."""
        return self.given or self.damages.keeps

    def damage(self, images: Tensor, random: torch.Generator, level: float | None = None) -> tuple[Tensor, Any]:
        """See the base; a level is a share of each damage's range. What is missing already joins the ``mask``."""
        if not self.gaps:
            return self.damages(images, random, level)
        missing = images.isnan().any(1, keepdim=True).float()
        x, cond = self.damages(images.nan_to_num(0.0), random, level)
        mask = F.max_pool2d(missing, self.scale)
        return x * (1 - mask), {**cond, "mask": torch.maximum(mask, cond.get("mask", mask))}

    def measure(self, out: Tensor, truth: Tensor) -> dict[str, float]:
        """See the base."""
        if self.over == "rgb":
            return super().measure(out, truth)
        pair = [luma(image, self.scale) for image in (out, truth)]
        return {"psnr_y": psnr(*pair).item(), "ssim_y": ssim(*pair).item()}

    def describe(self) -> Mapping[str, JsonValue]:
        """Its damages where it makes them, by how much images become larger, their channels, how they are measured."""
        made: JsonValue = [spec.model_dump(mode="json") for spec in self.damages.specs]
        known: dict[str, JsonValue] = {"damage": OF_PAIRS} if self.given else {"damages": made}
        known |= {} if self.over == "rgb" else {"measure": self.over}
        return {"name": "restore", **known, "scale": self.scale, "channels": "both" if self.both else self.channels}

    def describe_levels(self, seed: int) -> Text:
        """At which shares of its ranges and with which seed."""
        return text("measured_restored", "Measured against the clean images, damage ({names:, }) at {levels:, } of its "
                    "range with seed {seed}.", names=[spec.name for spec in self.damages.specs],
                    levels=list(self.levels), seed=seed)  # fmt: skip

    @classmethod
    def degrade(
        cls, images: Tensor, facts: Mapping[str, Any], *, sigma: float = 25.0, strength: float = 0.5,
        random: torch.Generator,
    ) -> Batch:  # fmt: skip
        """The images damaged as the model was made for, by a share of the range of each damage; see the base."""
        damages = make_damages(facts.get("damages", ("noise",)))
        height, width = (length // damages.scale * damages.scale for length in images.shape[-2:])
        clean = images[..., :height, :width]
        x, cond = damages(clean, random, strength)
        return Batch(x=x, y=clean, cond=cond)

    @classmethod
    def limits(cls, facts: Mapping[str, Any]) -> str:
        """Its damages, or those of its pairs."""
        if "damage" in facts:
            return (
                "It was made for the damage of the images that it was trained on; what it does to other is not known."
            )
        names = ", ".join(str(each["name"]) for each in facts.get("damages", ()))
        return f"It was made for {names or 'damage'} as named above; what it does to other damage is not known."

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        """The same truth damaged anew, as strongly as chance has it; a batch of pairs as it is."""
        if batch.y is None or self.given:
            return batch
        x, cond = self.damage(batch.y, generator(seed, "damage"))
        return replace(batch, x=x, cond=cond)

    def fingerprint(self) -> str:
        """A hash of the damages, the size of patches and the source of images."""
        known = json.dumps([self.describe(), self.patch, self.given, self.source.fingerprint()], sort_keys=True)
        return hashlib.sha256(known.encode()).hexdigest()


def luma(images: Tensor, border: int) -> Tensor:
    """Luma of BT.601 as papers on super-resolution measure it, ``(B, 1, H', W')`` in [-1, 1].

    ``Y = 16 + 65.481 R + 128.553 G + 24.966 B`` of light in [0, 1], in 8-bit units; grey images are their own luma.

    Args:
        images: ``(B, C, H, W)`` in [-1, 1], rounded to 8 bits first.
        border: pixels on each side that do not count.
    """
    octets = ((images.clamp(-1, 1) + 1) * 127.5).round()
    if images.shape[1] == 3:
        weights = torch.tensor([65.481, 128.553, 24.966], dtype=octets.dtype, device=octets.device)
        octets = 16 + (octets / 255 * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)
    inner = octets[..., border : octets.shape[-2] - border, border : octets.shape[-1] - border]
    return inner / 127.5 - 1
