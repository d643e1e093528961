"""How unlike the images of one set are, and how sharp."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.metrics.fidelity import FLAT, gradient_energy
from kdgen.metrics.perceptual import Perceptual, perceptual
from kdgen.utils.devices import device_of, evaluating, pick_device

CALL = 100
"""Images in one call of a net."""


def vendi_score(features: Tensor) -> float:
    """The Vendi score, Friedman & Dieng 2023 (arXiv 2210.02410), eq. 2: how many unlike images there seem to be.

    ``exp(-sum l log l)`` over the eigenvalues of the cosine similarities of N features, divided by N.

    Args:
        features: ``(N, D)``.

    Returns:
        from 1, all alike, to N, all orthogonal; not a number where the features are not.
    """
    unit = F.normalize(features.double(), dim=1)
    if not unit.isfinite().all():
        return math.nan
    similarity = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    share = torch.linalg.eigvalsh(similarity / len(unit)).clamp_min(0)
    return float(torch.special.entr(share).sum().exp())


def mean_pairwise_distance(images: Tensor, *, distance: Perceptual | None = None) -> float:
    """The mean perceptual distance of two images of a set, over all pairs.

    The distance is linear in the squared differences of features, whose mean over the pairs of N images is
    ``2 / (N - 1) * (sum f^2 - (sum f)^2 / N)``: twice the unbiased variance. So each image passes the net once.

    Args:
        images: ``(N, C, H, W)`` in [-1, 1], N at least 2.
        distance: where it is measured; ``perceptual("features32")``, on a GPU where there is one, if not given.
    """
    if len(images) < 2:
        raise ValueError("the distance of two images of a set needs two")
    distance = distance or perceptual("features32").to(pick_device("auto"))
    where, count = device_of(distance), len(images)
    sums: list[tuple[Tensor, Tensor]] = []
    with evaluating(distance):
        for part in torch.split(images, CALL):
            maps = [each.cpu().double() for each in distance.unit_maps(part.to(where))]
            now = [(each.sum(0), each.square().sum(0)) for each in maps]
            sums = [(a + c, b + d) for (a, b), (c, d) in zip(sums, now, strict=True)] if sums else now
        variances = [2 / (count - 1) * (squares - total.square() / count) for total, squares in sums]
        return distance.combine([each.unsqueeze(0).to(where, torch.float32) for each in variances]).item()


def sharpness_ratio(images: Tensor, reference: Tensor) -> float:
    """The mean gradient energy of a set of images relative to that of a reference set, ``mean E / mean E``.

    E is that of ``gradient_energy``. 1 is as sharp as the reference, below is blurred, above is noisy.

    Args:
        images: ``(N, C, H, W)``, any range.
        reference: ``(M, C, H, W)`` of the same size, so that gradients compare.
    """
    energy, reference_energy = (
        torch.cat([gradient_energy(x) for x in torch.split(each, CALL)]).mean() for each in (images, reference)
    )
    return (energy / reference_energy.clamp_min(FLAT)).item()
