"""The view of one training step, put together by hand."""

from torch import nn

from kdgen.types import Batch, DistillationInputs


def inputs_of(
    student, teacher, student_features=None, teacher_features=None, nets=None, x=None, cond=None, batch=None
) -> DistillationInputs:
    """The outputs and taps of a step; the nets are identities, and the input is the student's output, unless given."""
    a, b = nets or (nn.Identity(), nn.Identity())
    return DistillationInputs(
        batch=batch or Batch(x=student if x is None else x, cond=cond or {}),
        student_output=student,
        teacher_output=teacher,
        student_features=student_features or {},
        teacher_features=teacher_features or {},
        student_net=a,
        teacher_net=b,
        student_ema=a,
    )


class Generator(nn.Module):
    """Latents ``(B, 4)`` to images."""

    def __init__(self, size: int = 8, channels: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(4, channels * size**2)
        self.shape = (channels, size, size)

    def forward(self, x, **cond):
        return self.linear(x).tanh().view(-1, *self.shape)
