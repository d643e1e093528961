"""What the task `anomaly` reads and measures for its maps, and what an autoencoder adds to them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from kdgen import Recipe, Spec, distill, load
from kdgen.data.inspected import Inspected
from kdgen.export import export_model
from kdgen.metrics.ranking import auroc
from kdgen.models.fault_maps import FaultMaps, heat
from kdgen.models.nets.patch_features import patch_features
from kdgen.recipe import CacheSpec, Guidance, Stage
from kdgen.report.sample_grids import samples
from kdgen.tasks.anomaly import Anomaly
from kdgen.types import UserError

SIZE = 32


def teacher() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 5, 2, 2), nn.Tanh(), nn.Conv2d(8, 6, 5, 2, 2))


def draw(path: Path, left: int, right: int) -> None:
    """Two squares, far apart, each at a height of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((SIZE, SIZE), 40, np.uint8)
    pixels[left : left + 8, 4:12] = pixels[right : right + 8, 20:28] = 220
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good pictures have both squares at one height, faulty ones at two: each place of them is as in good ones."""
    folder = tmp_path_factory.mktemp("pairs")
    for i in range(16):
        draw(folder / "train" / "good" / f"{i:02}.png", 4 + i, 4 + i)
    for i in range(8):
        draw(folder / "test" / "good" / f"{i}.png", 4 + 2 * i, 4 + 2 * i)
        draw(folder / "test" / "apart" / f"{i}.png", 4 + 2 * i, 4 + (2 * i + 8) % 16)
    return folder


def source(folder: Path, part: str, **more: object) -> dict[str, object]:
    return {"name": "inspected", "args": {"path": str(folder), "part": part, **more}}


def arguments(folder: Path) -> dict[str, object]:
    return {"images": source(folder, "train"), "evaluate": source(folder, "test"), "channels": 1, "patch": SIZE}


def test_what_is_odd_as_a_whole_alone_the_autoencoder_finds(pairs: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        name="pairs",
        task=Spec(name="anomaly", args=arguments(pairs)),
        teacher="pairs",
        student=Spec(name="efficient_ad", args={"features": 6, "width": 8, "depth": 0, "stride": 4, "latents": 8}),
        stages=(Stage(methods=(Guidance(name="hard_feature", args={"p_hard": 0.5}), Guidance(name="global_feature"))),),
        steps=150,
        cache=CacheSpec(inputs=32, dir=str(tmp_path / "cache")),
        evaluate_every=None,
    )
    for event in distill(recipe, tmp_path / "run", teacher=teacher()):
        if event.kind == "phase":
            break
    student, task = load(tmp_path / "run" / "student"), Anomaly(**arguments(pairs))
    maps, found = task.fault_maps(student.net, teacher()).eval(), list(task.findings())
    with torch.no_grad():
        distances = torch.cat([maps.distances(each.image) for each in found])
    faulty = torch.tensor([each.faulty for each in found])
    local, whole = (auroc(kind.flatten(1).amax(1), faulty) for kind in distances.unbind(1))
    assert local < 0.75
    assert whole > 0.9
    exported = export_model(student, tmp_path / "pairs.onnx", task=task).parity
    assert exported.max_abs_error < 1e-4


def test_a_sheet_calibrates_each_net_once_and_a_teacher_never_again(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated = list[str]()
    calibrate = FaultMaps.calibrate

    def counted(self: FaultMaps, x: Tensor) -> None:
        calibrated.append(type(self).__name__)
        calibrate(self, x)

    monkeypatch.setattr(FaultMaps, "calibrate", counted)
    task = Anomaly(**arguments(pairs))
    asked = task.guided(teacher())
    nets = {"teacher": asked, "student": patch_features(channels=1, features=6, width=4, depth=0, stride=4)}
    samples(tmp_path / "a.png", task, nets, reference=asked, limit=3)
    assert calibrated == ["Neighbours", "StudentTeacher"]
    samples(tmp_path / "b.png", task, nets, reference=asked, limit=3)
    assert calibrated[2:] == ["StudentTeacher"]
    (_, first), (_, second) = task.evaluation_images(limit=2)
    shown, maps = task.pictured_by(nets["student"]), task.fault_maps(nets["student"], asked).eval()
    with torch.no_grad():
        for batch in (first, second):
            torch.testing.assert_close(shown(batch), heat(maps(batch.x)))


def test_a_sheet_shows_a_student_as_it_is_now(pairs: Path) -> None:
    task, student = Anomaly(**arguments(pairs)), patch_features(channels=1, features=6, width=4, depth=0, stride=4)
    task.guided(teacher())
    _, batch = next(task.evaluation_images())
    before = task.pictured_by(student)(batch)
    nn.init.zeros_(student.head.weight)
    assert not torch.equal(task.pictured_by(student)(batch), before)


def test_pictures_are_counted_without_a_look_and_shown_as_far_as_they_are_asked_for(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[int]()
    picture = Inspected.picture

    def counted(self: Inspected, index: int) -> object:
        read.append(index)
        return picture(self, index)

    monkeypatch.setattr(Inspected, "picture", counted)
    task = Anomaly(**arguments(pairs))
    assert task.primary_metric == "image_auroc"
    assert "on 8 good and 8 faulty pictures" in str(task.describe_evaluation())
    fewer = Anomaly(**arguments(pairs), num_images=5)
    assert "on 2 good and 3 faulty pictures" in str(fewer.describe_evaluation())
    assert read == []
    assert [name for name, _ in task.evaluation_images(limit=1)] == ["apart/0.png"]
    assert len(read) == 1
    assert [name.partition("/")[0] for name, _ in task.evaluation_images()] == ["apart"] * 8 + ["good"] * 8


def test_the_scale_is_that_of_the_pictures_for_validation(pairs: Path, tmp_path: Path) -> None:
    class Off(nn.Module):
        """Features of the teacher, and how bright a place is."""

        def forward(self, x: Tensor) -> Tensor:
            return asked(x) + nn.functional.avg_pool2d(x, 4)

    class Whole:
        def images(self, channels: int) -> None: ...

    ramp = np.arange(SIZE * SIZE).reshape(SIZE, SIZE) // 8 + 128
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "ramp.png")
    validation = {"name": "folder", "args": {"path": str(tmp_path), "whole": True}}
    task = Anomaly(**arguments(pairs), validation=validation)
    asked = task.guided(teacher())
    maps = task.fault_maps(Off(), asked)
    bright = (ramp / 127.5 - 1).reshape(8, 4, 8, 4).mean((1, 3)) ** 2
    values = np.tile(bright.ravel(), 64)
    assert [float(maps.zero), float(maps.zero + 0.1 * maps.span)] == pytest.approx(
        np.quantile(values, [0.9, 0.995]), abs=1e-5)  # fmt: skip
    with pytest.raises(UserError, match="Whole gives no patches"):
        Anomaly(**arguments(pairs), validation=Whole())
