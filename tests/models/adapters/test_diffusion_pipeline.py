"""Folders of diffusers' diffusion pipelines, both ways: the same images, and mistakes told in one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMPipeline, DDPMPipeline, DDPMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdgen.models.adapters import open_folder
from kdgen.models.adapters.unet2d import Unet2d, unet2d
from kdgen.registry import build, spelled_out
from kdgen.types import UserError

TINY = {"size": 8, "block_out_channels": (8, 16), "norm_num_groups": 4}


def tiny(seed: int = 0, **args: Any) -> Unet2d:
    torch.manual_seed(seed)
    return unet2d(**{**TINY, **args}).eval()


def noisy(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """An input of a plain pipeline, and its noise level."""
    z = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return z, ((1 - alpha.double()) / alpha.double()).sqrt().float().view(1)


def plain_images(folder: Path, **call: Any) -> Tensor:
    pipe = DDIMPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    seeds = torch.randint(2**63 - 1, (call["batch_size"],), generator=torch.Generator().manual_seed(7)).tolist()
    own = [torch.Generator().manual_seed(seed) for seed in seeds]
    images = pipe(generator=own, output_type="np", **call).images
    return torch.from_numpy(images).movedim(-1, 1) * 2 - 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder of plain diffusers: DDPM, predicting epsilon, the cosine schedule."""
    where = tmp_path_factory.mktemp("ddpm")
    scheduler = DDPMScheduler(num_train_timesteps=50, beta_schedule="squaredcos_cap_v2")
    DDPMPipeline(unet=tiny(seed=3, channels=3).unet, scheduler=scheduler).save_pretrained(where)
    return where


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def change(file: Path, **keys: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        open_folder(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_the_denoised_image_is_that_of_the_scheduler(kind: str, schedule: str) -> None:
    net = tiny(prediction_type=kind, beta_schedule=schedule)
    scheduler = DDPMScheduler(beta_schedule=schedule, prediction_type=kind, clip_sample=False)
    for t in (0, 1, 250, 700, 990):
        alpha = scheduler.alphas_cumprod[t]
        z, sigma = noisy(alpha)
        with torch.no_grad():
            expected = scheduler.step(net.unet(z, torch.tensor(t)).sample, t, z).pred_original_sample
            got = net(z / alpha.sqrt(), sigma=sigma)
        assert torch.allclose(got, expected, rtol=1e-4, atol=1e-4 * float(sigma.clamp_min(1)))


def test_levels_between_timesteps_and_beyond_the_table() -> None:
    net = tiny(prediction_type="epsilon")
    x = torch.randn(3, 1, 8, 8)
    table = ((1 - net.scheduler.alphas_cumprod) / net.scheduler.alphas_cumprod).double().sqrt()
    between = (table[400] * table[401]).sqrt().float().view(1)
    with torch.no_grad():
        expected = x[:1] - between * net.unet(x[:1] / (1 + between**2).sqrt(), torch.tensor([400.5])).sample
        assert torch.allclose(net(x[:1], sigma=between), expected, atol=1e-4)
        ends = net(x, sigma=torch.tensor([0.0, 1e-6, 1e4]))
    assert torch.equal(ends[0], x[0])
    assert torch.allclose(ends[1], x[1], atol=1e-4)
    assert ends.isfinite().all()


@pytest.mark.parametrize("args", [{}, {"channels": 3, "mid_block": False, "attention_levels": 0}])
def test_plain_diffusers_draws_the_same_images_from_the_written_folder(tmp_path: Path, args: dict[str, Any]) -> None:
    net = tiny(**args).train()
    net.save_files(tmp_path)
    drawn = net.generate(2, seed=7, num_steps=3)
    assert net.training
    assert drawn.shape == (2, net.channels, 8, 8)
    assert drawn.std() > 0.1
    assert torch.equal(drawn, plain_images(tmp_path, batch_size=2, num_inference_steps=3))
    assert torch.equal(drawn, net.generate(2, seed=7, num_steps=3))
    assert not torch.equal(drawn, net.generate(2, seed=8, num_steps=3))
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]


def test_files_are_read_back_strictly(tmp_path: Path) -> None:
    net, other = tiny(), tiny(seed=1)
    net.to(memory_format=torch.channels_last).save_files(tmp_path)
    net.save_files(tmp_path)
    other.load_files(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    with pytest.raises(UserError, match="of another architecture"):
        tiny(layers_per_block=2).load_files(tmp_path)


def test_a_folder_of_plain_diffusers_opens_and_is_written_alike(folder: Path, tmp_path: Path) -> None:
    net, use, channels, task = open_folder(folder)
    assert isinstance(net, Unet2d)
    assert not net.training
    assert (channels, task) == (3, {"name": "diffuse", "channels": 3, "size": 8})
    pipe = DDPMPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    seeds = torch.randint(2**63 - 1, (2,), generator=torch.Generator().manual_seed(5)).tolist()
    own = [torch.Generator().manual_seed(seed) for seed in seeds]
    images = pipe(2, generator=own, num_inference_steps=4, output_type="np").images
    assert torch.equal(net.generate(2, seed=5, num_steps=4), torch.from_numpy(images).movedim(-1, 1) * 2 - 1)
    net.save_files(tmp_path)
    for part in ("model_index.json", "scheduler/scheduler_config.json"):
        assert json.loads((tmp_path / part).read_text()) == json.loads((folder / part).read_text())
    again: Unet2d = build("net", spelled_out("net", use))
    again.load_files(tmp_path)
    assert repr(again) == repr(net)
    assert torch.equal(again.generate(1, num_steps=2), net.generate(1, num_steps=2))


def test_the_default_number_of_steps_is_the_pipelines(folder: Path) -> None:
    net = open_folder(folder)[0]
    assert torch.equal(net.generate(1), net.generate(1, num_steps=50))  # type: ignore[operator]


@pytest.mark.parametrize("scheduler", [EulerDiscreteScheduler, DPMSolverMultistepScheduler])
def test_other_schedulers_speak_of_the_same_noise(own: Path, tmp_path: Path, scheduler: Any) -> None:
    plain = open_folder(own)[0]
    DDPMPipeline(
        unet=DDPMPipeline.from_pretrained(own).unet,
        scheduler=scheduler(num_train_timesteps=50, beta_schedule="squaredcos_cap_v2"),
    ).save_pretrained(own)
    net = open_folder(own)[0]
    x, sigma = torch.randn(2, 3, 8, 8), torch.tensor([0.3, 5.0])
    with torch.no_grad():
        assert torch.equal(net(x, sigma=sigma), plain(x, sigma=sigma))
    net.save_files(tmp_path / "out")  # type: ignore[operator]
    kept = "DDIMPipeline" if scheduler is EulerDiscreteScheduler else "DDPMPipeline"
    assert json.loads((tmp_path / "out" / "model_index.json").read_text())["_class_name"] == kept
    assert net.generate(1, num_steps=3).isfinite().all()  # type: ignore[operator]


def test_a_bare_model_folder_is_taken_for_a_ddpm(own: Path) -> None:
    net, use, _, _ = open_folder(own / "unet")
    assert use.args["scheduler"] == {"_class_name": "DDPMScheduler"}
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        expected = x - 2 * open_folder(own)[0].unet(x / 5**0.5, net.timesteps.timestep(torch.tensor([2.0]))).sample  # type: ignore[operator, union-attr]
        assert torch.allclose(net(x, sigma=torch.tensor([2.0])), expected, atol=1e-5)


def test_unknown_configuration_is_ignored_as_diffusers_does(own: Path) -> None:
    change(own / "unet" / "config.json", brand_new=3)
    change(own / "scheduler" / "scheduler_config.json", brand_new=3)
    open_folder(own)


@pytest.mark.parametrize(
    ("file", "keys", "said"),
    [
        (
            "model_index.json",
            {"_class_name": "StableDiffusionUpscalePipeline"},
            "StableDiffusionUpscalePipeline, which is not handled",
        ),
        ("model_index.json", {"_class_name": None}, "DDIMPipeline, DDPMPipeline"),
        ("model_index.json", {"unet": ["diffusers", "UNet2DConditionModel"]}, "UNet2DConditionModel"),
        ("model_index.json", {"scheduler": ["diffusers", "KarrasVeScheduler"]}, "KarrasVeScheduler"),
        ("unet/config.json", {"out_channels": 6}, "6 of 3"),
        ("unet/config.json", {"time_embedding_type": "fourier"}, "timestep"),
        ("unet/config.json", {"norm_num_groups": 5}, "no UNet2DModel can be made"),
        ("unet/config.json", {"block_out_channels": [8, 24]}, "do not fit its config.json"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow_prediction"}, "not flow_prediction"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "steep"}, "no DDPMScheduler can be made"),
    ],
)
def test_what_is_not_handled_is_refused_by_name(own: Path, file: str, keys: dict[str, Any], said: str) -> None:
    change(own / file, **keys)
    assert said in refused(own)


def test_damaged_files_are_told_in_one_line(own: Path) -> None:
    weights = own / "unet" / "diffusion_pytorch_model.safetensors"
    whole = load_file(weights)
    save_file({key: value for key, value in whole.items() if key != "conv_in.bias"}, weights)
    assert "missing keys 'conv_in.bias'" in refused(own)
    save_file({**whole, "spare": torch.zeros(1)}, weights)
    assert "unexpected keys 'spare'" in refused(own)
    save_file(whole, weights)
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "damaged" in refused(own)
    weights.unlink()
    assert "no diffusion_pytorch_model.safetensors" in refused(own)
    for file in ("unet/config.json", "scheduler/scheduler_config.json", "model_index.json"):
        (own / file).write_text('{"_class_name": "DDP')
        assert f"{file} is damaged" in refused(own)
    (own / "scheduler" / "scheduler_config.json").unlink()
    (own / "model_index.json").unlink()
    assert "cannot read" in refused(own)


def test_pickles_are_never_opened(own: Path) -> None:
    weights = own / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    assert "diffusion_pytorch_model.bin, which is never opened" in refused(own)


def test_old_names_of_attention_are_understood(own: Path) -> None:
    weights = own / "unet" / "diffusion_pytorch_model.safetensors"
    expected = open_folder(own)[0].state_dict()
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = load_file(weights)
    for new, name in names.items():
        old = {key.replace(new, name): value for key, value in old.items()}
    save_file(old, weights)
    assert all(torch.equal(value, expected[key]) for key, value in open_folder(own)[0].state_dict().items())
