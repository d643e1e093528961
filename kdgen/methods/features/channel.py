"""Match where each channel looks."""

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdgen.methods.features.feature_base import Paired
from kdgen.methods.layer_matching import LayerPairs, Pair, choose
from kdgen.registry import register
from kdgen.types import Batch, Net
from kdgen.types.arguments import Count


@register("method", handle="cwd")
class Channel(Paired):
    """Channel-wise KL between feature maps: Shu et al. 2021 (arXiv 2011.13256), eq. 4-5.

    Each channel becomes a distribution over places, ``phi = softmax(y / T)``, and ``L = T^2 / C sum over channels of
    KL(phi(teacher) || phi(student))``. A 1x1 convolution widens or narrows the student's features where widths differ;
    where sizes differ, the teacher's features are resampled to the student's. Several pairs are averaged.

    Args:
        pairs: ``[["student.path", "teacher.path"], ...]``; none for an automatic choice.
        temperature: T; the higher, the wider the regions that count.
        num_pairs: how many pairs the automatic choice makes at most.

    Raises:
        UserError: for a temperature of 0; in ``attach`` for layers that a net does not have or that give no maps.
    """

    def __init__(
        self,
        pairs: LayerPairs | None = None,
        temperature: Annotated[float, Field(ge=1e-3)] = 4.0,
        num_pairs: Count = 2,
    ) -> None:
        super().__init__()
        self.wanted, self.temperature, self.num_pairs = pairs, temperature, num_pairs

    def chosen(self, student: Net, teacher: Net, batch: Batch) -> list[Pair]:
        """The pairs that are named, or evenly spaced ones. Raises UserError as ``choose`` does."""
        return choose("channel", student, teacher, batch, self.wanted, num_pairs=self.num_pairs, ranks=(4, 5))

    def error(self, student: Tensor, teacher: Tensor) -> Tensor:
        """``T^2 / C sum_c KL(phi(teacher_c) || phi(student_c))``, ``(B,)``."""
        log_p, log_q = (F.log_softmax(y.flatten(2) / self.temperature, 2) for y in (teacher, student))
        return self.temperature**2 * (log_p.exp() * (log_p - log_q)).sum(2).mean(1)
