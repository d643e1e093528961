"""Match which images of a batch look alike."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.methods.layer_matching import LayerPairs, Pair, choose, settle
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net, UserError, text
from kdgen.types.arguments import Count


@register("method")
class Relation(Method):
    """Similarity preserving: Tung & Mori 2019 (arXiv 1907.09682), section 3.

    With the features of a batch as rows ``Q (B, C * H * W)``, the similarities are ``G = Q Q^T`` with rows of length
    1, and ``L = || G_T - G_S ||_F^2 / B^2``. Image ``i`` gives row ``i``: ``|| G_T[i] - G_S[i] ||^2 / B``, so that the
    mean over images is the paper's loss. Features of any width and size can be compared. Several pairs are averaged.

    Args:
        pairs: ``[["student.path", "teacher.path"], ...]``; none for an automatic choice.
        num_pairs: how many pairs the automatic choice makes at most.

    Raises:
        UserError: in ``attach`` for layers that a net does not have; in ``loss`` for a batch of one image.
    """

    def __init__(self, pairs: LayerPairs | None = None, num_pairs: Count = 2) -> None:
        super().__init__()
        self.wanted, self.num_pairs = pairs, num_pairs
        self.pairs: list[Pair] = []

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Settle the pairs. Raises UserError as ``choose`` does."""
        self.pairs = choose("relation", student, teacher, batch, self.wanted, num_pairs=self.num_pairs,
                            ranks=(2, 3, 4, 5), same_rank=False)  # fmt: skip
        settle(self, self.pairs)

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """``mean over pairs of || G_T[i] - G_S[i] ||^2 / B``, ``(B,)``. Raises UserError for a batch of one image."""
        if len(inputs.batch.x) < 2:
            raise UserError(text("relation_batch", "relation compares the images of a batch: set batch_size to 2 or "
                                 "more"))  # fmt: skip
        losses = []
        for pair in self.pairs:
            student = similarities(inputs.student_features[pair.student.path])
            teacher = similarities(inputs.teacher_features[pair.teacher.path])
            losses.append((teacher - student).square().mean(1))
        return torch.stack(losses).mean(0)


def similarities(features: Tensor) -> Tensor:
    """Similarities of the images of a batch by their features ``(B, ...)``: ``(B, B)``, rows of length 1, float32."""
    rows = features.float().flatten(1)
    return F.normalize((rows @ rows.T).float())
