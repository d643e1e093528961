"""Tiny autoencoders as files in the layout of TAESD: read by the net as it is published, and by kdgen."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import call
from torch import Tensor, nn

from kdgen.export import export_model
from kdgen.models.adapters.autoencoder_half import AutoencoderHalf
from kdgen.models.adapters.taesd_file import open_taesd, write_taesd
from kdgen.models.model import Model, build_net, load
from kdgen.registry import Spec, build
from kdgen.report.inferred import recipe_for
from kdgen.types import UserError

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
SMALL = {"channels": 3, "width": 8, "encoder_blocks": [1, 2, 1], "decoder_blocks": [2, 1, 1]}


class Squash(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        first, second, third = (nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


def published(width: int = 64, latents: int = 4) -> tuple[nn.Sequential, nn.Sequential]:
    """The two chains of github.com/madebyollin/taesd, which ComfyUI builds."""

    def stage(blocks: int) -> list[nn.Module]:
        return [Block(width) for _ in range(blocks)]

    down = [nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False) for _ in range(3)]
    up = [[nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)] for _ in range(3)]
    encoder = [nn.Conv2d(3, width, 3, padding=1), *stage(1), *(layer for each in down for layer in (each, *stage(3)))]
    decoder = [Squash(), nn.Conv2d(latents, width, 3, padding=1), nn.ReLU(),
               *(layer for each in up for layer in (*stage(3), *each)), *stage(1)]  # fmt: skip
    return (nn.Sequential(*encoder, nn.Conv2d(width, latents, 3, padding=1)),
            nn.Sequential(*decoder, nn.Conv2d(width, 3, 3, padding=1)))  # fmt: skip


def tiny(**args: Any) -> Any:
    torch.manual_seed(0)
    return build("net", Spec(name="autoencoder_tiny", args={**SMALL, **args})).eval()


@torch.no_grad()
def test_files_are_those_of_the_published_net(tmp_path: Path) -> None:
    net = tiny(width=64, encoder_blocks=[1, 3, 3, 3], decoder_blocks=[3, 3, 3, 1])
    files = write_taesd(net, tmp_path)
    assert [file.name for file in files] == ["taesd_encoder.safetensors", "taesd_decoder.safetensors"]
    encoder, decoder = published()
    encoder.load_state_dict(load_file(files[0]))
    decoder.load_state_dict(load_file(files[1]))
    latents = encoder((X + 1) / 2)
    torch.testing.assert_close(latents, net.encode(X), atol=1e-5, rtol=0)
    torch.testing.assert_close(decoder(latents) * 2 - 1, net(X), atol=1e-5, rtol=0)


@torch.no_grad()
def test_files_of_the_published_net_are_opened(tmp_path: Path) -> None:
    encoder, decoder = published(8, 16)
    torch.save({key: value.half() for key, value in encoder.state_dict().items()}, tmp_path / "taef1_encoder.pth")
    save_file(decoder.state_dict(), tmp_path / "taef1_decoder.safetensors")
    half = load(tmp_path / "taef1_encoder.pth")
    torch.testing.assert_close(half.net(X), encoder((X + 1) / 2), atol=1e-2, rtol=0)
    assert half.task == {"name": "encode", "channels": 3}
    torch.save(decoder.state_dict(), tmp_path / "taef1_decoder.pth")
    half = load(tmp_path / "taef1_decoder.pth")
    z = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(half.net(z), decoder(z) * 2 - 1, atol=1e-5, rtol=0)
    assert half.task == {"name": "decode", "channels": 3, "encoder": str(tmp_path / "taef1_encoder.pth")}


def test_an_export_is_a_teacher_again_and_its_student_half_as_well(tmp_path: Path) -> None:
    net, use = build_net(Spec(name="autoencoder_tiny", args=SMALL), channels=3)
    Model(net, name="small", channels=3, task={"name": "autoencode", "channels": 3}, use=use).save(tmp_path / "small")
    assert call("export", str(tmp_path / "small"), "--format", "taesd", "--out", str(tmp_path / "files")) == 0
    parity = json.loads((tmp_path / "files.parity.json").read_text())
    assert parity["format"] == "taesd"
    assert parity["max_abs_error"] < 1e-5
    recipe, found = recipe_for(str(tmp_path / "files" / "taesd_decoder.safetensors"), cheaper=2)
    assert recipe.task.name == "decode"
    assert recipe.task.args["encoder"] == str(tmp_path / "files" / "taesd_encoder.safetensors")
    assert found.use.name == "autoencoder_tiny"
    assert found.use.args["half"] == "decoder"
    student: Any = build("net", found.use)
    assert isinstance(student, AutoencoderHalf)
    student.inherit(load(tmp_path / "files" / "taesd_decoder.safetensors").net)
    assert [file.name for file in write_taesd(student, tmp_path / "student")] == ["taesd_decoder.safetensors"]


def test_what_is_no_taesd_is_refused_in_one_line(tmp_path: Path) -> None:
    net, use = build_net(Spec(name="autoencoder_kl", args={"block_out_channels": [8, 8]}), channels=3)
    model = Model(net, name="kl", channels=3, task={"name": "autoencode", "channels": 3}, use=use)
    with pytest.raises(UserError, match="layout of an autoencoder_tiny, not of a AutoencoderKl: distil into"):
        export_model(model, tmp_path / "files", format="taesd")
    scaled = tiny()
    scaled.vae.register_to_config(scaling_factor=0.2)
    with pytest.raises(UserError, match="pipelines scale those of this one"):
        write_taesd(scaled, tmp_path / "files")
    assert not (tmp_path / "files").exists()


def test_chains_of_other_kinds_are_not_taken_for_it(tmp_path: Path, shared_data: Path) -> None:
    for name in ("dncnn", "ffdnet"):
        assert open_taesd(build("net", Spec(name=name)).state_dict(), tmp_path / "net.pth") is None
    with pytest.raises(UserError, match="holds the weights of no net that is known by its keys"):
        load(shared_data / "taef2" / "taef2_decoder.pth")
