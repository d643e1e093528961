"""UNet2DModel that is told a noise level and no timestep: scores and consistency models, as plain diffusers draws them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, ScoreSdeVePipeline, ScoreSdeVeScheduler
from diffusers import UNet2DModel as Unet
from support import drain, taught_by
from torch import Tensor, nn

from kdgen import load
from kdgen.models.adapters import open_folder
from kdgen.models.adapters.consistency_model import ConsistencyModel
from kdgen.models.adapters.pipeline_images import image_seeds
from kdgen.models.adapters.pretrained import construct
from kdgen.models.adapters.score_sde import ScoreSde
from kdgen.models.scaling import family_of
from kdgen.recipe import parse
from kdgen.training import run
from kdgen.types import UserError

LEVELS = {"sigma_min": 0.01, "sigma_max": 0.5, "num_train_timesteps": 6, "snr": 0.2}


def ncsnpp(**more: Any) -> Unet:
    """A tiny NCSN++: Fourier features, images that are passed on beside the blocks."""
    torch.manual_seed(0)
    skip = {"down_block_types": ("SkipDownBlock2D", "AttnSkipDownBlock2D"),
            "up_block_types": ("AttnSkipUpBlock2D", "SkipUpBlock2D")}  # fmt: skip
    return Unet(**{"sample_size": 8, "block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": None,
                   "time_embedding_type": "fourier", "mid_block_scale_factor": 2**0.5, "norm_eps": 1e-6, **skip,
                   "attention_head_dim": None, **more}).eval()  # fmt: skip


def imagenet(**more: Any) -> Unet:
    """A tiny consistency model laid out as those of ImageNet are."""
    torch.manual_seed(0)
    return Unet(**{"sample_size": 8, "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8,
                   "attn_norm_num_groups": 8, "attention_head_dim": 8, "resnet_time_scale_shift": "scale_shift",
                   "upsample_type": "resnet", "downsample_type": "resnet", "num_class_embeds": 3,
                   "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
                   "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"), **more}).eval()  # fmt: skip


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    ScoreSdeVePipeline(unet=ncsnpp(), scheduler=ScoreSdeVeScheduler(**LEVELS)).save_pretrained(tmp_path / "scores")
    return tmp_path / "scores"


@pytest.fixture
def consistent(tmp_path: Path) -> Path:
    ConsistencyModelPipeline(unet=imagenet(), scheduler=CMStochasticIterativeScheduler()).save_pretrained(
        tmp_path / "cm"
    )
    return tmp_path / "cm"


def plain(folder: Path, num_steps: int, **more: Any) -> Tensor:
    """An image of plain diffusers from the first seed of 5."""
    pipe = (ScoreSdeVePipeline if folder.name == "scores" else ConsistencyModelPipeline).from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    own = [torch.Generator().manual_seed(image_seeds(5, 1)[0])]
    images = pipe(1, generator=own, num_inference_steps=num_steps, output_type="np", **more).images
    return torch.from_numpy(images).movedim(-1, 1) * 2 - 1


def noises() -> Any:
    """The noise that this seed draws, image by image."""
    random = torch.Generator().manual_seed(image_seeds(5, 1)[0])
    return lambda: torch.randn(1, 3, 8, 8, generator=random)


@torch.no_grad()
def test_denoised_images_are_those_that_predictor_and_corrector_go_by(scores: Path) -> None:
    net, use, channels, task = open_folder(scores)
    assert isinstance(net, ScoreSde)
    assert (use.name, channels, task) == ("score_sde", 3, {"name": "diffuse", "channels": 3, "size": 8})
    noise, count = noises(), 4
    scheduler = net.scheduler
    levels = torch.linspace(1, 1e-5, count)
    table = torch.logspace(0, 1, count, base=LEVELS["sigma_max"] / LEVELS["sigma_min"]) * LEVELS["sigma_min"]

    def score(x: Tensor, sigma: float) -> Tensor:
        """Of images in [0, 1], by the denoised one: Karras et al. 2022, eq. 3."""
        shown = 2 * x - 1
        return (net(shown, sigma=torch.tensor([2 * sigma])) - shown) / 2 / sigma**2

    x = noise() * LEVELS["sigma_max"]
    for time in levels:
        sigma = LEVELS["sigma_min"] * (LEVELS["sigma_max"] / LEVELS["sigma_min"]) ** float(time)
        gradient, fresh = score(x, sigma), noise()
        length = 2 * (LEVELS["snr"] * fresh.norm() / gradient.norm()) ** 2
        x = x + length * gradient + (2 * length).sqrt() * fresh
        place = int(time * (count - 1))
        variance = table[place] ** 2 - (table[place - 1] ** 2 if place else 0)
        mean = x + variance * score(x, sigma)
        x = mean + variance.sqrt() * noise()
    assert scheduler.config.correct_steps == 1
    expected = plain(scores, count)
    assert (expected.abs() < 1).float().mean() > 0.1
    torch.testing.assert_close(mean.clamp(0, 1) * 2 - 1, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(net.generate(2, seed=5, num_steps=count)[:1], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_denoised_images_are_those_that_a_consistency_model_draws(consistent: Path) -> None:
    net, use, channels, task = open_folder(consistent)
    assert isinstance(net, ConsistencyModel)
    assert (use.name, channels, task["num_classes"], task["sampler"]) == ("consistency_model", 3, 3, "consistency")
    noise, told = noises(), {"label": torch.tensor([2])}
    high, low, none = net.few_levels(2).tolist()
    assert (high, none) == (pytest.approx(80), 0)
    x = noise() * high
    x = net(x, sigma=torch.tensor([high]), **told).clamp(-1, 1) + (low**2 - 0.002**2) ** 0.5 * noise()
    expected = plain(consistent, 2, class_labels=[2])
    assert (expected.abs() < 1).float().mean() > 0.1
    denoised = net(x, sigma=torch.tensor([low]), **told).clamp(-1, 1)
    torch.testing.assert_close(denoised, expected, atol=1e-4, rtol=0)
    before = torch.random.get_rng_state()
    drawn = net.generate(2, seed=5, num_steps=2, label=torch.tensor([2, 0]))[:1]
    torch.testing.assert_close(drawn, expected, atol=1e-5, rtol=0)
    assert torch.equal(before, torch.random.get_rng_state())
    noisy = torch.randn(1, 3, 8, 8)
    assert torch.equal(net(noisy, sigma=torch.tensor([0.002]), **told), noisy)


@pytest.mark.parametrize("kind", [pytest.param("scores", marks=pytest.mark.slow), "consistent"])
def test_a_smaller_student_learns_is_saved_and_drawn_by_plain_diffusers(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path / "cache"))
    teacher = request.getfixturevalue(kind)
    model = load(teacher)
    assert model.use is not None
    small = next(iter(family_of(model.use.name).scale(model.use.args, 0.5)))
    few = {"table": "karras", "steps": [2], "teacher_sampler": "student", "num_classes": 3}
    task, told = ("few_steps", few) if kind == "consistent" else ("diffuse", {})
    student = {"name": model.use.name, "args": small}
    data = taught_by(str(teacher), student, {"name": "output"}, task, **told, channels=3)
    drain(run.distill(parse({**data, "init": "teacher"}), tmp_path / "run"))
    drawn = load(tmp_path / "run").draw(1, seed=5, num_steps=2)
    written = tmp_path / "run" / "student"
    for part in ("model_index.json", "scheduler/scheduler_config.json"):
        assert json.loads((written / part).read_text()) == json.loads((teacher / part).read_text())
    told = {"class_labels": [0]} if kind == "consistent" else {}
    torch.testing.assert_close(drawn, plain(written.rename(tmp_path / "run" / teacher.name), 2, **told), atol=1e-5,
                               rtol=0)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "file", "keys", "said"),
    [
        ("scores", "model_index.json", {"scheduler": ["diffusers", "KarrasVeScheduler"]},
         "KarrasVeScheduler, which is not handled: handled are ScoreSdeVeScheduler"),
        ("scores", "unet/config.json", {"sample_size": [8, 16]}, "square images of 3 channels"),
        ("scores", "unet/config.json", {"class_embed_type": "timestep"}, "another kind of embedding"),
        ("consistent", "model_index.json", {"scheduler": ["diffusers", "EDMEulerScheduler"]}, "CMStochasticIterative"),
        ("consistent", "unet/config.json", {"sample_size": None}, "square images of 1 or 3 channels"),
    ],
)  # fmt: skip
def test_what_is_not_handled_is_refused_by_name(
    kind: str, file: str, keys: dict[str, Any], said: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(kind) / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))
    with pytest.raises(UserError, match=said) as error:
        open_folder(path.parents[file.count("/")])
    assert "\n" not in str(error.value)


def test_a_model_of_fourier_features_alone_is_sent_to_its_pipeline(scores: Path) -> None:
    with pytest.raises(UserError, match="ScoreSdeVePipeline"):
        open_folder(scores / "unet")


def test_widths_suit_all_groups() -> None:
    for model, widths in ((ncsnpp(), {32}), (imagenet(), {8, 16})):
        (smaller, *_) = family_of("unet2d").scale({"config": dict(model.config)}, 0.5)
        assert set(smaller["config"]["block_out_channels"]) == widths
        assert isinstance(construct("UNet2DModel", smaller["config"]), Unet)


def test_a_narrower_net_keeps_features_of_the_noise_level_that_belong_together() -> None:
    teacher, student = (ScoreSde(ncsnpp(block_out_channels=widths), ScoreSdeVeScheduler(**LEVELS))
                        for widths in ((64, 64), (32, 64)))  # fmt: skip
    student.inherit(teacher)
    assert isinstance(student.unet.time_proj, nn.Module)
    assert torch.equal(student.unet.time_proj.weight, teacher.unet.time_proj.weight[::2])
