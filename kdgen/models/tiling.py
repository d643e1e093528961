"""Large images through a net tile by tile: what it gives for the whole, in the memory of a tile."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kdgen.models.input_shape import Size, TooLarge, fitted, input_shape
from kdgen.types import Net

LIMIT = 2**20
"""Pixels of an image, its batch included, that a net is shown at once."""

TILE = 768
"""Height and width of the part that a tile contributes."""

FEATHER = 64
"""Pixels by which tiles overlap, and over which they are blended, for a net that sees further than can be told."""

EXACT = 1e-5
"""Largest difference to the whole of images in [-1, 1] that counts as none."""

PROBE = 128
"""Height and width of the image that a net's receptive field is read off."""

_known: WeakKeyDictionary[Net, "Overlap | None"] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Overlap:
    """How tiles are laid for a net.

    Attributes:
        margin: pixels that a tile sees beyond what it contributes.
        align: tiles begin at multiples of this, as the net's own grid of strides does.
        exact: whether the margin holds all that the net sees, so that tiles give what the whole gives.
    """

    margin: int
    align: int
    exact: bool


def apply(net: Net, x: Tensor, sigma: Tensor, *, limit: int = LIMIT, tile: int = TILE) -> Tensor:
    """A restorer's answer, by tiles where the image is large.

    A net of convolutions sees no further than its receptive field. Tiles that overlap by that give the same image to
    1e-5, which is checked once on noise; other nets' tiles are blended into each other.

    Args:
        net: called as ``net(x, sigma=sigma)``, one whose answer is not as large as ``x`` is shown the whole.
        x: ``(B, C, H, W)`` in [-1, 1]; continued by mirroring where the net needs other sizes, and cut again.
        sigma: noise levels ``(B,)`` in units of the image range.
        limit: pixels ``B * H * W`` above which tiles are used.
        tile: height and width of what a tile contributes.

    Returns:
        the answer, float32.
    """
    cond = {"sigma": sigma}
    taken = input_shape(net, x[:1], {"sigma": sigma[:1]})
    if taken.fixed is not None or x.shape[0] * x.shape[-2] * x.shape[-1] <= limit:
        return whole(net, x, cond).float()
    if net not in _known:
        _known[net] = _overlap(net, x[:1, :, :1, :1], {"sigma": sigma[:1]}, taken.multiple)
    laid = _known[net]
    return _call(net, x, cond) if laid is None else _tiled(net, x, cond, laid, tile)


def whole(net: Net, x: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
    """A net's answer to whole inputs of any size, by tiles only where images are larger than the one that it takes.

    Args:
        net: any net; one that takes one size alone gives images of that size and as many channels.
        x: ``(B, C, H, W)``; inputs of another rank are passed as they are.
        cond: its conditions.
    """
    try:
        return fitted(net, x, cond)
    except TooLarge as error:
        return _of_one_size(net, x, cond or {}, error.taken)


def _of_one_size(net: Net, x: Tensor, cond: Mapping[str, Tensor], size: Size) -> Tensor:
    side = min(size)
    return _tiled(net, x, cond, Overlap(side // 8, 1, exact=False), side - 2 * (side // 8))


def _call(net: Net, x: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    return fitted(net, x, cond).float()


def _tiled(net: Net, x: Tensor, cond: Mapping[str, Tensor], laid: Overlap, tile: int) -> Tensor:
    height, width = x.shape[-2:]
    out, weights = torch.zeros_like(x, dtype=torch.float32), x.new_zeros(height, width)
    for top, bottom in _spans(height, tile, laid.align):
        for left, right in _spans(width, tile, laid.align):
            a, b = _reach(top, bottom, height, laid)
            c, d = _reach(left, right, width, laid)
            made = _call(net, x[..., a:b, c:d], cond)
            if laid.exact:
                out[..., top:bottom, left:right] = made[..., top - a : bottom - a, left - c : right - c]
                continue
            weight = torch.outer(_ramp(a, b, height, laid.margin), _ramp(c, d, width, laid.margin)).to(x)
            out[..., a:b, c:d] += weight * made
            weights[a:b, c:d] += weight
    return out if laid.exact else out / weights


def _spans(extent: int, tile: int, align: int) -> Iterator[tuple[int, int]]:
    """What the tiles along an axis contribute, each beginning at a multiple of ``align``."""
    step = max(tile // align, 1) * align
    for begin in range(0, extent, step):
        yield begin, min(begin + step, extent)


def _reach(begin: int, end: int, extent: int, laid: Overlap) -> tuple[int, int]:
    """What a tile sees to contribute ``begin`` to ``end``."""
    margin = -(-laid.margin // laid.align) * laid.align
    return max(begin - margin, 0), min(-(-(end + margin) // laid.align) * laid.align, extent)


def _ramp(begin: int, end: int, extent: int, margin: int) -> Tensor:
    """Weights ``(end - begin,)`` that rise from either end over the overlap, but not from the border of the image."""
    place = torch.arange(end - begin)
    rise = torch.ones(end - begin) if begin == 0 else (place + 1) / (2 * margin + 1)
    fall = torch.ones(end - begin) if end == extent else (end - begin - place) / (2 * margin + 1)
    return torch.minimum(rise, fall).clamp(max=1)


def _overlap(net: Net, like: Tensor, cond: Mapping[str, Tensor], multiple: int) -> Overlap | None:
    """How tiles are laid for a net: by its receptive field where it has one, checked on noise.

    None for a net whose answer is of another size.
    """
    if _call(net, like.new_zeros(1, like.shape[1], PROBE, PROBE), cond).shape[-2:] != (PROBE, PROBE):
        return None
    margin, align = _field(net, like, cond)
    align = math.lcm(align, multiple)
    found = Overlap(margin, align, exact=True)
    if margin <= TILE // 2 and _agrees(net, like, cond, found):
        return found
    return Overlap(FEATHER, align, exact=False)


def _field(net: Net, like: Tensor, cond: Mapping[str, Tensor]) -> tuple[int, int]:
    """The radius of all convolutions in a row, in pixels of the image, and the coarsest of their strides."""
    radius, coarsest = 0.0, 1

    def seen(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal radius, coarsest
        assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        pixels = PROBE / min(given[0].shape[-1], out.shape[-1])
        reach = max((k - 1) * d for k, d in zip(module.kernel_size, module.dilation, strict=True))
        radius += pixels * (reach if isinstance(module, nn.ConvTranspose2d) or reach % 2 else reach // 2)
        coarsest = max(coarsest, round(pixels))

    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    hooks: list[Callable[[], None]] = [m.register_forward_hook(seen).remove for m in convolutions]
    try:
        _call(net, like.new_zeros(1, like.shape[1], PROBE, PROBE), cond)
    finally:
        for remove in hooks:
            remove()
    return round(radius) + coarsest, coarsest


def _agrees(net: Net, like: Tensor, cond: Mapping[str, Tensor], laid: Overlap) -> bool:
    """Whether tiles give what the whole gives for an image of noise, which every wider view would change."""
    noise = torch.Generator().manual_seed(0)
    side = 3 * (laid.margin + laid.align) + 1
    x = torch.rand((1, like.shape[1], side, side), generator=noise).to(like) * 2 - 1
    at_once = _call(net, x, cond)
    tiled = _tiled(net, x, cond, laid, laid.margin + laid.align)
    return bool((at_once - tiled).abs().max() <= EXACT)
