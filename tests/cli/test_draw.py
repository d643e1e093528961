"""Images that models draw: by seed, in Python and on the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import call
from torch import Tensor, nn

from kdgen.diffusion import GaussianMixture
from kdgen.models.model import Model, build_net, load
from kdgen.models.parts import Drawn
from kdgen.registry import Spec
from kdgen.types import UserError
from kdgen.utils.convert import sheet, to_pictures


@pytest.fixture
def gan(tmp_path: Path) -> Model:
    """A generator of 8x8 images in colour, saved as `gan`."""
    torch.manual_seed(0)
    net, use = build_net(Spec(name="conv_generator", args={"latent": 4, "size": 8, "width": 4}), channels=3)
    task = {"name": "generate", "latent": [4], "size": 8, "channels": 3}
    model = Model(net, name="gan", channels=3, task=task, use=use).eval()
    model.save(tmp_path / "gan")
    return model


@pytest.fixture
def diffusion() -> Model:
    """A diffusion model of images that are all near one of two flat ones."""
    means = torch.tensor([-0.5, 0.5]).view(2, 1, 1, 1).expand(2, 1, 4, 4).contiguous()
    task = {"name": "diffuse", "size": 4, "channels": 1}
    return Model(GaussianMixture(means, std=0.05), name="known", channels=1, task=task)


def test_the_same_seed_draws_the_same_images(gan: Model, tmp_path: Path) -> None:
    first = gan.draw(5, seed=3)
    assert first.shape == (5, 3, 8, 8)
    assert first.abs().max() <= 1
    assert torch.equal(first, load(tmp_path / "gan").draw(5, seed=3))
    assert not torch.equal(first, gan.draw(5, seed=4))
    torch.testing.assert_close(gan.draw(2, seed=3), first[:2])


def test_drawing_leaves_the_net_and_the_random_state_alone(gan: Model) -> None:
    gan.net.train()
    before, state = {k: v.clone() for k, v in gan.state_dict().items()}, torch.get_rng_state()
    gan.draw(3)
    assert gan.net.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in gan.state_dict().items())


def test_a_diffusion_model_draws_what_it_was_trained_on(diffusion: Model) -> None:
    drawn = diffusion.draw(200, seed=1)
    assert drawn.shape == (200, 1, 4, 4)
    assert ((drawn.mean((1, 2, 3)).abs() - 0.5).abs() < 0.08).all()
    assert 60 < (drawn.mean((1, 2, 3)) > 0).sum() < 140
    assert torch.equal(drawn[:9], diffusion.draw(9, seed=1))
    coarse = diffusion.draw(200, seed=1, num_steps=2)
    assert (coarse - drawn).abs().max() > 0.05


def test_pictures_are_those_of_the_tensor(gan: Model, diffusion: Model) -> None:
    drawn, pictures = gan.draw(2, seed=5), gan.generate(2, seed=5)
    assert [(picture.mode, picture.size) for picture in pictures] == [("RGB", (8, 8))] * 2
    levels = ((drawn[1].movedim(0, -1) + 1) / 2 * 255).round()
    assert np.array_equal(np.asarray(pictures[1]), levels.byte().numpy())
    assert [picture.mode for picture in diffusion.generate()] == ["L"]


def test_a_net_with_a_way_of_its_own_to_draw_uses_it() -> None:
    class Own(nn.Module):
        def generate(
            self, num_images: int, *, seed: int = 0, num_steps: int | None = None, progress: Drawn | None = None
        ) -> Tensor:
            return torch.full((num_images, 1, 2, 2), float(seed + (num_steps or 0)))

    assert Model(Own(), name="own", channels=1).draw(3, seed=4, num_steps=2).unique().tolist() == [6]


def test_what_draws_nothing_is_refused_in_one_line(gan: Model) -> None:
    for refuse, words in ((lambda: load("denoiser").generate(), "draws no images, it was made to denoise"),
                          (lambda: gan.restore(torch.zeros(1, 1, 8, 8)), "restores no images, it was made to generate"),
                          (lambda: gan.draw(0), "at least 1, not 0")):  # fmt: skip
        with pytest.raises(UserError, match=words) as refused:
            refuse()
        assert "\n" not in str(refused.value)


def test_a_sheet_is_as_near_to_a_square_as_can_be() -> None:
    pictures = to_pictures(torch.linspace(-1, 1, 7).view(7, 1, 1, 1).expand(7, 1, 4, 6))
    whole = sheet(pictures, gap=1)
    assert whole.size == (3 * 7 + 1, 3 * 5 + 1)
    cells = np.asarray(whole)[1::5, 1::7][:3, :3].flatten().tolist()
    assert cells == pytest.approx([0, 42.5, 85, 127.5, 170, 212.5, 255, 255, 255], abs=0.5)
    assert sheet(pictures, columns=7).size == (7 * 8 + 2, 8 - 2 + 2)


@pytest.mark.usefixtures("gan")
def test_generate_writes_a_sheet_or_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = str(tmp_path / "gan"), tmp_path / "new" / "sheet.png"
    assert call("generate", model, str(out), "--num-images", "6", "--seed", "2") == 0
    assert "6 images with seed 2" in capsys.readouterr().err
    with Image.open(out) as image:
        assert image.size == (2 * 10 + 2, 3 * 10 + 2)
    assert call("generate", model, str(tmp_path / "files"), "--num-images", "3", "--seed", "2") == 0
    files = sorted((tmp_path / "files").iterdir())
    assert [file.name for file in files] == ["00000.png", "00001.png", "00002.png"]
    with Image.open(out) as image, Image.open(files[1]) as second:
        assert np.array_equal(np.asarray(image)[2:10, 12:20], np.asarray(second))


@pytest.mark.parametrize(
    ("model", "out", "words"),
    [
        ("gan", "out.txt", "is no picture: name a .png, .jpg or .webp file, or a folder"),
        ("denoiser", "out.png", "draws no images"),
        ("absent", "out.png", "no model at"),
    ],
)
@pytest.mark.usefixtures("gan")
def test_mistakes_are_one_line_and_write_nothing(
    model: str,
    out: str,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("generate", model, out) == 2
    said = capsys.readouterr().err
    assert said.startswith("kdgen: ")
    assert said.count("\n") == 1
    assert words in said
    assert not Path(out).exists()


class ByClass(nn.Module):
    """Draws flat images, brighter by class."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.tensor(0.25))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return (label * self.step - 0.5).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()


