"""Fault finders for other runtimes: parity says how far their features and the faults that they find move."""

from pathlib import Path

import pytest
import torch
from inspections import arguments, inspected
from torch import nn

from kdgen import Recipe, Spec, distill, load
from kdgen.export import export_model
from kdgen.export.parity import Parity
from kdgen.recipe import CacheSpec, Guidance, Stage
from kdgen.registry import build
from kdgen.tasks.anomaly import Anomaly
from kdgen.tasks.fault_finding import open_detector
from kdgen.types import Task


@pytest.fixture(scope="module")
def inspection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inspected(tmp_path_factory.mktemp("inspection"))


@pytest.fixture(scope="module", params=["patch_features", "efficient_ad"])
def finder(request: pytest.FixtureRequest, inspection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    folder = tmp_path_factory.mktemp(request.param)
    further = [Guidance(name="global_feature")] if request.param == "efficient_ad" else []
    student = Spec(name=request.param, args={"features": 48, "width": 8, "depth": 0, "stride": 4})
    recipe = Recipe(name="finder", task=Spec(name="anomaly", args=arguments(inspection, layer="stages.1")), teacher="features32",
                    student=student, stages=(Stage(methods=(Guidance(name="output"), *further)),), steps=20,
                    cache=CacheSpec(inputs=16, dir=str(folder / "cache")), evaluate_every=None, controls=False)  # fmt: skip
    for event in distill(recipe, folder / "run"):
        if event.kind == "phase":
            break
    return folder / "run"


def half(model: str, out: Path, task: Task | None = None) -> Parity:
    return export_model(load(model), out, format="safetensors-fp16", task=task).parity


def test_a_student_of_a_run_finds_faults_beside_its_teacher_before_and_after(finder: Path, tmp_path: Path) -> None:
    parity = half(str(finder / "student"), tmp_path / "half")
    before, after = parity.quality["image_auroc"]
    assert 0 <= before <= 1
    assert after == pytest.approx(before, abs=0.1)
    task = build("task", Recipe.model_validate_json((finder / "recipe.json").read_text()).task)
    beside = task.evaluate(nn.Sequential(load(finder / "student").net), reference=load("features32").net)
    assert parity.quality["good_error"][0] == pytest.approx(beside["good_error"], rel=1e-4)
    assert parity.primary_metric == "image_auroc"
    none, error = parity.quality["feature_error"]
    assert none == 0
    assert 0 < error < 1e-3


def test_the_error_of_features_is_a_share_of_the_students_variance(inspection: Path) -> None:
    class Off(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = net(x) + 0.1 * scale
            return out

    torch.manual_seed(0)
    net = nn.Conv2d(1, 6, 5, 2, 2)
    task = Anomaly(**arguments(inspection))  # type: ignore[arg-type]
    with torch.no_grad():
        answers = torch.cat([net(finding.image) for finding in task.findings()])
    scale = answers.std((0, 2, 3), correction=0).view(1, -1, 1, 1)
    (before, after) = task.parity(net, Off())
    assert before == {"feature_error": 0}
    assert after == {"feature_error": pytest.approx(0.01, rel=1e-3)}
    _, doubled = task.parity(nn.Sequential(net, Times()), nn.Sequential(Off(), Times()))
    assert doubled == {"feature_error": pytest.approx(0.01, rel=1e-3)}


class Times(nn.Module):
    """A net of another scale."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 100 * x


def test_a_student_without_its_run_is_compared_by_features_alone(
    finder: Path, inspection: Path, tmp_path: Path
) -> None:
    load(finder / "student").save(tmp_path / "alone")
    parity = half(str(tmp_path / "alone"), tmp_path / "half", Anomaly(**arguments(inspection, layer="stages.1")))  # type: ignore[arg-type]
    assert parity.quality.keys() == {"feature_error"}
    assert parity.primary_metric is None
    assert parity.measured is None


def test_a_detector_keeps_finding_faults_by_both_of_its_maps(finder: Path, inspection: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    detector, task = open_detector(str(finder)), Anomaly(**arguments(inspection, layer="stages.1"))  # type: ignore[arg-type]
    exact = export_model(detector, tmp_path / "detector.onnx", task=task)
    assert exact.parity.inputs["x"][1] == 1
    parity = export_model(detector, tmp_path / "int8.onnx", format="int8", task=task).parity
    before, after = parity.quality["image_auroc"]
    assert before == task.evaluate(detector.net)["image_auroc"]
    assert after == pytest.approx(before, abs=0.3)
    assert parity.quality["feature_error"][1] > 0
    assert "good_error" not in parity.quality


def test_a_student_with_a_view_of_its_own_is_compared_in_that() -> None:
    torch.manual_seed(0)
    net = nn.Conv2d(3, 3, 3, padding=1)
    inner = {"name": "denoise", "args": {"channels": 3}}
    task = build("task", Spec(name="views", args={"task": inner, "student": ["grey"]}))
    before, after = task.parity(net, nn.Sequential(net), limit=1)
    assert before["psnr"] == after["psnr"]


@pytest.mark.parametrize("wrap", ["views", "harden"])
def test_so_it_is_for_tasks_around_it(wrap: str, inspection: Path) -> None:
    inner = {"name": "anomaly", "args": arguments(inspection)}
    args = {"task": inner, "student": ["grey"]} if wrap == "views" else {"task": inner, "damages": ["noise"]}
    task = build("task", Spec(name=wrap, args=args))
    torch.manual_seed(0)
    net, teacher = nn.Conv2d(1, 6, 4, 4), nn.Conv2d(1, 6, 4, 4)
    _, after = task.parity(net, nn.Sequential(net), teacher=teacher)
    assert after["feature_error"] == 0
    assert {"image_auroc", "good_error"} <= after.keys()
    assert ("image_auroc@shifted" in after) == (wrap == "harden")
