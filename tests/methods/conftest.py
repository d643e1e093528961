"""Two tiny nets and the view of one training step."""

from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import torch
from views import Tiny, grey_batch

from kdgen.types import Batch, DistillationInputs, Method, Net
from kdgen.utils.hooks import capture_outputs


@pytest.fixture
def tiny() -> type[Tiny]:
    return Tiny


@pytest.fixture
def batch() -> Batch:
    return grey_batch()


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
