"""Large images through a net tile by tile, in the memory of a tile."""

import math
from collections.abc import Mapping
from itertools import product

import torch
from torch import Tensor

from kdgen.models.input_shape import TooLarge, fitted, input_shape
from kdgen.types import Net
from kdgen.utils.conditions import with_maps

LIMIT = 2**20
"""Pixels of an image, its batch included, that a net is shown at once."""

TILE = 896
"""Largest height and width of a tile."""

OVERLAP = 96
"""Pixels by which tiles overlap, and over which they are blended into each other."""

GRID = 32
"""Tiles begin at multiples of this, which the strides of most nets divide, and of what the net needs."""

Span = tuple[int, int, Tensor]


def apply(net: Net, x: Tensor, cond: Mapping[str, Tensor], *, limit: int = LIMIT, tile: int = TILE) -> Tensor:
    """A restorer's outputs, by tiles where the image is large.

    Tiles are not exact, because near its edges a tile lacks what lies beyond them; the windows by which they are
    blended give little weight to those pixels. For images in [-1, 1], the largest difference to the outputs for the
    whole image was 3e-6 for the bundled denoiser, and 2e-4 or less for untrained DnCNNs of 17 and 20 layers, U-Nets of
    three and four resolutions, FFDNet and nets at half resolution: 1/50 of a step of an 8-bit image. A net that looks
    at the image globally differs by as much as what it sees in a tile does.

    Args:
        net: called as ``net(x, **cond)``. One whose outputs are not a whole number of times as large as its
            inputs is shown the whole image.
        x: ``(B, C, H, W)`` in [-1, 1]; continued by mirroring where the net needs other sizes, and cut again.
        cond: what it is told, ``(B, ...)`` by name: noise levels ``sigma`` ``(B,)`` in units of the image range, say.
            Maps as large as ``x`` are cut as it is.
        limit: pixels ``B * H * W`` above which tiles are used.
        tile: largest height and width of a tile, at least ``OVERLAP + GRID``.

    Returns:
        the outputs, float32, ``(B, C, S * H, S * W)`` for a net that enlarges images S times.
    """
    shape = input_shape(net, x[:1], {name: value[:1] for name, value in cond.items()})
    if shape.fixed is not None or x.shape[0] * x.shape[-2] * x.shape[-1] <= limit:
        return whole(net, x, cond).float()
    return _tiled(net, x, cond, tile=tile, overlap=OVERLAP, grid=math.lcm(GRID, shape.multiple))


def whole(net: Net, x: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
    """A net's outputs for whole inputs of any size, by tiles only where images are larger than the one that it takes.

    Args:
        net: any net.
        x: ``(B, C, H, W)``; inputs of another rank are passed as they are.
        cond: its conditions.
    """
    try:
        return fitted(net, x, cond)
    except TooLarge as error:
        side = min(error.taken)
        return _tiled(net, x, cond or {}, tile=side, overlap=side // 4, grid=1)


def _tiled(net: Net, x: Tensor, cond: Mapping[str, Tensor], *, tile: int, overlap: int, grid: int) -> Tensor:
    height, width = x.shape[-2:]
    blended: Tensor | None = None
    for (top, bottom, down), (left, right, across) in product(
        _spans(height, tile, overlap, grid), _spans(width, tile, overlap, grid)
    ):
        part = slice(top, bottom), slice(left, right)
        outputs = fitted(net, x[..., *part], with_maps(cond, x, lambda each: each[..., *part])).float()  # noqa: B023
        scale = outputs.shape[-1] // (right - left)
        if outputs.shape[-2:] != (scale * (bottom - top), scale * (right - left)):
            return fitted(net, x, cond).float()
        if blended is None:
            blended = outputs.new_zeros((*outputs.shape[:-2], scale * height, scale * width))
        window = torch.outer(down.repeat_interleave(scale), across.repeat_interleave(scale)).to(outputs)
        blended[..., scale * top : scale * bottom, scale * left : scale * right] += window * outputs
    assert blended is not None
    return blended


def _spans(extent: int, tile: int, overlap: int, grid: int) -> list[Span]:
    """Begin, end and window ``(end - begin,)`` of tiles of about one size; the windows add up to 1 at every pixel."""
    largest, inner = max((tile - overlap) // grid, 1) * grid, max(extent - overlap, 1)
    count = -(-inner // largest)
    step = -(-inner // (count * grid)) * grid
    spans = [(begin, min(begin + step + overlap, extent)) for begin in range(0, inner, step)]
    windows = [_window(begin, end, extent, overlap) for begin, end in spans]
    total = torch.zeros(extent)
    for (begin, end), window in zip(spans, windows, strict=True):
        total[begin:end] += window
    return [(begin, end, window / total[begin:end]) for (begin, end), window in zip(spans, windows, strict=True)]


def _window(begin: int, end: int, extent: int, overlap: int) -> Tensor:
    """Weights ``(end - begin,)`` that rise as sin^4 over the overlap from those ends that are not the image's."""
    distance = (torch.arange(end - begin) + 0.5) / max(overlap, 1)
    edges = [distance] * (begin > 0) + [distance.flip(0)] * (end < extent) + [torch.ones(end - begin)]
    return (torch.stack(edges).amin(0) * math.pi / 2).sin().pow(4)
