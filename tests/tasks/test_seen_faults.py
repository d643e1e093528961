"""Faults found by students and teachers that see pictures each in a way of its own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from inspections import arguments, inspected
from support import drain
from torch import Tensor, nn

from kdgen import Recipe, Spec, distill, load, registry
from kdgen.models.fault_maps import FeatureMaps
from kdgen.models.model import build_net
from kdgen.recipe import CacheSpec, Guidance, Stage
from kdgen.report.report import Report
from kdgen.tasks import Views
from kdgen.tasks.anomaly import Anomaly
from kdgen.types import Net, Task

PALE = {"name": "contrast", "args": {"factor": 0.5}}
TWICE = {"name": "exposures", "args": {"gains": [1.0, 0.5], "noise": 0}}


@pytest.fixture(scope="module")
def inspection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inspected(tmp_path_factory.mktemp("inspection"))


def teacher(channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 8, 5, 2, 2), nn.Tanh(), nn.Conv2d(8, 6, 5, 2, 2))


def views(inspection: Path, layer: str | None = None, **args: Any) -> Views:
    task = {"name": "anomaly", "args": arguments(inspection, layer=layer)}
    built: Views = registry.build("task", Spec(name="views", args={"task": task, **args}))
    return built


class Copy(nn.Module):
    """Says of pictures what a net says of them in another view."""

    def __init__(self, net: Net, task: Views) -> None:
        super().__init__()
        self.net, self.view = net, task.teacher

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.net(self.view.each(x, 0)[0])
        return answer


@pytest.mark.parametrize("layer", [None, "0"])
@pytest.mark.parametrize("seen", [[], [PALE], [TWICE]])
def test_a_student_is_measured_by_the_features_that_it_is_taught(
    seen: list[Any], layer: str | None, inspection: Path
) -> None:
    task, net = views(inspection, layer, teacher=seen), teacher(2 if seen == [TWICE] else 1)
    asked = task.guided(net)
    assert isinstance(asked, FeatureMaps)
    batch = next(task.batches(batch_size=8, seed=0)).for_teacher()
    with torch.no_grad():
        features = asked(batch.x)
    assert features.mean((0, 2, 3)).abs().max() < 0.01, "of good pictures in the teacher's view"
    assert (features.std((0, 2, 3)) - 1).abs().max() < 0.05
    assert task.evaluate(Copy(asked, task), reference=asked)["good_error"] == pytest.approx(0, abs=1e-9)
    figures = task.evaluate(asked, reference=asked)
    assert figures["image_auroc"] > 0.9
    if not seen:
        plain = Anomaly(**arguments(inspection, layer=layer))
        assert figures == plain.evaluate(net, reference=net)


def test_views_that_wrap_one_another_show_the_teacher_both(inspection: Path) -> None:
    inner = {"name": "anomaly", "args": arguments(inspection, layer="0")}
    within = {"name": "views", "args": {"task": inner, "teacher": [PALE]}}
    task: Task = registry.build("task", Spec(name="views", args={"task": within, "teacher": [TWICE]}))
    asked = task.guided(teacher(2))
    with torch.no_grad():
        features = asked(next(task.batches(batch_size=8, seed=0)).for_teacher().x)
    assert features.mean((0, 2, 3)).abs().max() < 0.01
    assert task.evaluate(asked, reference=asked)["image_auroc"] > 0.9


def test_a_student_with_an_autoencoder_is_measured_by_both_its_maps(inspection: Path) -> None:
    torch.manual_seed(0)
    student, _ = build_net(Spec(name="efficient_ad", args={"features": 6, "width": 8, "depth": 0, "stride": 4}), 1, {})
    net, plain = teacher(), Anomaly(**arguments(inspection))
    alone = plain.evaluate(student, reference=net)
    assert views(inspection).evaluate(student, reference=net) == pytest.approx(alone)


def test_a_net_with_a_view_of_its_own_is_asked_for_features_in_that(inspection: Path) -> None:
    task, net = views(inspection, "0", student=[PALE]), teacher(2)
    task.show(net, "other", {"view": [TWICE]}, teaches=True)
    asked = task.guided(net)
    assert task.guided(net) is not net
    assert task.evaluate(asked, reference=asked)["image_auroc"] > 0.9
    assert str(task.describe_evaluation(reference=asked)).count("other sees them") == 1


def test_a_run_teaches_by_a_layer_in_a_view_of_the_teachers(inspection: Path, tmp_path: Path) -> None:
    task = {"name": "anomaly", "args": arguments(inspection, layer="0")}
    recipe = Recipe(
        name="stripes",
        task=Spec(name="views", args={"task": task, "teacher": [TWICE]}),
        teacher="stripes",
        student=Spec(name="patch_features", args={"features": 8, "width": 8, "depth": 0, "stride": 2}),
        stages=(Stage(methods=(Guidance(name="output"),)),),
        steps=60,
        cache=CacheSpec(inputs=32, dir=str(tmp_path / "cache")),
        evaluate_every=None,
    )
    drain(distill(recipe, tmp_path / "run", teacher=teacher(2)))
    rows = {row.role: row for row in Report.read(tmp_path / "run").rows}
    assert rows["teacher"].metrics["image_auroc"] > 0.9
    assert rows["student"].metrics["image_auroc"] > 0.9
    assert load(tmp_path / "run" / "student").channels == 1


@pytest.mark.parametrize("layer", [None, "0"])
def test_a_written_student_is_measured_beside_a_teacher_in_its_view(layer: str | None, inspection: Path) -> None:
    task, net = views(inspection, layer, teacher=[TWICE]), teacher(2)
    student = Copy(task.guided(net), task)
    own, other = task.parity(student, student, teacher=net)
    assert own.keys() == {"feature_error", "good_error", "image_auroc", "pixel_auroc", "au_pro"}
    assert own == other
