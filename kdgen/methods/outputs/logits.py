"""Match the classes a teacher sees, also the unlikely ones."""

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdgen.methods.layer_matching import outputs
from kdgen.methods.validation import check_outputs
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net, UserError, text
from kdgen.utils.distance import resample


@register("method")
class Logits(Method):
    """Soft targets of nets that give logits: Hinton et al. 2015 (arXiv 1503.02531), eq. 1, with section 2's ``T^2``.

    With ``p = softmax(teacher / T)`` and ``q = softmax(student / T)`` over classes, ``kl`` is ``T^2 KL(p || q)`` and
    ``cross_entropy`` is ``-T^2 sum p log q``: they differ by the entropy of ``p``, and have the same gradient (eq. 2).
    Logits per pixel ``(B, K, H, W)`` are averaged over pixels, the teacher's resampled to the student's size. Of a
    teacher that knows more classes than the student, the student's are the first ones.

    Args:
        temperature: T; 1 for the classes' probabilities as they are, more to tell the unlikely ones apart.
        loss: ``kl``, which is 0 for equal nets, or ``cross_entropy``.

    Raises:
        UserError: for an unknown loss, or a temperature of 0; in ``attach`` for outputs that are not logits of like
            classes.
    """

    def __init__(
        self, temperature: Annotated[float, Field(ge=1e-3)] = 4.0, loss: Literal["kl", "cross_entropy"] = "kl"
    ) -> None:
        super().__init__()
        self.temperature, self.kind = temperature, loss

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Check that the outputs can be compared. Raises UserError where their classes differ."""
        student_out, teacher_out = outputs(student, teacher, batch)
        check_outputs("logits", student_out, teacher_out[:, : student_out.shape[1]])
        if student_out.dim() not in (2, 4) or student_out.shape[1] < 2:
            raise UserError(text("no_logits", "logits compares logits (K) or (K, H, W) of two classes or more, but "
                                 "the student gives {shape}: use output",
                                 shape=str(tuple(student_out.shape[1:]))))  # fmt: skip

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """``T^2 KL(p || q)`` or ``-T^2 sum p log q``, ``(B,)``."""
        teacher = resample(inputs.teacher[:, : inputs.student.shape[1]], inputs.student)
        log_p = F.log_softmax(teacher / self.temperature, 1)
        log_q = F.log_softmax(inputs.student.float() / self.temperature, 1)
        terms = log_p.exp() * ((log_p - log_q) if self.kind == "kl" else -log_q)
        return self.temperature**2 * terms.sum(1).view(len(terms), -1).mean(1)