def test_a_label_says_which_class_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kdgen import registry

    monkeypatch.setitem(registry._registered, "net", {**registry._registered["net"], "by_class": ByClass})
    task = {"name": "generate", "latent": [2], "size": 4, "channels": 1, "num_classes": 3}
    model = Model(ByClass(), name="classes", channels=1, task=task, use=Spec(name="by_class"))

    def drawn(label: int | list[int] | None) -> list[float]:
        return model.draw(4, label=label)[:, 0, 0, 0].tolist()

    assert drawn(None) == [-0.5, -0.25, 0.0, -0.5]
    assert drawn(2) == [0.0] * 4
    assert drawn([2, 1]) == [0.0, -0.25, 0.0, -0.25]
    with pytest.raises(UserError, match="knows the classes 0 to 2, not 3"):
        drawn(3)
    model.save(tmp_path / "classes")
    options = ["--num-images", "2", "--label", "2", "--label", "0"]
    assert call("generate", str(tmp_path / "classes"), str(tmp_path / "out"), *options) == 0
    levels = [int(np.asarray(Image.open(tmp_path / "out" / f"0000{i}.png"))[0, 0]) for i in range(2)]
    assert levels == [128, 64]
    capsys.readouterr()
    assert call("generate", "gan", str(tmp_path / "x.png"), "--label", "1") == 2
    assert "draws images without classes: leave label out" in capsys.readouterr().err


@pytest.fixture
def pipeline() -> Model:
    """A diffusion model of diffusers whose every step adds noise, of three classes."""
    torch.manual_seed(0)
    args = {"size": 8, "block_out_channels": [8, 16], "norm_num_groups": 4, "attention_levels": 0}
    use = Spec.model_validate({"name": "unet2d", "args": {**args, "num_class_embeds": 3, "pipeline": "DDPMPipeline"}})
    net, use = build_net(use, channels=1)
    return Model(net, name="p", channels=1, task={"name": "diffuse", "size": 8, "num_classes": 3}, use=use).eval()


def test_a_pipeline_draws_in_batches_that_fit_and_the_same_images_in_any(
    pipeline: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    pipeline.net.unet.register_forward_pre_hook(lambda net, args: sizes.append(len(args[0])))  # type: ignore[union-attr]
    told: list[tuple[int, int]] = []
    whole = pipeline.draw(250, seed=1, num_steps=2, progress=lambda done, of: told.append((done, of)))
    assert sizes == [100, 100, 100, 100, 50, 50]
    assert told == [(100, 250), (200, 250), (250, 250)]
    torch.testing.assert_close(pipeline.draw(7, seed=1, num_steps=2), whole[:7], atol=1e-5, rtol=0)
    assert (whole[0] - whole[3]).abs().max() > 0.1
    sizes.clear()
    monkeypatch.setattr("kdgen.models.parts.PIXELS", 3 * 64)
    torch.testing.assert_close(pipeline.draw(7, seed=1, num_steps=2), whole[:7], atol=1e-5, rtol=0)
    assert sizes == [3, 3, 3, 3, 1, 1]


def test_where_memory_runs_out_fewer_are_drawn_at_once(gan: Model, pipeline: Model) -> None:
    for model, part in ((gan, gan.net), (pipeline, pipeline.net.unet)):
        few = model.draw(9, seed=2, num_steps=2)

        def full(net: nn.Module, args: tuple[Tensor, ...]) -> None:
            if len(args[0]) > 3:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

        hook = part.register_forward_pre_hook(full)  # type: ignore[union-attr]
        torch.testing.assert_close(model.draw(9, seed=2, num_steps=2), few, atol=1e-5, rtol=0)
        hook.remove()


@pytest.mark.parametrize("steps", [None, 2])
def test_large_images_are_drawn_few_at_once_and_the_same(steps: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    means = torch.tensor([-0.5, 0.5]).view(2, 1, 1, 1).expand(2, 1, 4, 4).contiguous()
    task = {"name": "diffuse", "size": 4, "channels": 1, "sampler": "consistency"}
    model = Model(GaussianMixture(means, std=0.05), name="known", channels=1, task=task)
    drawn = model.draw(150, seed=1, num_steps=steps)
    sizes: list[int] = []
    model.net.register_forward_pre_hook(lambda net, args: sizes.append(len(args[0])))
    monkeypatch.setattr("kdgen.models.parts.PIXELS", 40 * 16)
    assert torch.equal(model.draw(150, seed=1, num_steps=steps), drawn)
    assert max(sizes) == 40
