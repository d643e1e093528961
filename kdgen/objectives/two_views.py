"""Have the same features of two views of an image."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.data.jitter import Jitter
from kdgen.objectives.probe import features_of, pooled, probe_layer, settled_layer
from kdgen.registry import register
from kdgen.types import Batch, LossInputs, Net, Objective, UserError, text
from kdgen.types.arguments import Count, NonNegative
from kdgen.utils.conditions import is_map

VIEWS = Jitter(scale=0.25, shift=0.1, rotation=15.0, colour=0.3, flip=0.5)
"""How views differ."""

COLOURS = 3
"""Channels of a photograph; what is stacked behind it are maps."""

NONE = 1e-4
"""What of a pixel may be missing at most, in numbers that were resampled, where none of it is."""


@register("objective")
class TwoViews(Objective):
    """Consistency of two views, without negatives, critics or averages: VICReg (Bardes et al. 2022, arXiv 2105.04906).

    Of the embeddings of both views by two layers on a layer's features, eq. 6: their mean squared difference times
    ``invariance``; the mean of ``max(0, 1 - std)`` over dimensions, eq. 1, times ``variance``, which keeps them from
    collapsing to one point; and the squares off the diagonal of their covariance, eq. 4, times ``covariance``. The
    last two are of the batch and the same for each image. Colours of views are clipped to [-1, 1], and from the fourth
    channel on there are none; what a net is told of places moves with them. The embedding learns along and never ships.

    Args:
        layer: dotted path of the student's module that gives features ``(B, D, h, w)`` or ``(B, D)``; the last one by
            default that gives maps, or else features. Maps are averaged over places.
        size: of the embedding.
        invariance: weight of the first term.
        variance: of the second.
        covariance: of the third.

    Raises:
        UserError: in ``attach`` for inputs that are no square images or a single one, and for a layer that gives no
            features.
    """

    reads = frozenset[str]()
    embedding: nn.Module

    def __init__(
        self, layer: str | None = None, size: Count = 128, invariance: NonNegative = 25.0,
        variance: NonNegative = 25.0, covariance: NonNegative = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.layer, self.size = layer, size
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def attach(self, student: Net, batch: Batch) -> None:
        """Make the embedding. Raises UserError where there is nothing to see twice or to read."""
        x = batch.x
        if x.ndim != 4 or x.shape[-1] != x.shape[-2] or len(x) < 2:
            raise UserError(text("two_views_square", "two_views sees batches of 2 square images or more, and this "
                                 "student is shown {shape}: leave it out", shape=str(tuple(x.shape))))  # fmt: skip
        self.layer = settled_layer("two_views", student, batch, self.layer, (4, 2))
        features = pooled(probe_layer("two_views", student, batch, self.layer))
        embedding = nn.Sequential(nn.Linear(features.shape[1], self.size), nn.ReLU(), nn.Linear(self.size, self.size))
        self.embedding = embedding.to(features.device)

    def loss(self, inputs: LossInputs) -> Tensor:
        """The three terms, ``(B,)``."""
        x = inputs.batch.x
        seed = int(torch.randint(2**31, ()))
        random = torch.Generator().manual_seed(seed)
        (one, its), (other, others) = (_view(x, inputs.batch.cond, random) for _ in range(2))
        views, cond = torch.cat([one, other]), {name: torch.cat([value, others[name]]) for name, value in its.items()}
        a, b = self.embedding(pooled(features_of(inputs.student_net, views, cond, str(self.layer)))).chunk(2)
        apart = (a - b).square().mean(1)
        spread = sum(F.relu(1 - (z.var(0, unbiased=False) + 1e-4).sqrt()).mean() for z in (a, b))
        redundant = sum(_off_diagonal(z) for z in (a, b))
        total: Tensor = self.invariance * apart + self.variance * spread + self.covariance * redundant
        return total


def _view(x: Tensor, cond: Mapping[str, Tensor], random: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """A view of images, and what is told of it: where a part of a pixel is missing, it is missing."""
    maps = {name: value for name, value in cond.items() if value.ndim == x.ndim and is_map(value, x)}
    stack = VIEWS(torch.cat([x, *maps.values()], 1), random, min(COLOURS, x.shape[1]))
    seen, *moved = torch.split(stack, [each.shape[1] for each in (x, *maps.values())], 1)
    told = dict(zip(maps, moved, strict=True))
    return seen, {**cond, **told, **({"mask": (told["mask"] > NONE).to(x)} if "mask" in told else {})}


def _off_diagonal(z: Tensor) -> Tensor:
    """The squares off the diagonal of the covariance of embeddings ``(B, D)``, summed and divided by D."""
    centred = z - z.mean(0)
    covariance = centred.T @ centred / max(len(z) - 1, 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]
