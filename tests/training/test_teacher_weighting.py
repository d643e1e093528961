"""How much each example counts in what several teachers say, against values worked out by hand, and in a run."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import learner_of, trained, weights
from torch import Tensor, nn

from kdgen.models.teachers import Teachers
from kdgen.recipe import Recipe
from kdgen.tasks.denoise import Denoise
from kdgen.training import run
from kdgen.training.teacher_weighting import agreement, agreement_on_classes, confidence
from kdgen.types import Batch, UserError


def logits(*shares: float) -> Tensor:
    """Logits of one example whose softmax is this."""
    return torch.tensor([shares]).log()


def test_a_teacher_counts_by_how_sure_of_the_truth_it_is_beside_the_others() -> None:
    sure, unsure = logits(0.8, 0.2), logits(0.4, 0.6)
    found = confidence([sure, unsure], torch.tensor([0]))
    a, b = 1 / 0.8, 1 / 0.4  # exp of the cross-entropies
    torch.testing.assert_close(found, torch.tensor([[2 * (1 - a / (a + b))], [2 * (1 - b / (a + b))]]))
    assert confidence([sure, sure, sure], torch.tensor([1])).tolist() == [[pytest.approx(1.0)]] * 3
    assert float(found.mean()) == pytest.approx(1.0)


def test_without_a_truth_a_teacher_counts_by_its_entropy() -> None:
    fair, certain = logits(0.5, 0.5), logits(1 - 1e-9, 1e-9)
    found = confidence([fair, certain]).flatten().tolist()
    assert found == pytest.approx([2 * (1 - 2 / 3), 2 * (1 - 1 / 3)], abs=1e-5)  # exp of ln 2, and of 0


def test_places_that_nobody_labelled_do_not_count() -> None:
    sure, unsure = (logits(*shares)[..., None, None].expand(1, 2, 1, 2) for shares in ((0.8, 0.2), (0.4, 0.6)))
    part = confidence([sure, unsure], torch.tensor([[[0, 255]]]))
    torch.testing.assert_close(part, confidence([sure[..., 0, 0], unsure[..., 0, 0]], torch.tensor([0])))


def test_classes_count_by_how_alike_the_teachers_see_them() -> None:
    one, other = logits(1 - 1e-9, 1e-9), logits(1e-9, 1 - 1e-9)
    assert float(agreement_on_classes([one, one])) == pytest.approx(1.0)
    assert float(agreement_on_classes([one, other])) == pytest.approx(0.0, abs=1e-5)
    mixed = float(agreement_on_classes([logits(0.75, 0.25), logits(0.25, 0.75)]))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert mixed == pytest.approx(1 - (math.log(2) - entropy) / math.log(2), rel=1e-5)


def test_images_count_by_the_share_of_their_variance_that_is_common() -> None:
    one = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 1, 2, 2)
    assert float(agreement([one, one])) == 1.0
    assert float(agreement([one, -one])) == pytest.approx(0.0)
    assert float(agreement([one, 0 * one])) == pytest.approx(0.25 / (0.25 + 0.25))
    assert agreement([0 * one, 0 * one]).tolist() == [1.0]


class Times(nn.Module):
    """The input times a number."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, x: Tensor) -> Tensor:
        return self.by * x


def test_the_loss_of_each_example_is_multiplied_before_the_mean() -> None:
    task, x = Denoise(patch=8), torch.randn(6, 1, 8, 8)
    batch, both = Batch(x=x), Teachers(Times(1.0), {"other": Times(0.0)})
    methods = [{"name": "output"}, {"name": "output", "teacher": "other"}]
    shown = {}
    for weighting in (None, "agreement"):
        stage = {"methods": methods, "weighting": weighting}
        learner = learner_of(stage, Times(0.5), both, batch, task, teachers={"other": "anything"})
        learner.enter(0)
        _, shown[weighting], _ = learner.loss(learner._look(batch, learner.ask(batch), 0.0), 0.0, 0)
    spread, square = x.var((1, 2, 3), correction=0) / 4, x.square().mean((1, 2, 3)) / 4
    torch.testing.assert_close(shown[None]["output"], square.mean())
    torch.testing.assert_close(shown["agreement"]["output"], (spread / (spread + square) * square).mean())


def test_teachers_who_are_one_count_as_if_nobody_asked_how(make: Callable[..., Recipe], tmp_path: Path) -> None:
    same = str(tmp_path / "teacher")
    given = ["controls=false", "cache.inputs=0", f"teachers={json.dumps({'other': same})}", "steps=4",
             'stages.0.methods=[{"name": "output"}, {"name": "output", "teacher": "other"}]']  # fmt: skip
    trained(run.distill(make(*given), tmp_path / "equally"))
    trained(run.distill(make(*given, "stages.0.weighting=agreement"), tmp_path / "weighted"))
    assert weights(tmp_path / "equally") == weights(tmp_path / "weighted")
    with pytest.raises(UserError, match="weighting confidence is for teachers that say classes"):
        next(run.distill(make(*given, "stages.0.weighting=confidence"), tmp_path / "refused"))
