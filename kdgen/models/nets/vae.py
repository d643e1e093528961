"""Convolutional variational autoencoders in the manner of TAESD (Ollin Boer Bohan, github.com/madebyollin/taesd)."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.models.nets.moments import FIRST_LOG_VARIANCE, Means, Moments, draw
from kdgen.models.scaling import Args, Family, Shapes, fit_channels, scale_widths, scaled
from kdgen.registry import register
from kdgen.types.arguments import Channels, Count, CountOrZero, Counts


class Block(nn.Module):
    """``relu(x + second(relu(first(x))))``, ``(B, width, H, W)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` to the same."""
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Encoder(nn.Module):
    """The net of ``vae_encoder``: convolutions of stride 2 between levels of residual blocks.

    Attributes:
        reduction: how many pixels along an edge become one latent.
        latent_channels: channels Z of its latents.
        moments, latents: modules that pass on the moments and their means, for hooks to read.
    """

    conditions: frozenset[str] = frozenset()

    def __init__(self, channels: int, latent: int, widths: Sequence[int], blocks: int, mean: bool = False) -> None:
        super().__init__()
        self.channels, self.latent_channels, self.mean = channels, latent, mean
        self.reduction = 2 ** (len(widths) - 1)
        self.levels = nn.ModuleList()
        last = channels
        for level, width in enumerate(widths):
            enter = nn.Conv2d(last, width, 3, stride=2 if level else 1, padding=1)
            self.levels.append(nn.Sequential(enter, nn.ReLU(), *(Block(width) for _ in range(blocks))))
            last = width
        self.tail = nn.Conv2d(last, 2 * latent, 3, padding=1)
        self.moments, self.latents = Moments(), Means()
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Encode.

        Args:
            x: images ``(B, C, H, W)`` in [-1, 1], any size; at the lower and right border they are continued by
                reflection to a multiple of the reduction. A net of three channels takes grey ones too.

        Returns:
            moments ``(B, 2Z, h, w)``, means and then logarithms of variances; or the means ``(B, Z, h, w)`` alone.
        """
        h = reflected(x, self.reduction).expand(-1, self.channels, -1, -1)
        for level in self.levels:
            h = level(h)
        moments: Tensor = self.moments(self.tail(h))
        means: Tensor = self.latents(moments)
        return means if self.mean else moments

    def feature_layers(self) -> list[str]:
        """The levels, from fine to coarse, the moments and their means."""
        return [*(f"levels.{i}" for i in range(len(self.levels))), "moments", "latents"]


class Decoder(nn.Module):
    """The net of ``vae_decoder``: nearest upsampling between levels of residual blocks, the coarsest first.

    Attributes:
        latent_channels: channels Z of its latents.
    """

    conditions: frozenset[str] = frozenset()

    def __init__(self, channels: int, latent: int, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.channels, self.latent_channels = channels, latent
        self.levels = nn.ModuleList()
        last = latent
        for level, width in enumerate(reversed(widths)):
            grow: list[nn.Module] = [nn.Upsample(scale_factor=2)] if level else []
            enter = nn.Conv2d(last, width, 3, padding=1)
            self.levels.append(nn.Sequential(*grow, enter, nn.ReLU(), *(Block(width) for _ in range(blocks))))
            last = width
        self.tail = nn.Conv2d(last, channels, 3, padding=1)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Latents ``(B, Z, h, w)`` to images ``(B, C, H, W)`` about [-1, 1], not clamped."""
        for level in self.levels:
            x = level(x)
        out: Tensor = self.tail(x)
        return out

    def feature_layers(self) -> list[str]:
        """The levels, from coarse to fine."""
        return [f"levels.{i}" for i in range(len(self.levels))]


class Vae(nn.Module):
    """The net of ``vae``.

    Attributes:
        latent_channels: channels Z of its latents.
        moments, latents: the encoder's modules that pass on the moments and their means, for hooks to read.
    """

    conditions: frozenset[str] = frozenset()
    halves: ClassVar = {"encoder": ("encoder", "moments", "latents"), "decoder": ("decoder",)}

    def __init__(self, channels: int, latent: int, widths: Sequence[int], blocks: int, sample: bool) -> None:
        super().__init__()
        self.encoder = Encoder(channels, latent, widths, blocks)
        self.moments, self.latents = self.encoder.moments, self.encoder.latents
        self.decoder = Decoder(channels, latent, widths, blocks)
        self.channels, self.latent_channels, self.sample = channels, latent, sample

    def encode(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to moments ``(B, 2Z, h, w)``: means, then logarithms of variances."""
        moments: Tensor = self.encoder(x)
        return moments

    def decode(self, z: Tensor) -> Tensor:
        """Latents ``(B, Z, h, w)`` to images ``(B, C, H, W)`` about [-1, 1], not clamped."""
        image: Tensor = self.decoder(z)
        return image

    def forward(self, x: Tensor) -> Tensor:
        """Images to images: a sample of the latents is decoded in training if so built, otherwise their mean.

        Args:
            x: ``(B, C, H, W)`` in [-1, 1], any size; a net of three channels takes grey images too.

        Returns:
            as large as ``x``; about [-1, 1], not clamped.
        """
        height, width = x.shape[-2:]
        out = self.decode(draw(self.encode(x), sampled=self.sample and self.training))[..., :height, :width]
        return out if x.shape[1] == self.channels else out.mean(1, keepdim=True)

    def feature_layers(self) -> list[str]:
        """The levels of the encoder, the moments, their means, and the levels of the decoder, in order of use."""
        inward = [f"encoder.levels.{i}" for i in range(len(self.encoder.levels))]
        return [*inward, "moments", "latents", *(f"decoder.{path}" for path in self.decoder.feature_layers())]


def reflected(x: Tensor, multiple: int) -> Tensor:
    """``(B, C, H, W)`` continued by reflection about its last row and column to multiples of ``multiple``.

    Where that is more than there is to reflect, the reflection is reflected in turn; but not by an exported net, which
    takes any size of at least ``multiple``.
    """
    if torch.compiler.is_exporting():
        bottom, right = ((n + multiple - 1) // multiple * multiple - n for n in x.shape[-2:])
        return F.pad(x, (0, right, 0, bottom), mode="reflect")
    for axis in (-2, -1):
        extent = x.shape[axis]
        if extent % multiple:
            period = max(2 * (extent - 1), 1)
            place = torch.arange(extent + -extent % multiple, device=x.device) % period
            x = x.index_select(axis, torch.minimum(place, period - place))
    return x


@torch.no_grad()
def _initialise(half: Encoder | Decoder) -> None:
    """He et al. 2015, eq. 10, with zero biases; residual branches and variances start at a tenth of that.

    The tails have no ReLU behind them and keep the size of what they read. Variances start small.
    """
    for name, module in half.named_modules():
        if isinstance(module, nn.Conv2d):
            gain = {"second": 0.1, "tail": 0.5**0.5}.get(name.rpartition(".")[2], 1.0)
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu").mul_(gain)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    if isinstance(half, Encoder):
        assert half.tail.bias is not None
        half.tail.weight[half.latent_channels :].mul_(0.1)
        half.tail.bias[half.latent_channels :].fill_(FIRST_LOG_VARIANCE)


def _fit_decoder(shapes: Shapes) -> Args:
    return {"latent": shapes.inputs[0], "channels": shapes.outputs[0]}


def _up(shapes: Shapes) -> Args:
    return {"widths": _level_widths(shapes.outputs[-1], shapes.inputs[-1])}


def _down(shapes: Shapes) -> Args:
    widths = _level_widths(shapes.inputs[-1], shapes.outputs[-1])
    return {"widths": widths, "latent": shapes.outputs[0], "mean": True}


def _level_widths(large: int, small: int) -> list[int]:
    """Widths at full, half... resolution down to the size of latents, 32 channels more at each."""
    return [32 * (level + 1) for level in range((large // small).bit_length())]


_scale = scale_widths("widths", "blocks")


@register("net")
@scaled(Family(scale=_scale, fit=fit_channels, does={"half": "whole"}))
def vae(
    channels: Channels = 3,
    latent: Count = 4,
    widths: Counts = (32, 64, 96),
    blocks: CountOrZero = 1,
    sample: bool = True,
) -> Vae:
    """A convolutional variational autoencoder, the architecture of the bundled one.

    Its keys are those of its halves behind ``encoder.`` and ``decoder.``: ``vae_decoder`` takes a half of a whole as
    a checkpoint with prefix ``decoder.``.

    Args:
        channels: channels C of its images; with 3 it also takes grey ones.
        latent: channels Z of its latents.
        widths: channels at full, half, quarter... resolution; latents are as small as the last.
        blocks: residual blocks at each level, on the way in and on the way out.
        sample: whether it decodes samples of the latents in training; their means otherwise, and always in use.
    """
    return Vae(channels, latent, widths, blocks, sample)


@register("net")
@scaled(Family(scale=_scale, fit=fit_channels, fresh=_down, does={"half": "encoder"}))
def vae_encoder(
    channels: Channels = 3,
    latent: Count = 4,
    widths: Counts = (32, 64, 96),
    blocks: CountOrZero = 1,
    mean: bool = False,
) -> Encoder:
    """The encoder of ``vae`` by itself: images to moments of latents.

    Args:
        channels: channels C of its images; with 3 it also takes grey ones.
        latent: channels Z of its latents.
        widths: channels at full, half, quarter... resolution; latents are as small as the last.
        blocks: residual blocks at each level.
        mean: whether it gives the means alone.
    """
    return Encoder(channels, latent, widths, blocks, mean)


@register("net")
@scaled(Family(scale=_scale, fit=_fit_decoder, fresh=_up, does={"half": "decoder"}))
def vae_decoder(
    channels: Channels = 3, latent: Count = 4, widths: Counts = (32, 64, 96), blocks: CountOrZero = 1
) -> Decoder:
    """The decoder of ``vae`` by itself: latents to images.

    Args:
        channels: channels C of its images.
        latent: channels Z of its latents.
        widths: channels at full, half, quarter... resolution; latents are as small as the last.
        blocks: residual blocks at each level.
    """
    return Decoder(channels, latent, widths, blocks)
