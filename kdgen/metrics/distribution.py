"""How far a set of images is from a reference set, as distributions of features ``(N, D)``; all in float64."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ROWS = 1000
"""Rows of a matrix of N x N pairs that are held at once."""

KID_SUBSET = 1000
"""Size of the subsets that a KID is averaged over, as torch-fidelity has it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gaussian:
    """The normal distribution of a set of features: what a Frechet distance needs to know of it.

    Attributes:
        mean: ``(D,)`` float64.
        covariance: ``(D, D)`` float64, unbiased.
        count: number of features it was made from.
    """

    mean: Tensor
    covariance: Tensor
    count: int

    @classmethod
    def of(cls, features: Tensor) -> "Gaussian":
        """That of features ``(N, D)``, N at least 2."""
        features = _checked(features)
        mean = features.mean(0)
        centred = features - mean
        return cls(mean=mean, covariance=centred.T @ centred / (len(features) - 1), count=len(features))


def distances(features: Tensor, reference: Tensor, *, name: str) -> dict[str, float]:
    """All distances of a set of features from a reference set.

    Args:
        features: ``(N, D)``.
        reference: ``(M, D)``.
        name: of the extractor they come from.

    Returns:
        ``fd_<name>``, ``kd_<name>``, ``precision``, ``recall``, ``density``, ``coverage``. Features called
        ``inception`` alone give ``fid`` and ``kid`` in place of the first two, the latter over torch-fidelity's
        subsets where both sets are large enough. Not a number where the features are not.
    """
    frechet, kernel, subset_size = f"fd_{name}", f"kd_{name}", None
    if name == "inception":
        frechet, kernel = "fid", "kid"
        subset_size = KID_SUBSET if min(len(features), len(reference)) >= KID_SUBSET else None
    precision, recall = precision_recall(features, reference)
    density, coverage = density_coverage(features, reference)
    return {
        frechet: frechet_distance(features, reference),
        kernel: kernel_distance(features, reference, subset_size=subset_size),
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
    }


def digest(features: Tensor | Gaussian) -> str:
    """A short hash of reference statistics, to stand beside every figure: count, mean and covariance in float32."""
    gaussian = _gaussian(features)
    state = hashlib.sha256(str(gaussian.count).encode())
    for statistic in (gaussian.mean, gaussian.covariance):
        state.update((statistic.float().cpu() + 0.0).numpy().tobytes())
    return state.hexdigest()[:12]


def frechet_distance(a: Tensor | Gaussian, b: Tensor | Gaussian) -> float:
    """Frechet distance of the normal distributions of two sets: Heusel et al. 2017 (arXiv 1706.08500), eq. 6.

    ``|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))``, Dowson & Landau 1982, eq. 4. The last trace is the sum of
    the singular values of ``C_a^(1/2) C_b^(1/2)``, which needs no inverse and stays accurate for singular covariances.

    Args:
        a: features ``(N, D)``, or their normal distribution.
        b: the same of another set, ``(M, D)``.

    Returns:
        0 or above; not a number where the features are not.
    """
    a, b = _gaussian(a), _gaussian(b)
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace()
    if not distance.isfinite():
        return math.nan
    common = torch.linalg.svdvals(_root(a.covariance) @ _root(b.covariance)).sum()
    return max(float(distance - 2 * common), 0.0)


def kernel_distance(
    a: Tensor, b: Tensor, *, subset_size: int | None = None, num_subsets: int = 100, seed: int = 2020
) -> float:
    """Kernel distance, Binkowski et al. 2018 (arXiv 1801.01401), sec. 4: the unbiased squared MMD, eq. 4.

    The kernel is ``(x . y / D + 1)^3``. Being unbiased it can fall below 0.

    Args:
        a: features ``(N, D)``.
        b: features ``(M, D)``.
        subset_size: average over random subsets of this size; the estimate from all pairs if not given.
        num_subsets: how many subsets.
        seed: of the subsets. The defaults, with ``subset_size`` 1000, draw those of torch-fidelity.

    Raises:
        ValueError: if a set is smaller than ``subset_size``.
    """
    a, b = _checked(a), _checked(b)
    if subset_size is None:
        return _discrepancy(a, b)
    draw = np.random.RandomState(seed)
    subsets = [
        [x[torch.from_numpy(draw.choice(len(x), subset_size, replace=False)).to(x.device)] for x in (a, b)]
        for _ in range(num_subsets)
    ]
    return sum(_discrepancy(*pair) for pair in subsets) / num_subsets


