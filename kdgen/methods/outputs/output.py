"""Match what the student says to what the teacher says."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from kdgen.methods.layer_matching import outputs
from kdgen.methods.validation import check_outputs
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net
from kdgen.utils.distance import Distance, distance, resample


@register("method")
class Output(Method):
    """Distance between the outputs of student and teacher, after Hinton et al. 2015 (arXiv 1503.02531).

    Where they differ in size, the teacher's output is resampled to the student's. A batch's weights count for ``l2``
    alone: they are for squared errors.

    Args:
        loss: ``l1``, ``l2``, ``charbonnier`` or ``huber``, each a mean over channels and pixels.
        epsilon: width of the rounding of charbonnier, in units of images in [-1, 1].
        delta: where huber turns from a parabola into a line, in the same units.

    Raises:
        UserError: for an unknown loss, or numbers that are not positive; in ``attach`` for outputs of unlike channels.
    """

    def __init__(
        self,
        loss: Distance = "l2",
        epsilon: Annotated[float, Field(ge=1e-8)] = 1e-3,
        delta: Annotated[float, Field(ge=1e-8)] = 0.1,
    ) -> None:
        super().__init__()
        self.kind, self.epsilon, self.delta = loss, epsilon, delta
        self.weighted = loss == "l2"

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Check that the outputs can be compared. Raises UserError where their channels differ."""
        check_outputs("output", *outputs(student, teacher, batch))

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """``d(student, teacher)``, ``(B,)``."""
        teacher = resample(inputs.teacher, inputs.student)
        return distance(self.kind, inputs.student, teacher, epsilon=self.epsilon, delta=self.delta)
