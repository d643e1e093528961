"""Match intermediate features, through regressors where widths differ."""

from torch import Tensor

from kdgen.methods.features.feature_base import Paired
from kdgen.methods.layer_matching import LayerPairs, Pair, choose
from kdgen.registry import register
from kdgen.types import Batch, Net
from kdgen.types.arguments import Count
from kdgen.utils.distance import Distance, distance

DEGREES: dict[Distance, int] = {"l1": 1, "l2": 2}
"""How the distances that scale with their arguments do: they need not be divided before, which saves two passes."""


@register("method", handle="fitnets")
class Feature(Paired):
    """Distance between features of student and teacher: FitNets, Romero et al. 2015 (arXiv 1412.6550), eq. 3.

    ``L = d(r(student feature), teacher feature)``, with ``d`` a mean square and thus the paper's half squared norm up
    to a factor. ``r`` is a 1x1 convolution (a linear map for ``(B, C)``) where widths differ, owned by the method, and
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
        pairs: LayerPairs | None = None,
        distance: Distance = "l2",
        normalize: bool = True,
        num_pairs: Count = 3,
    ) -> None:
        super().__init__()
        self.wanted, self.distance, self.normalize, self.num_pairs = pairs, distance, normalize, num_pairs

    def chosen(self, student: Net, teacher: Net, batch: Batch) -> list[Pair]:
        """The pairs that are named, or evenly spaced ones. Raises UserError as ``choose`` does."""
        return choose("feature", student, teacher, batch, self.wanted, num_pairs=self.num_pairs)

    def error(self, student: Tensor, teacher: Tensor) -> Tensor:
        """``d(r(student), teacher)``, ``(B,)``."""
        if not self.normalize:
            return distance(self.distance, student, teacher)
        scale = teacher.square().mean().sqrt().clamp_min(1e-6)
        if self.distance in DEGREES:
            return distance(self.distance, student, teacher) / scale ** DEGREES[self.distance]
        return distance(self.distance, student / scale, teacher / scale)