def precision_recall(features: Tensor, reference: Tensor, *, k: int = 3) -> tuple[float, float]:
    """Precision and recall, Kynkaanniemi et al. 2019 (arXiv 1904.06991), eq. 2.

    Around each point of a set lies a ball that reaches to its ``k``-th nearest neighbour in the set. Precision is the
    share of the features inside any ball of the reference, recall the share of the reference inside any ball of the
    features.

    Args:
        features: ``(N, D)``, N above ``k``.
        reference: ``(M, D)``, M above ``k``.
        k: which neighbour.

    Returns:
        precision and recall, in [0, 1].
    """
    features, reference = _centred(features, reference)

    def covered(points: Tensor, centres: Tensor) -> float:
        radii = _radii(centres, k)
        return _mean((distances < radii).any(1) for distances in _distances(points, centres))

    return covered(features, reference), covered(reference, features)


def density_coverage(features: Tensor, reference: Tensor, *, k: int = 5) -> tuple[float, float]:
    """Density and coverage, Naeem et al. 2020 (arXiv 2002.09797), eq. 3 and 4.

    With balls around the reference as in ``precision_recall``, density is the number of balls a feature lies in, over
    ``k``; coverage is the share of balls that hold a feature. Where the distributions agree, density is 1 and coverage
    near 1.

    Args:
        features: ``(N, D)``.
        reference: ``(M, D)``, M above ``k``.
        k: which neighbour.

    Returns:
        density, 0 and above, and coverage, in [0, 1].
    """
    features, reference = _centred(features, reference)
    radii = _radii(reference, k)
    density = _mean((distances < radii).sum(1) for distances in _distances(features, reference)) / k
    nearest = torch.cat([distances.amin(1) for distances in _distances(reference, features)])
    return density, _mean([nearest < radii])


def _gaussian(x: Tensor | Gaussian) -> Gaussian:
    return x if isinstance(x, Gaussian) else Gaussian.of(x)


def _checked(features: Tensor) -> Tensor:
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features are (N, D) with N at least 2, not {tuple(features.shape)}")
    return features.double()


def _centred(features: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both moved so that the reference has mean 0: distances keep more digits."""
    features, reference = _checked(features), _checked(reference)
    middle = reference.mean(0)
    return features - middle, reference - middle


def _root(covariance: Tensor) -> Tensor:
    """The square root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp_min(0).sqrt() @ vectors.T
    return root


def _discrepancy(a: Tensor, b: Tensor) -> float:
    """The unbiased squared maximum mean discrepancy."""

    def within(x: Tensor) -> Tensor:
        itself = (x.square().mean(1) + 1).pow(3).sum()
        return (_kernel_sum(x, x) - itself) / (len(x) * (len(x) - 1))

    return (within(a) + within(b) - 2 * _kernel_sum(a, b) / (len(a) * len(b))).item()


def _kernel_sum(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([(part @ b.T / b.shape[1] + 1).pow(3).sum() for part in torch.split(a, ROWS)]).sum()


def _radii(x: Tensor, k: int) -> Tensor:
    """The distance of each point of a set to its ``k``-th nearest neighbour, itself not counted."""
    if len(x) <= k:
        raise ValueError(f"the {k}th neighbour needs more than {k} features, not {len(x)}")
    return torch.cat([distances.topk(k + 1, largest=False).values[:, -1] for distances in _distances(x, x)])


def _distances(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """The distances of each row of ``a`` to all of ``b``, some rows at a time."""
    return (torch.cdist(part, b) for part in torch.split(a, ROWS))


def _mean(parts: Iterable[Tensor]) -> float:
    return torch.cat([part.double() for part in parts]).mean().item()
