from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from kdgen.report import sample_grids, tiles
from kdgen.report.sample_grids import GAP
from kdgen.report.tiles import LINE, TILE
from kdgen.types import Batch, Task


class Images(Task):
    def __init__(self, height: int = 40, width: int = 60, channels: int = 1, truth: bool = True) -> None:
        self.shape, self.truth = (1, channels, height, width), truth

    def evaluation_images(self, *, seed: int = 0, limit: int | None = None) -> Iterator[tuple[str, Batch]]:
        generator = torch.Generator().manual_seed(seed)
        for index in range(limit or 2):
            y = torch.linspace(-1, 1, self.shape[-1]).expand(self.shape).clone()
            noise = 0.2 * torch.randn(self.shape, generator=generator)
            yield f"image-{index}", Batch(x=y + noise, y=y if self.truth else None, cond={"sigma": torch.tensor([0.2])})


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, *, sigma: Tensor) -> Tensor:
        assert sigma.shape == x.shape[:1]
        return x * self.factor


def draw(path: Path, task: Images, **factors: float) -> np.ndarray:
    sample_grids.samples(path, task, {name: Scaled(factor) for name, factor in factors.items()}, limit=2)
    with Image.open(path) as image:
        return np.asarray(image)


def test_samples_have_the_expected_size(tmp_path: Path) -> None:
    picture = draw(tmp_path / "a.png", Images(), teacher=1.0, control_steps=0.5)
    columns, whole = 4, round(TILE * 40 / 60)
    assert picture.shape == (2 * (3 * LINE + whole + 2 * TILE + 3 * GAP), GAP + columns * (TILE + GAP), 4)


def test_samples_differ_only_in_the_column_of_the_net_that_differs(tmp_path: Path) -> None:
    a = draw(tmp_path / "a.png", Images(), teacher=0.2, student=0.9)
    b = draw(tmp_path / "b.png", Images(), teacher=0.2, student=0.7)
    column = [slice(GAP + i * (TILE + GAP), (i + 1) * (TILE + GAP)) for i in range(4)]
    band = slice(2 * LINE, LINE + TILE)
    assert not np.array_equal(a[:, column[2]], b[:, column[2]])
    for same in (0, 1, 3):
        assert np.array_equal(a[band, column[same]], b[band, column[same]])


def test_a_perfect_net_has_a_black_error_map(tmp_path: Path) -> None:
    class Truth(nn.Module):
        def forward(self, x: Tensor, *, sigma: Tensor) -> Tensor:
            return torch.linspace(-1, 1, x.shape[-1]).expand_as(x)

    sample_grids.samples(tmp_path / "a.png", Images(), {"student": Truth(), "control_steps": Scaled(1.0)}, limit=1)
    with Image.open(tmp_path / "a.png") as image:
        picture = np.asarray(image.convert("RGB"))
    error = picture[-TILE - 2 * GAP : -2 * GAP]
    assert error[:, 2 * GAP + TILE : 2 * (GAP + TILE)].max() <= 4
    assert error[:, 3 * GAP + 2 * TILE : 3 * (GAP + TILE)].max() > 100


@pytest.mark.parametrize(("height", "width", "channels"), [(1, 30, 1), (30, 1, 3), (1, 1, 1), (200, 100, 3)])
def test_samples_of_any_size(tmp_path: Path, height: int, width: int, channels: int) -> None:
    assert draw(tmp_path / "a.png", Images(height, width, channels), student=0.5).std() > 1


def test_samples_without_truth_have_neither_truth_nor_errors(tmp_path: Path) -> None:
    picture = draw(tmp_path / "a.png", Images(truth=False), student=0.5)
    assert picture.shape[1] == GAP + 2 * (TILE + GAP)
    assert picture.shape[0] == 2 * (2 * LINE + round(TILE * 40 / 60) + TILE + 3 * GAP)


def test_an_input_smaller_than_its_truth_stands_beside_it_at_its_size(tmp_path: Path) -> None:
    class Halves(Images):
        def evaluation_images(self, *, seed: int = 0, limit: int | None = None) -> Iterator[tuple[str, Batch]]:
            for name, batch in super().evaluation_images(seed=seed, limit=limit):
                yield name, Batch(x=nn.functional.avg_pool2d(batch.x, 2), y=batch.y)

    nets = {"student": nn.Upsample(scale_factor=2)}
    sample_grids.samples(tmp_path / "a.png", Halves(128, 200), nets, limit=1)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (GAP + 3 * (TILE + GAP), 3 * LINE + round(TILE * 128 / 200) + 2 * TILE + 3 * GAP)


def test_what_is_not_finite_is_not_measured_in_db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr("kdgen.report.sample_grids.write", lambda draw, at, text, **more: written.append(text))
    sample_grids.samples(
        tmp_path / "s.png", Images(), {"student": Scaled(float("nan")), "teacher": Scaled(1.0)}, limit=1
    )
    assert sum("dB" in text for text in written) == 2, "the input's and the teacher's"
    assert written.count("not finite") == 1


def test_crop_lies_where_the_detail_is() -> None:
    truth = np.zeros((64, 80, 1), np.float32)
    truth[40:56, 20:36] = np.indices((16, 16)).sum(0)[..., None] % 2
    top, left = tiles.textured(truth, 16)
    assert (top, left) in {(39, 19), (40, 20), (39, 20), (40, 19)}


def test_a_preview_leaves_a_net_as_it_trains(tmp_path: Path) -> None:
    net = nn.Sequential(Scaled(1.0))
    net.forward = lambda x, **cond: net[0](x, **cond)  # type: ignore[method-assign]
    net.train()
    net[0].eval()
    sample_grids.samples(tmp_path / "preview.png", Images(), {"student": net}, limit=1)
    assert (net.training, net[0].training) == (True, False)
