"""Models as users hold them: pictures of any kind in and out, folders saved and loaded, references resolved."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import kdgen.tasks  # noqa: F401 - registers what measures
from kdgen.models.loading import BUNDLED
from kdgen.models.model import Model, build_net, load
from kdgen.registry import Spec, build
from kdgen.types import UserError


@pytest.fixture
def grey() -> Model:
    torch.manual_seed(0)
    net, use = build_net(Spec(name="dncnn", args={"depth": 3, "width": 4}), channels=1)
    return Model(net, name="grey", channels=1, task={"name": "denoise", "sigma": 25}, use=use).eval()


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("L", (7, 5), 100),
        Image.new("RGB", (7, 5), (10, 100, 200)),
        np.full((5, 7), 100, np.uint8),
        np.full((5, 7, 3), 0.4, np.float32),
        torch.zeros(1, 5, 7),
        torch.zeros(2, 3, 5, 7),
    ],
)
def test_the_same_kind_comes_back(grey: Model, picture: object) -> None:
    out = grey(picture)
    assert type(out) is type(picture)
    if isinstance(picture, Image.Image):
        assert (out.mode, out.size) == (picture.mode, picture.size)
    else:
        assert out.shape == picture.shape  # type: ignore[attr-defined]
        assert out.dtype == picture.dtype  # type: ignore[attr-defined]


def test_a_picture_is_read_in_the_range_of_the_nets() -> None:
    same = Model(torch.nn.Module(), name="same", channels=1)
    same.register_parameter("weight", torch.nn.Parameter(torch.zeros(1)))
    seen = []

    def forward(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.append((x, sigma))
        return x

    same.net.forward = forward  # type: ignore[method-assign]
    pixels = np.array([[0, 51, 255]], np.uint8)
    assert np.array_equal(same(pixels, sigma=51.0), pixels)
    x, sigma = seen[0]
    torch.testing.assert_close(x, torch.tensor([[[[-1.0, -0.6, 1.0]]]]))
    torch.testing.assert_close(sigma, torch.tensor([0.4]))


def test_a_grey_model_takes_colour_channel_by_channel(grey: Model) -> None:
    x = torch.rand(2, 3, 6, 6) * 2 - 1
    apart = torch.cat([grey.restore(x[:, i : i + 1]) for i in range(3)], dim=1)
    torch.testing.assert_close(grey.restore(x), apart)


def test_save_and_load(grey: Model, tmp_path: Path) -> None:
    grey.save(tmp_path / "student")
    again = load(tmp_path / "student")
    x = torch.rand(1, 1, 9, 9)
    assert torch.equal(again.restore(x), grey.restore(x))
    assert (again.name, again.channels, again.task) == (grey.name, grey.channels, grey.task)
    assert again.fingerprint() == grey.fingerprint()
    assert again.use is not None
    assert again.use.args == {
        "channels": 1, "depth": 3, "width": 4, "norm": False, "bias": True, "predicts": "residual"
    }  # fmt: skip


def test_batch_norm_is_folded_on_saving(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, use = build_net(Spec(name="dncnn", args={"depth": 4, "width": 4, "norm": True}), channels=1)
    net(torch.randn(4, 1, 8, 8))
    model = Model(net, name="normed", channels=1, use=use).eval()
    model.save(tmp_path)
    assert not any("running" in key for key in load_file(tmp_path / "model.safetensors"))
    x = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(load(tmp_path).restore(x), model.restore(x), atol=1e-5, rtol=0)


def test_damaged_folders_are_refused_in_one_line(grey: Model, tmp_path: Path) -> None:
    grey.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()

    weights.write_bytes(whole[:100])
    with pytest.raises(UserError, match="damaged"):
        load(tmp_path)
    weights.write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(UserError, match="damaged"):
        load(tmp_path)
    fewer = dict(list(load_file_from(whole, tmp_path).items())[1:])
    save_file(fewer, weights)
    with pytest.raises(UserError, match="do not fit"):
        load(tmp_path)
    weights.write_bytes(whole)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "format": 2}))
    with pytest.raises(UserError, match="format"):
        load(tmp_path)


def load_file_from(data: bytes, folder: Path) -> dict[str, torch.Tensor]:
    path = folder / "copy.safetensors"
    path.write_bytes(data)
    return load_file(path)


def test_an_unknown_reference_names_the_bundled_ones() -> None:
    with pytest.raises(UserError, match=r"no model at .nothing.*denoiser"):
        load("nothing")


def test_the_bundled_teacher_denoises_grey_and_colour_at_every_level() -> None:
    teacher = load("denoiser")
    assert sum(f.stat().st_size for f in (BUNDLED / "denoiser").iterdir()) <= 5e6
    least = {(1, 15): 6.5, (1, 25): 8.4, (1, 50): 10.5, (3, 15): 7.7, (3, 25): 9.6, (3, 50): 11.8}
    for (channels, sigma), gain in least.items():
        task = build("task", Spec(name="denoise", args={"sigma": sigma, "channels": channels}))
        noisy, clean = task.evaluate_input(limit=2)["psnr"], task.evaluate(teacher.net, limit=2)["psnr"]
        assert clean - noisy > gain, (channels, sigma, noisy, clean)


@pytest.mark.parametrize(("task", "key"), [({"name": "generate"}, "latent"), ({"name": "diffuse"}, "size")])
def test_a_model_that_does_not_say_what_it_draws_with_is_refused(task: dict[str, object], key: str) -> None:
    model = Model(torch.nn.Identity(), name="mine", channels=1, task=task)
    with pytest.raises(UserError, match=f"mine does not say the {key} it draws with: declare task.{key}"):
        model.generate(1)


def test_answers_that_are_not_finite_are_no_pictures(grey: Model) -> None:
    for weight in grey.parameters():
        weight.data.fill_(1e30)
    with pytest.raises(UserError, match="grey makes images that are not finite: its weights"):
        grey(Image.new("L", (7, 5), 100))
    hot, use = build_net(Spec(name="mlp_generator", args={"latent": 4, "size": 8, "hidden": [4]}), channels=1)
    hot.register_forward_hook(lambda net, args, out: out * float("nan"))
    drawing = Model(hot, name="hot", channels=1, task={"name": "generate", "latent": [4]}, use=use).eval()
    with pytest.raises(UserError, match="hot makes images that are not finite: its weights"):
        drawing.generate(2)
