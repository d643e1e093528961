"""Two tiny nets and the view of one training step."""

from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from kdgen.types import Batch, DistillationInputs, Method, Net
from kdgen.utils.hooks import capture_outputs


class Tiny(nn.Module):
    """A user's own net: plain convolutions, no `taps` method, and only `sigma` among the conditions."""

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


@pytest.fixture
def tiny() -> type[Tiny]:
    return Tiny


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(7)
    y = torch.rand(4, 1, 8, 8, generator=generator) * 2 - 1
    sigma = torch.tensor([0.1, 0.2, 0.3, 0.4])
    x = y + sigma.view(-1, 1, 1, 1) * torch.randn(y.shape, generator=generator)
    return Batch(x=x, y=y, cond={"sigma": sigma})


@pytest.fixture
def make_view() -> Callable[..., DistillationInputs]:
    def make(method: Method, student: Net, teacher: Net, batch: Batch) -> DistillationInputs:
        method.attach(student, teacher, batch)
        with capture_outputs(student, method.student_layers) as student_layers:
            student_output = student(batch.x, **batch.cond)
        with torch.no_grad(), capture_outputs(teacher, method.teacher_layers) as teacher_layers:
            teacher_output = teacher(batch.x, **batch.cond)
        return DistillationInputs(
            batch=batch,
            student_output=student_output,
            teacher_output=teacher_output,
            student_features=student_layers,
            teacher_features=teacher_layers,
            student_net=student,
            teacher_net=teacher,
            student_ema=deepcopy(student),
        )

    return make


@pytest.fixture
def nets() -> tuple[Tiny, Tiny]:
    """A narrow, shallow student and a wide, deep, strided teacher."""
    torch.manual_seed(0)
    return Tiny(width=4, depth=4), Tiny(width=6, depth=6, stride=2).eval()


@pytest.fixture
def latents() -> Batch:
    return Batch(x=torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
