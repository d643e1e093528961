"""The view of one training step, put together by hand."""

import torch
from torch import Tensor, nn

from kdgen.types import Batch, DistillationInputs


def inputs_of(
    student, teacher, student_features=None, teacher_features=None, nets=None, x=None, cond=None, batch=None
) -> DistillationInputs:
    """The outputs and features of a step; the nets are identities, and the input is the student's output, unless given."""
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


class Tiny(nn.Module):
    """A user's own net: plain convolutions, no `feature_layers` method, and only `sigma` among the conditions."""

    def __init__(self, width: int = 6, depth: int = 4, channels: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, width, 3, stride, 1)
        self.body = nn.Sequential()
        for _ in range(depth - 2):
            self.body.append(nn.Conv2d(width, width, 3, padding=1))
            self.body.append(nn.BatchNorm2d(width))
            self.body.append(nn.ReLU())
        self.up = nn.Upsample(scale_factor=stride) if stride > 1 else nn.Identity()
        self.tail = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        sigma = cond["sigma"].view(-1, 1, 1, 1)
        return x - sigma * self.tail(self.up(self.body(torch.relu(self.head(x)))))


def grey_batch() -> Batch:
    """Four grey images of 8x8 under noise."""
    generator = torch.Generator().manual_seed(7)
    y = torch.rand(4, 1, 8, 8, generator=generator) * 2 - 1
    sigma = torch.tensor([0.1, 0.2, 0.3, 0.4])
    x = y + sigma.view(-1, 1, 1, 1) * torch.randn(y.shape, generator=generator)
    return Batch(x=x, y=y, cond={"sigma": sigma})


class Generator(nn.Module):
    """Latents ``(B, 4)`` to images."""

    def __init__(self, size: int = 8, channels: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(4, channels * size**2)
        self.shape = (channels, size, size)

    def forward(self, x, **cond):
        return self.linear(x).tanh().view(-1, *self.shape)
