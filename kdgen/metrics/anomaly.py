"""How well maps of faults find them: by picture, by pixel and by region."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.metrics.columns import column
from kdgen.metrics.ranking import auroc
from kdgen.types import text

LIMIT = 0.3
"""The false positive rate up to which Bergmann et al. integrate."""

column("image_auroc", text("metric_image_auroc", "AUROC of pictures"), same=0.002)
column("pixel_auroc", text("metric_pixel_auroc", "AUROC of pixels"), same=0.002)
column("au_pro", text("metric_au_pro", "AU-PRO (overlap with faults, to 30 % false positives)"), same=0.002)


def image_auroc(maps: Tensor, faulty: Tensor) -> float:
    """The AUROC of pictures, each scored by the largest value of its map.

    Args:
        maps: the higher, the likelier a fault, ``(N, H, W)``.
        faulty: which pictures are, ``(N,)`` bool.
    """
    return auroc(maps.flatten(1).amax(1), faulty)


def pixel_auroc(maps: Tensor, masks: Tensor) -> float:
    """The AUROC of pixels.

    Args:
        maps: as for ``image_auroc``.
        masks: where faults are, ``(N, H, W)`` bool, nowhere in good pictures.
    """
    return auroc(maps, masks)


def regions(masks: Tensor) -> Tensor:
    """Connected regions, of pixels that touch by a side or a corner.

    Args:
        masks: ``(N, H, W)`` bool.

    Returns:
        ``(N, H, W)`` int64: 0 where a mask is false, else the number of the region, from 1 on over all masks.
    """
    inside = masks[:, None]
    index = torch.arange(1, masks.numel() + 1, dtype=torch.float64, device=masks.device).view_as(inside)
    labels = index * inside
    while True:
        spread = F.max_pool2d(labels, 3, 1, 1) * inside
        if torch.equal(spread, labels):
            break
        labels = spread
    numbers: Tensor = torch.unique(labels, return_inverse=True)[1].view_as(masks)
    return numbers if not masks.all() else numbers + 1


def au_pro(maps: Tensor, masks: Tensor, *, limit: float = LIMIT) -> float:
    """The area under the per-region overlap, Bergmann et al. 2021 (doi 10.1007/s11263-020-01400-4), section 4.2.

    At a threshold the overlap is the share of a region's pixels that lie above it, averaged over all regions; it is
    integrated over the false positive rate, the share of pixels without fault above it, and divided by the limit.

    Args:
        maps: as for ``image_auroc``.
        masks: as for ``pixel_auroc``.
        limit: the largest false positive rate that counts, in (0, 1].

    Returns:
        a share in [0, 1], ``limit / 2`` by chance; NaN where there are no faults, nothing else, or a value that is not
        finite.
    """
    if not masks.any() or masks.all() or not maps.isfinite().all():
        return float("nan")
    numbers = regions(masks).flatten()
    sizes = numbers.bincount().double()
    weight = torch.where(numbers > 0, 1 / sizes[numbers] / (len(sizes) - 1), 0.0)
    clean = (numbers == 0).double()
    scores, order = maps.flatten().sort(descending=True)
    last = torch.cat([scores[1:] != scores[:-1], torch.ones_like(scores[:1], dtype=torch.bool)])
    start = torch.zeros(1, dtype=torch.float64, device=maps.device)
    rate = torch.cat([start, (clean[order].cumsum(0) / clean.sum())[last]])
    overlap = torch.cat([start, weight[order].cumsum(0)[last]])
    within = rate <= limit
    at_limit = _interpolated(rate, overlap, limit)
    rate = torch.cat([rate[within], rate.new_tensor([limit])])
    overlap = torch.cat([overlap[within], overlap.new_tensor([at_limit])])
    return float(torch.trapezoid(overlap, rate) / limit)


def _interpolated(x: Tensor, y: Tensor, at: float) -> float:
    """The height at a place of a line through points of rising ``x``, the last of several at one."""
    right = int(torch.searchsorted(x, x.new_tensor(at), right=True))
    if right == len(x):
        return float(y[-1])
    share = (at - x[right - 1]) / (x[right] - x[right - 1])
    return float(y[right - 1] + share * (y[right] - y[right - 1]))


__all__ = ["au_pro", "image_auroc", "pixel_auroc", "regions"]
