"""Harden: shifted images that the teacher answers as clean ones, and what a net is worth on both."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from kdgen import registry
from kdgen.registry import Spec
from kdgen.tasks import Harden
from kdgen.types import UserError

FLAT = [{"name": "contrast", "args": {"factor": 0.1}}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dark half on the left or on the right."""
    path = tmp_path_factory.mktemp("halves")
    for number in range(2):
        half = np.full((16, 16), 220, np.uint8)
        half[:, 8 * number : 8 * number + 8] = 30
        Image.fromarray(half).save(path / f"{number}.png")
    return path


def task_of(folder: Path, **args: Any) -> Harden:
    images = {"name": "folder", "args": {"path": str(folder), "jitter": {"colour": 0.0}}}
    inner = {"name": "classify", "args": {"images": images, "patch": 16, "num_images": 8, "augment": False}}
    task: Harden = registry.build("task", Spec(name="harden", args={"task": inner, **args}))
    return task


class Contrast(nn.Module):
    """Tells the halves apart where they differ by more than a few grey levels."""

    def forward(self, x: Tensor) -> Tensor:
        difference = x[..., 8:].mean((1, 2, 3)) - x[..., :8].mean((1, 2, 3))
        sure = difference.abs() > 0.5
        return torch.stack([torch.where(sure, difference, -1.0), torch.where(sure, -difference, 1.0)], 1)


def test_a_share_of_the_students_images_is_shifted_and_the_teacher_sees_clean_ones(folder: Path) -> None:
    (batch,) = islice(task_of(folder, damages=FLAT, share=0.25).batches(batch_size=64, seed=0), 1)
    assert batch.teacher_x is not None
    shifted = (batch.x - batch.teacher_x).abs().amax((1, 2, 3)) > 0
    assert 4 < int(shifted.sum()) < 28
    torch.testing.assert_close(batch.x[shifted].std((1, 2, 3)), 0.1 * batch.teacher_x[shifted].std((1, 2, 3)))
    assert not batch.cond
    (batch,) = islice(task_of(folder, damages=FLAT, teacher="shifted").batches(batch_size=4, seed=0), 1)
    assert batch.teacher_x is None


def test_every_net_is_measured_on_clean_images_and_on_the_same_shifted(folder: Path) -> None:
    task, net = task_of(folder, damages=FLAT), Contrast()
    figures = dict(task.evaluate(net, reference=Contrast()))
    known = {"accuracy": 1.0, "accuracy@shifted": 0.5, "agreement": 1.0, "agreement@shifted": 0.5}
    assert known.items() <= figures.items()
    alone = dict(task.evaluate(net, reference=net))
    del known["agreement"]
    assert known.items() <= alone.items()
    assert "agreement" not in alone
    asked = task_of(folder, damages=FLAT, teacher="shifted")
    assert asked.evaluate(net, reference=Contrast())["agreement@shifted"] == 1.0
    assert "shifted by one of contrast, the same for every net." in task.describe_evaluation()
    assert task.describe() == task.inner.describe()


def test_the_standard_shifts_are_drawn_in_all_severities(folder: Path) -> None:
    task = task_of(folder, share=1.0)
    assert len(task.damages) == 20
    (batch,) = islice(task.batches(batch_size=32, seed=0), 1)
    assert batch.teacher_x is not None
    assert len((batch.x - batch.teacher_x).square().mean((1, 2, 3)).unique()) > 10
    anew = task.resample_noise(batch, seed=1)
    assert not torch.equal(anew.x, batch.x)


def test_damages_that_make_images_smaller_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="make them 4 times smaller"):
        task_of(folder, damages=["shrink"])
