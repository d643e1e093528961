"""How unlike the images of one set are, and how sharp."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.data.seed import generator
from kdgen.devices import device_of, evaluating, pick_device
from kdgen.metrics.fidelity import gradient
from kdgen.metrics.perceptual import Perceptual, perceptual

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


def mean_pairwise_distance(
    images: Tensor, *, seed: int = 0, num_pairs: int = 1000, distance: Perceptual | None = None
) -> float:
    """The mean perceptual distance of two images of a set.

    Args:
        images: ``(N, C, H, W)`` in [-1, 1], N at least 2.
        seed: of the pairs.
        num_pairs: how many pairs of different images, drawn at random.
        distance: where it is measured; ``perceptual("features32")``, on a GPU where there is one, if not given.
    """
    if len(images) < 2:
        raise ValueError("the distance of two images of a set needs two")
    distance = distance or perceptual("features32").to(pick_device("auto"))
    draw = generator(seed, "pairs")
    one = torch.randint(len(images), (num_pairs,), generator=draw)
    other = (one + torch.randint(1, len(images), (num_pairs,), generator=draw)) % len(images)
    pairs = torch.stack([one, other]).to(images.device)
    where = device_of(distance)
    with evaluating(distance):
        parts = [distance(images[i].to(where), images[j].to(where)) for i, j in torch.split(pairs, CALL, dim=1)]
    return torch.cat(parts).double().mean().item()


def sharpness_ratio(images: Tensor, reference: Tensor) -> float:
    """The mean size of the gradient of a set of images relative to that of a reference set.

    The gradient is that of ``sharpness``. 1 is as sharp as the reference, below is blurred, above is noisy.

    Args:
        images: ``(N, C, H, W)``, any range.
        reference: ``(M, C, H, W)`` of the same size, so that gradients compare.
    """
    ours, theirs = (torch.cat([gradient(x) for x in torch.split(each, CALL)]).mean() for each in (images, reference))
    return (ours / theirs.clamp_min(1e-6)).item()
