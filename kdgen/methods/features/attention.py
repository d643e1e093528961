"""Match where the features are strong, whatever their width."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdgen.methods.layer_matching import LayerPairs, Pair, choose, settle
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net
from kdgen.types.arguments import Count
from kdgen.utils.distance import resample


@register("method")
class Attention(Method):
    """Attention transfer: Zagoruyko & Komodakis 2017 (arXiv 1612.03928), eq. 2.

    ``L = || Q_S / ||Q_S||_2 - Q_T / ||Q_T||_2 ||_2`` with ``Q = vec(sum over channels of |A|^p)``, the activation-based
    map of section 3.1. Where sizes differ, the teacher's map is resampled to the student's. Several pairs are averaged.

    Args:
        pairs: ``[["student.path", "teacher.path"], ...]``; none for an automatic choice.
        p: the power of the map, at least 1; larger ones look at the strongest features alone.
        num_pairs: how many pairs the automatic choice makes at most.

    Raises:
        UserError: for a power below 1; in ``attach`` for layers that a net does not have or that are no feature maps.
    """

    def __init__(
        self, pairs: LayerPairs | None = None, p: Annotated[float, Field(ge=1)] = 2, num_pairs: Count = 3
    ) -> None:
        super().__init__()
        self.wanted, self.p, self.num_pairs = pairs, p, num_pairs
        self.pairs: list[Pair] = []

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Settle the pairs. Raises UserError as ``choose`` does."""
        self.pairs = choose("attention", student, teacher, batch, self.wanted, num_pairs=self.num_pairs, ranks=(4, 5))
        settle(self, self.pairs)

    def attention(self, features: Tensor) -> Tensor:
        """The attention map of features ``(B, C, H, W)``: ``sum |A|^p`` over channels, ``(B, 1, H, W)``, float32."""
        return features.float().abs().pow(self.p).sum(1, keepdim=True)

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """``mean over pairs of the distance of normalised maps``, ``(B,)``."""
        losses = []
        for pair in self.pairs:
            student = self.attention(inputs.student_features[pair.student.path])
            teacher = resample(self.attention(inputs.teacher_features[pair.teacher.path]), student)
            difference = F.normalize(student.flatten(1)) - F.normalize(teacher.flatten(1))
            losses.append(torch.linalg.vector_norm(difference, dim=1))
        return torch.stack(losses).mean(0)
