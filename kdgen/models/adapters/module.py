"""A net of somebody else's, called as kdgen calls nets: its range and its prediction are converted."""

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from kdgen.models.abilities import Autoencoder, Halved, decodes, encodes
from kdgen.models.input_shape import InputShape, declared
from kdgen.types import UserError, text
from kdgen.utils.conditions import conditions_of
from kdgen.utils.hooks import hookable_layers
from kdgen.utils.validation import check_finite

HALVES = ("encoder", "decoder")
"""What a half of an autoencoder is called, in a reference too."""


class Foreign(nn.Module):
    """A net that reads and gives another range of values, or predicts what to subtract.

    Attributes:
        net: the net itself.
        conditions: those that it reads.
        way: the range of its values and what it predicts, as declared.
        scale, shift: it reads ``scale * x + shift`` for an image ``x`` in [-1, 1], and ``scale * sigma``.
        predicts: "image", or "residual" for what is to be subtracted from its input.
        latents: "in" or "out" where it reads or gives latents, which are passed on as they are.
        input_shape: the heights and widths that it takes, where they were declared.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        range: tuple[float, float],
        predicts: str,
        latents: Literal["in", "out"] | None = None,
        input_shape: InputShape | None = None,
    ) -> None:
        super().__init__()
        self.net, self.latents, self.input_shape = net, latents, input_shape
        self.way = (range, predicts)
        self.scale, self.shift = (range[1] - range[0]) / 2, (range[1] + range[0]) / 2
        self.predicts = predicts
        self.conditions = conditions_of(net)

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1], with conditions in its units, to the same, or from or to latents."""
        inner = x if self.latents == "in" else x * self.scale + self.shift
        if "sigma" in cond:
            cond["sigma"] = cond["sigma"] * self.scale
        out: Tensor = self.net(inner, **cond)
        if not isinstance(out, Tensor):
            raise UserError(text("no_tensor", "it answers with a {type}, not with a tensor (B, ...)",
                                 type=type(out).__name__))  # fmt: skip
        if self.predicts == "residual":
            out = inner - out
        return out if self.latents == "out" else (out - self.shift) / self.scale

    def read_as(self, way: tuple[tuple[float, float], str]) -> "Foreign":
        """The same net, with its weights, as one of another range and prediction."""
        other = Foreign(self.net, range=way[0], predicts=way[1], latents=self.latents, input_shape=self.input_shape)
        return other.train(self.training)

    def unwrapped(self) -> tuple[nn.Module, float, float, bool]:
        """The net itself, scale and shift of what it reads, and whether it predicts what to subtract."""
        return self.net, self.scale, self.shift, self.predicts == "residual"

    def feature_layers(self) -> list[str]:
        """The paths that its net names."""
        return [f"net.{path}" for path in hookable_layers(self.net)]


class Half(nn.Module):
    """The encoder or the decoder of an autoencoder, as a net of its own that shares its weights.

    Of a ``Halved`` autoencoder the modules of the other half are left out, so that parameters and bytes are those of
    this one.

    Attributes:
        net: the autoencoder, with methods ``encode(image)`` and ``decode(latents)``, less the other half.
        part: which of them is called, ``encoder`` or ``decoder``.
        latent_channels: channels Z of its latents, where the autoencoder tells them.
    """

    conditions: frozenset[str] = frozenset()

    def __init__(self, net: nn.Module, half: str) -> None:
        super().__init__()
        if half not in HALVES or not (encodes(net) if half == "encoder" else decodes(net)):
            raise UserError(text("no_half", "a {type} has no half of this kind: write MODEL#encoder or MODEL#decoder "
                                 "of an autoencoder", type=type(net).__name__))  # fmt: skip
        halves = net.halves if isinstance(net, Halved) else {}
        unused = [path for each, paths in halves.items() if each != half for path in paths]
        self.net, self.part = _without(net, unused), half
        if isinstance(net, Autoencoder):
            self.latent_channels = net.latent_channels
        self._layers = [
            path for path in hookable_layers(net) if not any(f"{path}.".startswith(f"{gone}.") for gone in unused)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` to latents, or latents ``(B, Z, h, w)`` to images."""
        autoencoder: Any = self.net
        out: Tensor = autoencoder.encode(x) if self.part == "encoder" else autoencoder.decode(x)
        return out

    def feature_layers(self) -> list[str]:
        """The paths that the autoencoder names, those of this half."""
        return [f"net.{path}" for path in self._layers]


def _without(net: nn.Module, paths: Sequence[str]) -> nn.Module:
    """The net with empty modules at some dotted paths; everything else is shared with it."""
    if not paths:
        return net
    slim = copy.copy(net)
    slim._modules = dict(net._modules)
    for name in dict.fromkeys(path.partition(".")[0] for path in paths):
        inner = [path.partition(".")[2] for path in paths if path.partition(".")[0] == name]
        child = net._modules.get(name)
        if child is not None:
            slim._modules[name] = nn.Identity() if "" in inner else _without(child, inner)
    return slim


def from_module(
    net: nn.Module,
    *,
    range: tuple[float, float] = (0.0, 1.0),
    predicts: str = "image",
    multiple: int | None = None,
    min_size: int | None = None,
    size: int | tuple[int, int] | None = None,
) -> Foreign:
    """Make a net out of any module that maps images to images.

    As the teacher of a denoiser it is tried on a picture before anything is done: a range or a prediction with which it
    does much worse than with another is refused then.

    Args:
        net: called as ``net(x)`` on ``(B, C, H, W)``; a ``sigma`` in its signature gets the noise level ``(B,)``,
            and any other name there the condition of that name. One that takes ``**cond`` alone may declare which it
            reads, as ``conditions``, a frozenset of names.
        range: values of black and white in its images, ``(0, 1)``, ``(-1, 1)`` or ``(0, 255)``, say.
        predicts: "image", or "residual" for what is to be subtracted from its input.
        multiple: what height and width of its images must be a multiple of; found by trying if not given.
        min_size: their least height and width; likewise.
        size: the one size that it takes, in place of these: a number, or height and width; likewise.

    Returns:
        a net in evaluation mode, that shares its weights with ``net``.

    Raises:
        UserError: for what is no range or prediction, and weights that are not finite.
    """
    if not -math.inf < range[0] < range[1] < math.inf:
        raise UserError(text("no_net_range", "a net's range is the value of black and, above it, that of white: (0, "
                             "1), (-1, 1) or (0, 255), say; not {range}", range=str(range)))  # fmt: skip
    if predicts not in ("image", "residual"):
        raise UserError(text("no_prediction", 'a net predicts "image" or "residual", not {given}',
                             given=repr(predicts)))  # fmt: skip
    check_finite(net, type(net).__name__)
    sizes = declared(multiple, min_size, size)
    return Foreign(net, range=(range[0], range[1]), predicts=predicts, input_shape=sizes).eval()
