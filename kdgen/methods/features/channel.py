"""Match where each channel looks."""

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdgen.methods.features.feature_base import Paired
from kdgen.methods.layer_matching import LayerPairs, Pair, choose, outputs
from kdgen.methods.validation import check_outputs
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Net
from kdgen.types.arguments import Count
from kdgen.utils.distance import resample


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
        of: ``features``, or ``outputs``: what the nets give, logits of places say, as section 4.1 does beside features.

    Raises:
        UserError: for a temperature of 0; in ``attach`` for outputs that are no maps of like channels, and for
            layers that a net does not have or that give no maps.
    """

    def __init__(
        self,
        pairs: LayerPairs | None = None,
        temperature: Annotated[float, Field(ge=1e-3)] = 4.0,
        num_pairs: Count = 2,
        of: Literal["features", "outputs"] = "features",
    ) -> None:
        super().__init__()
        self.of = of
        self.wanted, self.temperature, self.num_pairs = pairs, temperature, num_pairs

    def chosen(self, student: Net, teacher: Net, batch: Batch) -> list[Pair]:
        """The pairs that are named, or evenly spaced ones. Raises UserError as ``choose`` does."""
        return choose("channel", student, teacher, batch, self.wanted, num_pairs=self.num_pairs, ranks=(4, 5))

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Settle the pairs, or check that the outputs can be compared. Raises UserError where they cannot."""
        if self.of == "features":
            super().attach(student, teacher, batch)
        else:
            check_outputs("channel", *outputs(student, teacher, batch), images=True)

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """The mean over pairs of their errors, or the error of the outputs, ``(B,)``."""
        if self.of == "features":
            return super().loss(inputs)
        return self.error(inputs.student.float(), resample(inputs.teacher, inputs.student))

    def error(self, student: Tensor, teacher: Tensor) -> Tensor:
        """``T^2 / C sum_c KL(phi(teacher_c) || phi(student_c))``, ``(B,)``."""
        log_p, log_q = (F.log_softmax(y.flatten(2) / self.temperature, 2) for y in (teacher, student))
        return self.temperature**2 * (log_p.exp() * (log_p - log_q)).sum(2).mean(1)
