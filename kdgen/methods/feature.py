"""Match intermediate features, through regressors where widths differ."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdgen.methods.distance import Distance, check_count, check_distance, distance, resample
from kdgen.methods.pairing import Pair, check_pairs, choose, settle
from kdgen.registry import register
from kdgen.types import Batch, Method, Net, View


@register("method")
class Feature(Method):
    """Distance between features of student and teacher: FitNets, Romero et al. 2015 (arXiv 1412.6550), eq. 3.

    ``L = d(r(student tap), teacher tap)``, with ``d`` a mean square and thus the paper's half squared norm up to a
    factor. ``r`` is a 1x1 convolution (a linear map for ``(B, C)``) where widths differ, owned by the method, and
    nothing where they agree. Where sizes differ, the teacher's features are resampled to the student's. Several pairs
    are averaged.

    Args:
        pairs: ``[["student.path", "teacher.path"], ...]``; none for an automatic choice.
        distance: ``l1``, ``l2``, ``charbonnier`` or ``huber``.
        normalize: divide both sides by the root mean square of the teacher's features over the batch, so that the
            loss does not depend on their scale.
        num_pairs: how many pairs the automatic choice makes at most.

    Raises:
        UserError: for an unknown distance; in ``attach`` for layers that a net does not have or that have no features.
    """

    def __init__(
        self,
        pairs: Sequence[Sequence[str]] | None = None,
        distance: Distance = "l2",
        normalize: bool = True,
        num_pairs: int = 3,
    ) -> None:
        super().__init__()
        check_distance("feature", "distance", distance)
        check_count("feature", "num_pairs", num_pairs)
        check_pairs("feature", pairs or [])
        self.wanted, self.distance, self.normalize, self.num_pairs = pairs, distance, normalize, num_pairs
        self.pairs: list[Pair] = []
        self.regressors = nn.ModuleList()

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Settle the pairs and make a regressor for each whose widths differ. Raises UserError as ``choose`` does."""
        self.pairs = choose("feature", student, teacher, batch, self.wanted, num_pairs=self.num_pairs)
        settle(self, self.pairs)
        self.regressors = nn.ModuleList(_regressor(pair) for pair in self.pairs).to(batch.x.device)

    def loss(self, view: View) -> Tensor:
        """``mean over pairs of d(r(student), teacher)``, ``(B,)``."""
        losses = []
        for pair, regressor in zip(self.pairs, self.regressors, strict=True):
            student = regressor(view.student_taps[pair.student.path].float()).float()
            teacher = resample(view.teacher_taps[pair.teacher.path], student)
            if self.normalize:
                scale = teacher.square().mean().sqrt().clamp_min(1e-6)
                student, teacher = student / scale, teacher / scale
            losses.append(distance(self.distance, student, teacher))
        return torch.stack(losses).mean(0)


def _regressor(pair: Pair) -> nn.Module:
    from_width, to_width = pair.student.shape[1], pair.teacher.shape[1]
    if from_width == to_width:
        return nn.Identity()
    return nn.Conv2d(from_width, to_width, 1) if len(pair.student.shape) == 4 else nn.Linear(from_width, to_width)
