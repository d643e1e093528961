"""A module that is given as a teacher is tried on a picture, as a declared file is."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch.nn.functional as F
from support import drain
from torch import Tensor, nn

import kdgen
from kdgen import from_module
from kdgen.recipe import Recipe
from kdgen.types import UserError

Make = Callable[..., Recipe]


class Mean(nn.Module):
    """A restorer of images in [0, 1], which it clips to that."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x.clamp(0, 1), 3, stride=1, padding=1)


class Rest(Mean):
    """What is to be subtracted for that."""

    def forward(self, x: Tensor) -> Tensor:
        return x - super().forward(x)


WRONG = {
    "range": (from_module(Mean(), range=(-1, 1)), "image"),
    "prediction": (from_module(Rest(), predicts="image"), "residual"),
    "both": (from_module(Rest(), range=(-1, 1)), "residual"),
    "not converted": (Mean(), "image"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_module_read_in_a_wrong_way_is_refused_with_what_was_seen(kind: str, make: Make, tmp_path: Path) -> None:
    teacher, predicts = WRONG[kind]
    said = (rf"the teacher mine: declared range \[.* dB; range \[0, 1\], {predicts} gives 2.* dB: "
            rf"call kdgen.from_module with range=\(0, 1\), predicts='{predicts}'")  # fmt: skip
    with pytest.raises(UserError, match=said):
        drain(kdgen.distill(make("teacher=mine"), tmp_path / "run", teacher=teacher))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("net", "predicts"), [(Mean(), "image"), (Rest(), "residual")], ids=["image", "residual"])
def test_a_module_read_in_the_right_way_teaches(net: Mean, predicts: str, make: Make, tmp_path: Path) -> None:
    recipe = make("teacher=mine", "controls=false", "steps=1")
    events = kdgen.distill(recipe, tmp_path / "run", teacher=from_module(net, predicts=predicts))
    assert next(iter(events)).kind == "start"
