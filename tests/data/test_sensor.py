"""Sensor data: any number of channels, units of their own, readings that are missing, and nets that are told so."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import drain

import kdgen
from kdgen.data import generator
from kdgen.data.damages import make_damages
from kdgen.data.depth_scenes import DepthScenes
from kdgen.data.sensor import Sensor
from kdgen.metrics import macs
from kdgen.presets import preset
from kdgen.recipe import parse
from kdgen.registry import Spec, build
from kdgen.report.compare import Report
from kdgen.training import run
from kdgen.types import UserError


@pytest.fixture
def radar(tmp_path: Path) -> Path:
    """Maps of four channels from -40 to 40, a corner of which was not read."""
    random = np.random.default_rng(0)
    for number in range(3):
        values = random.uniform(-40, 40, (24, 20, 4))
        values[:6, :5] = np.nan
        np.save(tmp_path / f"{number}.npy", values)
    return tmp_path


def test_arrays_deep_pngs_and_pages_are_read_in_their_own_units(tmp_path: Path) -> None:
    depth = np.linspace(0, 10_000, 64).reshape(8, 8)
    np.save(tmp_path / "a.npy", depth)
    Image.fromarray(depth.astype(np.uint16)).save(tmp_path / "b.png")
    source = Sensor(str(tmp_path), high=10_000)
    maps = [x for _, x in source.images(1)]
    torch.testing.assert_close(maps[0], torch.linspace(-1, 1, 64).view(1, 1, 8, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(maps[1], maps[0], atol=2e-4, rtol=0)
    pages = [Image.fromarray(np.full((8, 8), level, np.float32)) for level in (280.0, 300.0)]
    (tmp_path / "thermal").mkdir()
    pages[0].save(tmp_path / "thermal" / "c.tiff", save_all=True, append_images=pages[1:])
    ((name, thermal),) = Sensor(str(tmp_path / "thermal"), low=280, high=320).images(2)
    assert name == "c.tiff"
    torch.testing.assert_close(thermal.mean((0, 2, 3)), torch.tensor([-1.0, 0.0]))


def test_missing_readings_are_the_middle_of_the_range_or_gaps(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, 500], [1000, 750]], np.uint16))
    filled, shown = (Sensor(str(tmp_path), high=1000, missing=0, gaps=gaps) for gaps in (False, True))
    torch.testing.assert_close(next(filled.images(1))[1].flatten(), torch.tensor([0.0, 0.0, 1.0, 0.5]))
    assert next(shown.images(1))[1].isnan().flatten().tolist() == [True, False, False, False]
    assert filled.fingerprint() != shown.fingerprint()


@pytest.mark.parametrize(("file", "array", "line"), [
    ("a.npy", np.zeros((2, 2, 2, 2)), "holds float64 of shape"),
    ("a.npy", np.array([{}], object), "a.npy cannot be read .*without Python's objects"),
    ("a.txt", None, "holds no .npy, .png, .tif, .tiff file"),
])  # fmt: skip
def test_what_is_no_sensor_data_is_refused(tmp_path: Path, file: str, array: Any, line: str) -> None:
    if array is not None:
        np.save(tmp_path / file, array, allow_pickle=True)
    with pytest.raises(UserError, match=line):
        Sensor(str(tmp_path))


def test_channels_that_differ_are_refused(radar: Path) -> None:
    with pytest.raises(UserError, match=r"4 channels, and the task 3: set task\.args\.channels to 4"):
        Sensor(str(radar), low=-40, high=40).patches(1, 8, channels=3, seed=0)
    np.save(radar / "9.npy", np.zeros((8, 8)))
    with pytest.raises(UserError, match=r"9\.npy has 1 channels and 0\.npy has 4"):
        drain(Sensor(str(radar)).images(4))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="low is below high"):
        Sensor(str(radar), low=1, high=0)


def test_maps_of_any_channels_are_restored_with_what_is_missing_told_and_not_counted(
    radar: Path, tmp_path: Path
) -> None:
    images = {"name": "sensor", "args": {"path": str(radar), "low": -40, "high": 40, "gaps": True}}
    args = {"damages": ["noise"], "channels": 4, "images": images, "evaluate": images, "patch": 16}
    task = build("task", Spec(name="restore", args=args))
    batch = next(task.batches(batch_size=4, seed=0))
    missing = batch.y.isnan().any(1, keepdim=True)
    assert missing.any()
    assert torch.equal(batch.cond["mask"] > 0, missing)
    assert batch.x.isfinite().all()
    assert (batch.x * batch.cond["mask"]).abs().max() == 0
    truth = batch.y.nan_to_num(0.0)
    out = torch.where(missing, 7.0, truth + 0.1).requires_grad_()
    loss = task.loss(out, batch).sum()
    loss.backward()
    assert out.grad is not None
    assert out.grad[missing.expand_as(out)].abs().max() == 0
    assert task._measured(truth[:1] + 0.2, batch.y[:1])["psnr"] == pytest.approx(20.0, abs=0.01)
    net = {"name": "unet", "args": {"channels": 4, "widths": [4, 6], "blocks": 1, "mask": True}}
    recipe = {
        "name": "radar", "task": {"name": "restore", "args": args}, "student": net, "stages": [{}], "steps": 2,
        "batch_size": 2, "cache": {"inputs": 16, "dir": str(tmp_path / "cache")}, "device": "cpu",
        "evaluate_every": None, "precision": "float32",
    }  # fmt: skip
    drain(run.distill(parse(recipe), tmp_path / "run"))
    student = Report.read(tmp_path / "run").find("student")
    assert student is not None
    assert student.metrics["psnr"] > 5
    with Image.open(tmp_path / "run" / "samples.png") as picture:
        assert picture.width > 600


def test_folders_of_maps_are_classes(radar: Path) -> None:
    for number, name in enumerate(("calm", "storm")):
        (radar / name).mkdir()
        (radar / f"{number}.npy").rename(radar / name / "x.npy")
    (radar / "2.npy").unlink()
    images = {"name": "sensor", "args": {"path": str(radar), "low": -40, "high": 40}}
    task = build("task", Spec(name="classify", args={"images": images, "channels": 4, "patch": 16, "augment": False}))
    batch = next(task.batches(batch_size=2, seed=0))
    assert (batch.x.shape, sorted(batch.y.tolist())) == ((2, 4, 16, 16), [0, 1])
    net = build("net", Spec(name="feature_net", args={"channels": 4, "width": 4, "classes": 2}))
    assert task.evaluate(net)["accuracy"] in (0.0, 0.5, 1.0)


def test_depth_scenes_are_planes_and_the_nearer_hides_the_farther() -> None:
    source = DepthScenes(slope=0.0)
    depth = source.canvas(96, channels=1, seed=3)
    assert depth.shape == (1, 96, 96)
    assert len(depth.unique()) < 400, "a plane without slope is of one depth"
    assert depth.aminmax().max - depth.aminmax().min > 0.5
    torch.testing.assert_close(source.patches(4, 32, channels=1, seed=1), source.patches(4, 32, channels=1, seed=1))
    names = [name for name, _ in islice(source.images(1), 2)]
    assert names == ["depth map 0", "depth map 1"]


def test_a_depth_cameras_noise_grows_with_the_square_of_depth() -> None:
    levels = torch.tensor([-0.5, 0.0, 0.5])
    flat = levels.view(3, 1, 1, 1).expand(3, 1, 128, 128)
    args = {"noise": 0.01, "steps": 4096, "missing": 0.1, "edges": 0}
    camera = make_damages([{"name": "depth_camera", "args": args}])
    x, cond = camera(flat, generator(0))
    assert cond["mask"].mean() == pytest.approx(0.1, abs=0.01)
    assert (x * cond["mask"]).abs().max() == 0
    read = [part[mask == 0] for part, mask in zip(x, cond["mask"], strict=True)]
    depth = 0.2 + 0.8 * (levels + 1) / 2
    spread = torch.stack([part.std() for part in read]) * 0.8 / 2
    torch.testing.assert_close(spread, 0.01 * depth**2, rtol=0.05, atol=0)


def test_readings_are_missing_beside_edges_of_depth() -> None:
    step = torch.full((1, 1, 32, 32), 0.5)
    step[..., 16:] = -0.5
    camera = make_damages([{"name": "depth_camera", "args": {"missing": 0, "edges": 1}}])
    _, cond = camera(step, generator(0))
    assert cond["mask"].sum((0, 1, 2)).nonzero().flatten().tolist() == [15, 16]


def test_the_depth_preset_is_eight_times_cheaper_than_its_teacher() -> None:
    recipe = preset("depth")
    task = build("task", recipe.task)
    example = task.example()
    nets = [kdgen.load(str(recipe.teacher)).net, build("net", recipe.student)]
    costs = [macs(net, example.x, example.cond) for net in nets]
    assert costs[0] >= 8 * costs[1]
