"""Match how the outputs look, by features of a fixed net."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kdgen.methods.layer_matching import outputs
from kdgen.methods.validation import check_outputs
from kdgen.metrics.perceptual import Perceptual as Measure
from kdgen.metrics.perceptual import perceptual
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net, UserError, text
from kdgen.utils.distance import resample
from kdgen.utils.references import Names

Weights = Annotated[
    str,
    Names("path", but=("features32",)),
    Field(description="features32 or the path of a file of weights"),
]


@register("method")
class Perceptual(Method):
    """Perceptual distance of the outputs: Johnson et al. 2016 (arXiv 1603.08155), Zhang et al. 2018 (arXiv 1801.03924).

    The measure is ``kdgen.metrics.perceptual``: 0 for equal images, differentiable, its weights fixed. Where they
    differ in size, the teacher's output is resampled to the student's.

    Args:
        features: ``features32``, the small net that ships with kdgen, or the path of the published weights of
            shift-tolerant LPIPS, ``alex_shift_tolerant.pth``.

    Raises:
        UserError: in ``attach`` for weights that cannot be had, and for outputs that are not images of like channels,
            1 or 3.
    """

    def __init__(self, features: Weights = "features32") -> None:
        super().__init__()
        self.features = features
        self._measure: tuple[Measure, ...] = ()  # in a tuple, so that its weights are not this method's

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Load the weights and check that the outputs can be compared. Raises UserError where they cannot."""
        student_out, teacher_out = outputs(student, teacher, batch)
        check_outputs("perceptual", student_out, teacher_out, images=True)
        if student_out.shape[1] not in (1, 3):
            channels = student_out.shape[1]
            raise UserError(text("perceptual_channels", "perceptual compares images of 1 or 3 channels, not of "
                                 "{channels}: leave it out", channels=channels))  # fmt: skip
        with torch.random.fork_rng(devices=[]):  # a net is drawn before its weights are read
            self._measure = (perceptual(self.features).to(student_out.device),)
        self._measure[0](student_out, resample(teacher_out, student_out))

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """``d(student, teacher)``, ``(B,)``."""
        error: Tensor = self._measure[0](inputs.student, resample(inputs.teacher, inputs.student))
        return error.float()
