"""Match what a teacher says where the student says it worst."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from kdgen.methods.layer_matching import outputs
from kdgen.methods.validation import check_outputs
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net
from kdgen.utils.distance import resample


@register("method", handle="hard_feature_loss")
class HardFeature(Method):
    """The mean of the largest squared differences: the hard feature loss, Batzner et al. 2024 (arXiv 2303.14535).

    Section 3.2: of the squared differences of all channels and places of an image's answers those count that are at
    least their quantile ``p_hard``. What a student finds easy is left alone, so that it does not learn to say what its
    teacher says of things that it was never shown.

    Args:
        p_hard: the quantile; 0 is the mean of all.

    Raises:
        UserError: for a quantile outside [0, 1); in ``attach`` for outputs of unlike channels.
    """

    def __init__(self, p_hard: Annotated[float, Field(ge=0, lt=1)] = 0.999) -> None:
        super().__init__()
        self.p_hard = p_hard

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Check that the outputs can be compared. Raises UserError where their channels differ."""
        check_outputs("hard_feature", *outputs(student, teacher, batch))

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """The mean of ``(student - teacher) ** 2`` over the hardest, ``(B,)``."""
        errors = (inputs.student - resample(inputs.teacher, inputs.student)).square().flatten(1)
        count = max(round((1 - self.p_hard) * errors.shape[1]), 1)
        return errors.topk(count, dim=1, sorted=False).values.mean(1)


__all__ = ["HardFeature"]
