"""The quality of a model as figures, from Python and from the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import call
from torch import nn

import kdgen
from kdgen.cli import console
from kdgen.data import ImageFolder
from kdgen.models.model import Model, build_net
from kdgen.registry import Spec
from kdgen.tasks import Denoise
from kdgen.types import UserError


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for number, name in enumerate(("cat", "dog", "owl")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.zeros((8, 8, 3), np.uint8)
            pixels[..., number] = 120 + 40 * i
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


class Half(nn.Module):
    """Halves an image, or breaks."""

    def __init__(self, factor: float = 0.5) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def test_a_net_of_ones_own_is_measured_as_its_task_measures_it(pets: Path) -> None:
    seen: list[int] = []
    data = {"name": "folder", "args": {"path": str(pets)}}
    found = kdgen.evaluate(Half(), task="denoise", data=data, sigma=15, seed=3, num_images=4, progress=seen.append)
    task = Denoise(sigma=15, channels=3, evaluate=data)
    assert found.metrics == task.evaluate(Half(), seed=3, limit=4)
    assert (found.answers, found.not_finite, found.fault) == (4, 0, "")
    assert seen == [1, 2, 3, 4]
    assert "sigma 15 with seed 3" in found.measured
    again = kdgen.evaluate(Half(), task=task, seed=3, num_images=4)
    assert again.metrics == found.metrics
    assert kdgen.evaluate(Half(float("inf")), task=task).fault == "gave NaN or infinite values in 9 of 9 answers"


def test_a_task_that_is_given_whole_takes_no_data() -> None:
    with pytest.raises(UserError, match="leave data and sigma out"):
        kdgen.evaluate(Half(), task=Denoise(), sigma=3)


def test_classifiers_are_measured_on_folders_of_colour_pictures(pets: Path, tmp_path: Path,
                                                                capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    net, use = build_net(Spec(name="feature_net", args={"width": 2, "classes": 3}), channels=3)
    task = {"name": "classify", "num_classes": 3, "size": 8, "channels": 3}
    Model(net, name="tiny", channels=3, task=task, use=use).save(tmp_path / "tiny")
    for model, metric in ((str(tmp_path / "tiny"), "accuracy"), ("features32", "neighbours")):
        assert call("evaluate", model, "--data", str(pets), "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["answers"] == 9
        assert "9 held-out images of 3 classes" in found["measured"]
        assert 0 <= found["metrics"][metric] <= 1
    x, y = ImageFolder(str(pets)).labelled(9, 8, channels=3, seed=0)
    right = (net.eval()(x).argmax(1) == y).double().mean().item()
    assert kdgen.evaluate(str(tmp_path / "tiny"), data=str(pets)).metrics["accuracy"] == pytest.approx(right)
    assert call("evaluate", "features32") == 2
    assert "give data, a folder with a folder for each class" in capsys.readouterr().err


def test_labels_of_an_idx_file_lie_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 8, 0, 0, 0, 8]) + bytes(64) + bytes([255] * 64)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(images)
    assert call("evaluate", "features32", "--data", str(tmp_path / "t10k-images-idx3-ubyte")) == 2
    assert "has no labels beside it (t10k-labels-idx1-ubyte)" in capsys.readouterr().err
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 0, 1]))
    assert call("evaluate", "features32", "--data", str(tmp_path / "t10k-images-idx3-ubyte")) == 0


def test_the_command_counts_while_it_measures_and_stops_at_num_images(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "PLAIN_EVERY", 0.0)
    assert call("evaluate", "denoiser", "--sigma", "25", "--num-images", "1", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["answers"] == 1
    assert "evaluating: 1 answers" in shown.err


def test_a_broken_model_is_told_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kdgen import registry

    monkeypatch.setitem(registry._registered, "net", {**registry._registered["net"], "half": Half})
    net = Model(Half(3e38), name="hot", channels=1, task={"name": "denoise", "sigma": 25}, use=Spec(name="half"))
    net.save(tmp_path / "hot")
    assert call("evaluate", str(tmp_path / "hot"), "--num-images", "1", "--json") == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out, parse_constant=pytest.fail)["metrics"]["psnr"] is None
    assert "gave NaN or infinite values in 1 of 1 answers" in shown.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_images": 0}, "num_images is a whole number of at least 1, not 0"),
        ({"num_images": -1}, "num_images is a whole number of at least 1, not -1"),
        ({"num_images": 2.5}, "num_images is a whole number of at least 1, not 2.5"),
        ({"seed": "a"}, "seed is a whole number, not 'a'"),
        (
            {"data": b"photos"},
            "data is a folder, an .npz or IDX file or the description of a source of images, not b'photos'",
        ),
        (
            {"data": ["a.png"]},
            "data is a folder, an .npz or IDX file or the description of a source of images, not \\['a.png'",
        ),
        ({"data": {"name": "dead_leaves"}}, "DeadLeaves holds no whole images: evaluate on a folder or photographs"),
        ({"task": 3}, "a task is a name, a description or a task itself, not 3"),
        ({"model": None}, "a model is a reference, a declaration or a module, not None"),
        ({"model": Half}, "a model is a reference, a declaration or a module, not <class"),
    ],
)
def test_odd_arguments_from_python_are_refused_in_a_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        kdgen.evaluate(**{"model": "denoiser", "sigma": 25, **given})


def test_a_denoiser_is_measured_on_an_idx_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t10k-images-idx3-ubyte"
    file.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 16, 0, 0, 0, 16]) + bytes([100] * 512))
    assert call("evaluate", "denoiser", "--data", str(file), "--sigma", "25", "--json") == 0
    assert json.loads(capsys.readouterr().out)["answers"] == 2


def test_a_module_may_be_the_teacher_of_a_bundled_model() -> None:
    class Clothes(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return z[:, :1, None, None].expand(-1, 1, 32, 32).tanh()

    assert kdgen.evaluate("gan", teacher=Clothes(), num_images=8).answers == 8


def test_a_module_wrapped_for_many_devices_is_told_what_its_module_reads() -> None:
    class Blind(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0.5 * x

    found = kdgen.evaluate(nn.DataParallel(Blind()), task="denoise", sigma=25, num_images=1)
    assert found.metrics == kdgen.evaluate(Blind(), task="denoise", sigma=25, num_images=1).metrics
