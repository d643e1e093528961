"""Match which places of an image look alike."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.methods.layer_matching import LayerPairs, Pair, choose, settle
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net
from kdgen.types.arguments import Count


@register("method")
class Pairwise(Method):
    """Similarities between places of feature maps: Liu et al. 2019 (arXiv 1903.04197), eq. 4.

    Maps are averaged over squares, at most ``places`` down and across. With the features ``f_i`` of place ``i``,
    ``a_ij = f_i . f_j / (|f_i| |f_j|)`` and ``L = sum_ij (a_ij(student) - a_ij(teacher))^2 / N^2`` over the N places.
    Maps of any width and size can be compared. Several pairs are averaged.

    Args:
        pairs: ``[["student.path", "teacher.path"], ...]``; none for an automatic choice.
        num_pairs: how many pairs the automatic choice makes at most.
        places: how many squares a map is averaged over in height and in width; memory grows with its fourth power.

    Raises:
        UserError: in ``attach`` for layers that a net does not have or that give no maps.
    """

    def __init__(self, pairs: LayerPairs | None = None, num_pairs: Count = 1, places: Count = 16) -> None:
        super().__init__()
        self.wanted, self.num_pairs, self.places = pairs, num_pairs, places
        self.pairs: list[Pair] = []

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Settle the pairs. Raises UserError as ``choose`` does."""
        self.pairs = choose("pairwise", student, teacher, batch, self.wanted, num_pairs=self.num_pairs, ranks=(4,))
        settle(self, self.pairs)

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """``mean over pairs of sum_ij (a_ij(student) - a_ij(teacher))^2 / N^2``, ``(B,)``."""
        losses = []
        for pair in self.pairs:
            maps = inputs.student_features[pair.student.path], inputs.teacher_features[pair.teacher.path]
            rows, columns = (min(self.places, *(y.shape[axis] for y in maps)) for axis in (-2, -1))
            student, teacher = (affinities(F.adaptive_avg_pool2d(y.float(), (rows, columns))) for y in maps)
            losses.append((student - teacher).square().mean((1, 2)))
        return torch.stack(losses).mean(0)


def affinities(features: Tensor) -> Tensor:
    """The cosines between the features of all places ``(B, C, H, W)``: ``(B, H * W, H * W)``."""
    rows = F.normalize(features.flatten(2), dim=1)
    return rows.transpose(1, 2) @ rows
