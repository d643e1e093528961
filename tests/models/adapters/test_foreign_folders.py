"""Folders that plain diffusers opens: opened and drawn from or called, or refused in one line."""

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL, DDPMPipeline, UNet2DModel
from support import call

from kdgen.models.adapters.unet2d import Unet2d
from kdgen.models.model import load
from kdgen.tasks import Diffuse
from kdgen.types import UserError

TABLES = ("DDIMParallelScheduler", "DDPMParallelScheduler", "DEISMultistepScheduler", "KDPM2AncestralDiscreteScheduler",
          "KDPM2DiscreteScheduler", "SASolverScheduler", "TCDScheduler")  # fmt: skip
ZERO_SNR = ("DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler",
            "EulerDiscreteScheduler", "LCMScheduler", "TCDScheduler", "UniPCMultistepScheduler")  # fmt: skip


def unet(size: Any = 8, channels: int = 1, levels: int = 2) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=size, in_channels=channels, out_channels=channels, block_out_channels=(4,) * levels,
        down_block_types=("DownBlock2D",) * levels, up_block_types=("UpBlock2D",) * levels, layers_per_block=1,
        norm_num_groups=4, add_attention=False,
    )  # fmt: skip


def vae(read: int = 3, given: int = 3) -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        in_channels=read, out_channels=given, block_out_channels=(4, 8), norm_num_groups=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


def pipeline(folder: Path, model: UNet2DModel, scheduler: str = "DDPMScheduler", **config: Any) -> Any:
    """A pipeline folder; its scheduler."""
    made = getattr(diffusers, scheduler)(**config)
    DDPMPipeline(unet=model, scheduler=made).save_pretrained(folder)
    return made


@pytest.mark.parametrize("variant", ["fp16", "non_ema"])
def test_weights_in_another_variant_alone_are_opened(variant: str, tmp_path: Path) -> None:
    model, other = unet().half(), vae().half()
    DDPMPipeline(unet=model, scheduler=diffusers.DDPMScheduler()).save_pretrained(tmp_path / "pipe", variant=variant)
    other.save_pretrained(tmp_path / "vae", variant=variant)
    net = load(tmp_path / "pipe").net
    for opened, known in ((net.unet, model), (load(tmp_path / "vae").net.vae, other)):  # type: ignore[union-attr]
        for key, value in opened.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, known.state_dict()[key].float())


@pytest.mark.parametrize("scheduler", TABLES)
def test_schedulers_that_carry_the_same_table_are_opened(scheduler: str, tmp_path: Path) -> None:
    made = pipeline(tmp_path / "pipe", unet(), scheduler)
    file = tmp_path / "pipe" / "scheduler" / "scheduler_config.json"
    model = load(tmp_path / "pipe")
    file.write_text(json.dumps({"_class_name": scheduler}))  # the defaults are those of its own class
    for opened in (model, load(tmp_path / "pipe")):
        assert isinstance(opened.net, Unet2d)
        torch.testing.assert_close(opened.net.scheduler.alphas_cumprod, made.alphas_cumprod)
    assert model.draw(2, num_steps=2).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("scheduler", ZERO_SNR)
def test_tables_that_end_without_any_image_are_opened(scheduler: str, tmp_path: Path) -> None:
    pipeline(tmp_path / "pipe", unet(), scheduler, rescale_betas_zero_snr=True, prediction_type="v_prediction")
    model = load(tmp_path / "pipe")
    assert isinstance(model.net, Unet2d)
    levels = model.net.timesteps
    assert levels.timestep(torch.tensor([levels.sigma_max * 2])).item() == len(levels) - 1
    with torch.no_grad():
        assert model.net(torch.ones(1, 1, 8, 8), sigma=torch.tensor([levels.sigma_max])).isfinite().all()
    model.save(tmp_path / "again")
    again = load(tmp_path / "again").net
    assert isinstance(again, Unet2d)
    assert again.timesteps.same(levels)


def test_images_that_are_not_square_are_drawn_and_not_measured(tmp_path: Path, capsys: Any) -> None:
    pipeline(tmp_path / "pipe", unet((8, 12)))
    model = load(tmp_path / "pipe")
    assert model.draw(2, num_steps=2).shape == (2, 1, 8, 12)
    assert call("evaluate", str(tmp_path / "pipe")) == 2
    assert "images are square here, not 8x12: kdgen generate draws those" in capsys.readouterr().err
    with pytest.raises(UserError, match="to one number"):
        Diffuse(size=[8, 12])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (unet(28, levels=4), "halves its images 3 times: its sample_size is a multiple of 8, not 28"),
        (unet(channels=4), "images of 1 or 3 channels; this one has 4"),
        (vae(3, 1), "reads 3 and gives 1"),
        (vae(4, 4), "reads 4 and gives 4"),
    ],
)
def test_what_cannot_be_used_is_refused_when_it_is_opened(model: Any, words: str, tmp_path: Path) -> None:
    if isinstance(model, UNet2DModel):
        pipeline(tmp_path / "model", model)
    else:
        model.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=words) as refused:
        load(tmp_path / "model")
    assert "\n" not in str(refused.value)


def test_the_autoencoder_of_a_pipeline_that_is_not_handled_is_opened_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd" / "model_index.json").write_text('{"_class_name": "StableDiffusionUpscalePipeline"}')
    vae().save_pretrained(tmp_path / "sd" / "vae")
    with pytest.raises(UserError, match="its vae by itself: write /vae behind its name"):
        load(tmp_path / "sd")
    assert load(tmp_path / "sd" / "vae").task["name"] == "autoencode"
