"""Commands that use and measure models: restore, evaluate, compare and generate."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import call
from torch import Tensor, nn

from kdgen.models import model as models
from kdgen.models.model import Model


class Negative(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(-1.0))

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        return x * self.factor


@pytest.fixture
def negative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reference is a model that inverts its pictures."""
    monkeypatch.setattr(models, "load", lambda reference: Model(Negative(), name="negative", channels=1))


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    folder = tmp_path / "noisy"
    (folder / "deep").mkdir(parents=True)
    values = np.arange(35, dtype=np.uint8).reshape(5, 7)
    Image.fromarray(values).save(folder / "grey.png")
    Image.fromarray(np.stack([values, values + 9, values + 99], axis=2)).save(folder / "deep" / "colour.tif")
    Image.fromarray(values.astype(np.uint16) * 1000).save(folder / "sixteen.png")
    (folder / "damaged.png").write_bytes((folder / "grey.png").read_bytes()[:40])
    return folder


@pytest.mark.usefixtures("negative")
def test_restore_a_folder(noisy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert call("restore", "any", str(noisy), str(out), "--sigma", "10") == 0
    said = capsys.readouterr().err
    assert "3 of 4 restored" in said
    assert "skipped" in said
    assert "damaged.png" in said
    for name, top in (("grey.png", 255), ("deep/colour.tif", 255), ("sixteen.png", 65535)):
        before, after = np.asarray(Image.open(noisy / name)), np.asarray(Image.open(out / name))
        assert after.dtype == before.dtype
        assert np.abs(after.astype(int) - (top - before.astype(int))).max() <= 1
    assert not (out / "damaged.png").exists()


@pytest.mark.usefixtures("negative")
def test_restore_never_writes_over_its_input(noisy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (noisy / "grey.png").read_bytes()
    for target in (noisy / "grey.png", noisy):
        assert call("restore", "any", str(noisy / "grey.png"), str(target)) == 2
        assert "is not overwritten" in capsys.readouterr().err
    assert call("restore", "any", str(noisy), str(noisy)) == 2
    assert (noisy / "grey.png").read_bytes() == before


@pytest.mark.usefixtures("negative")
def test_restore_of_damaged_images_alone_fails(noisy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("restore", "any", str(noisy / "damaged.png"), str(tmp_path / "out.png")) == 2
    assert "no image could be restored" in capsys.readouterr().err


@pytest.mark.usefixtures("negative")
def test_evaluate_and_compare_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "grey"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24), dtype=np.uint8)).save(folder / "a.png")
    assert call("evaluate", "any", "--data", str(folder), "--sigma", "15", "--json") == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["metrics"]["psnr"] < 15
    out = tmp_path / "out"
    assert call("compare", "one", "two", "--data", str(folder), "--sigma", "15", "--json", "--out", str(out)) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["role"], row["name"]) for row in rows] == [
        ("input", "noisy input"),
        ("model", "one"),
        ("model", "two"),
    ]
    assert rows[1]["metrics"]["psnr"] == pytest.approx(evaluated["metrics"]["psnr"])
    assert rows[0]["metrics"]["psnr"] == pytest.approx(24.6, abs=0.8)
    assert {path.name for path in out.iterdir()} == {"report.json", "report.md", "samples.png"}
