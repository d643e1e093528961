"""Faults found from good pictures alone: the task, its maps, and a whole run."""

from pathlib import Path

import pytest
import torch
from inspections import SIZE, arguments, inspected
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from kdgen import Recipe, Spec, distill, load
from kdgen.__main__ import app
from kdgen.data import read_picture, to_tensor
from kdgen.models.fault_maps import FeatureMaps, Neighbours, StudentTeacher
from kdgen.recipe import CacheSpec, Guidance, Stage
from kdgen.report.report import Report
from kdgen.tasks.anomaly import Anomaly
from kdgen.tasks.fault_finding import find_faults, open_detector
from kdgen.types import Batch, UserError


def teacher() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 5, 2, 2), nn.Tanh(), nn.Conv2d(8, 6, 5, 2, 2))


@pytest.fixture(scope="module")
def inspection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inspected(tmp_path_factory.mktemp("inspection"))


def test_the_teacher_is_asked_for_features_of_mean_0_and_deviation_1_over_good_pictures(inspection: Path) -> None:
    task, net = Anomaly(**arguments(inspection)), teacher()
    asked = task.guided(net)
    assert task.guided(net) is asked
    assert task.guided(asked) is asked
    with torch.no_grad():
        features = asked(task.source.patches(8, SIZE, channels=1, seed=0))
    assert features.shape == (8, 6, SIZE // 4, SIZE // 4)
    torch.testing.assert_close(features.mean((0, 2, 3)), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std((0, 2, 3)), torch.ones(6), atol=1e-2, rtol=0)


def test_a_layer_within_counts_where_it_is_named(inspection: Path) -> None:
    task = Anomaly(**arguments(inspection), layer="stages.0")
    assert task.guided(load("features32").net)(task.example().x).shape == (1, 24, SIZE // 2, SIZE // 2)
    with pytest.raises(UserError, match=r"its answer is no map .* set task.args.layer to a layer that gives one"):
        Anomaly(**arguments(inspection)).guided(load("features32").net)


def test_maps_of_student_and_teacher_are_their_squared_difference(inspection: Path) -> None:
    class Off(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return asked(x) + 2.0

    task, net = Anomaly(**arguments(inspection)), teacher()
    asked = task.guided(net)
    x = task.source.patches(2, SIZE, channels=1, seed=0)
    maps = task.fault_maps(Off(), net)
    assert isinstance(maps, StudentTeacher)
    torch.testing.assert_close(maps.distances(x), torch.full((2, 1, SIZE // 4, SIZE // 4), 4.0))
    assert task.evaluate(Off(), reference=asked)["good_error"] == pytest.approx(4)
    assert isinstance(task.fault_maps(net, net), Neighbours)


def test_good_pictures_have_neighbours_at_no_distance_and_set_the_scale(inspection: Path) -> None:
    task, net = Anomaly(**arguments(inspection)), teacher()
    good = task.source.patches(8, SIZE, channels=1, seed=0)
    with torch.no_grad():
        nearest = Neighbours(task.guided(net), good)
        torch.testing.assert_close(nearest.distances(good), torch.zeros(8, 1, SIZE // 4, SIZE // 4), atol=1e-4, rtol=0)
        noisy = good + 0.2 * torch.randn(good.shape, generator=torch.Generator().manual_seed(0))
        nearest.calibrate(noisy)
        values = (nearest.distances(noisy) - nearest.zero) / nearest.span
    assert (values > 0).float().mean() == pytest.approx(0.1, abs=0.005)
    assert (values > 0.1).float().mean() == pytest.approx(0.005, abs=0.002)


def test_of_pictures_that_nobody_labelled_the_map_of_good_ones_is_the_figure(inspection: Path) -> None:
    task = Anomaly(**{**arguments(inspection), "evaluate": None})
    assert task.primary_metric == "good_error"
    folder = {"name": "folder", "args": {"path": str(inspection / "train" / "good"), "whole": True}}
    plain = Anomaly(folder, channels=1, patch=SIZE)
    assert plain.primary_metric == "good_error"
    assert set(plain.evaluate(teacher())) == {"good_error"}
    with pytest.raises(UserError, match="anomaly: name good pictures to train on"):
        Anomaly()


def test_a_run_finds_the_fault_and_shows_where(inspection: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        name="stripes",
        task=Spec(name="anomaly", args=arguments(inspection)),
        teacher="stripes",
        student=Spec(name="patch_features", args={"features": 6, "width": 8, "depth": 0, "stride": 4}),
        stages=(Stage(methods=(Guidance(name="output"),)),),
        steps=60,
        cache=CacheSpec(inputs=32, dir=str(tmp_path / "cache")),
        evaluate_every=None,
    )
    list(distill(recipe, tmp_path / "run", teacher=teacher()))
    rows = {row.role: row for row in Report.read(tmp_path / "run").rows}
    assert rows.keys() == {"teacher", "student"}
    for row in rows.values():
        assert row.metrics["image_auroc"] > 0.9
        assert row.metrics["pixel_auroc"] > 0.9
        assert row.metrics["au_pro"] > 0.5
    assert (tmp_path / "run" / "samples.png").is_file()
    task, student = Anomaly(**arguments(inspection)), load(tmp_path / "run" / "student").net
    task.guided(teacher())
    name, batch = next(task.evaluation_images())
    assert name.startswith("cross/")
    assert task.pictured(batch.y) is batch.y
    heat = task.pictured_by(student)(batch)
    assert heat.shape == (1, 3, SIZE, SIZE)
    warm = heat.sum(1, keepdim=True)
    assert warm[batch.y > 0].mean() > warm[batch.y < 0].mean()


def test_a_student_alone_is_measured_by_its_own_features_unless_a_layer_is_its_teachers(inspection: Path) -> None:
    batch = Batch(x=torch.zeros(1, 1, SIZE, SIZE))
    assert Anomaly(**arguments(inspection)).evaluate(teacher()).keys() >= {"image_auroc", "au_pro"}
    with pytest.raises(UserError, match="name that by --teacher"):
        Anomaly(**arguments(inspection), layer="stages.0").evaluate(teacher())
    assert FeatureMaps(teacher())(batch.x).shape == (1, 6, SIZE // 4, SIZE // 4)


@pytest.mark.parametrize(("net", "further", "kinds"), [("patch_features", [], 1),
                                                       ("efficient_ad", [Guidance(name="global_feature")], 2)])  # fmt: skip
def test_a_run_becomes_a_detector_that_needs_nothing_beside_it(
    net: str, further: list[Guidance], kinds: int, inspection: Path, tmp_path: Path
) -> None:
    args = {**arguments(inspection), "layer": "stages.1"}
    student = Spec(name=net, args={"features": 48, "width": 8, "depth": 0, "stride": 4})
    methods = (Guidance(name="hard_feature", args={"p_hard": 0.5}), *further)
    recipe = Recipe(name="detector", task=Spec(name="anomaly", args=args), teacher="features32", student=student,
                    stages=(Stage(methods=methods),), steps=2,
                    cache=CacheSpec(inputs=16, dir=str(tmp_path / "cache")), evaluate_every=None)  # fmt: skip
    for event in distill(recipe, tmp_path / "run"):
        if event.kind == "phase":
            break
    detector = open_detector(str(tmp_path / "run"))
    picture = inspection / "test" / "cross" / "0.png"
    image = to_tensor(read_picture(picture), 1)
    score, seen, found = find_faults(detector, image)
    assert (seen.shape, found.shape) == ((1, 1, SIZE, SIZE), (1, 1, SIZE, SIZE))
    assert score == found.amax()
    assert detector.net.zero.shape == (kinds,)
    result = CliRunner().invoke(app, ["faults", str(tmp_path / "run" / "student"), str(picture), str(tmp_path / "out"),
                                      "--save", str(tmp_path / "detector")])  # fmt: skip
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "out" / "0.png").size == (2 * SIZE + 6, SIZE + 4)
    (tmp_path / "run" / "recipe.json").unlink()
    saved = open_detector(str(tmp_path / "detector"))
    torch.testing.assert_close(find_faults(saved, image)[2], found)
    task = Anomaly(**args)
    assert task.evaluate(saved.net) == pytest.approx(task.evaluate(detector.net))
    with pytest.raises(UserError, match="finds no faults: name the folder of a run of the task anomaly"):
        open_detector(str(tmp_path / "run" / "student"))
