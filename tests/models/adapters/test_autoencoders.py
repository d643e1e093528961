"""Autoencoders of diffusers, both ways."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL as PlainKL
from diffusers import AutoencoderTiny as PlainTiny
from safetensors.torch import load_file

from kdgen.models.adapters import open_folder
from kdgen.models.adapters.autoencoder import Autoencoder
from kdgen.models.adapters.autoencoder_kl import AutoencoderKl, autoencoder_kl
from kdgen.models.adapters.autoencoder_tiny import AutoencoderTiny, autoencoder_tiny
from kdgen.registry import build, spelled_out
from kdgen.types import UserError
from kdgen.utils.hooks import capture_outputs

X = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def kl(seed: int = 0, **args: Any) -> AutoencoderKl:
    torch.manual_seed(seed)
    return autoencoder_kl(**{"size": 8, "block_out_channels": (8, 16), "norm_num_groups": 4, **args}).eval()


def tiny(seed: int = 0, **args: Any) -> AutoencoderTiny:
    torch.manual_seed(seed)
    return autoencoder_tiny(**{"channels": 1, "width": 8, "encoder_blocks": (1, 1), "decoder_blocks": (1, 1), **args})


@pytest.mark.parametrize(("make", "plain"), [(kl, PlainKL), (tiny, PlainTiny)])
def test_plain_diffusers_opens_what_is_written(tmp_path: Path, make: Any, plain: Any) -> None:
    net: Autoencoder = make()
    net.save_files(tmp_path)
    model = plain.from_pretrained(tmp_path, subfolder="vae")
    said = model.encode(X)
    latents = said.latents if plain is PlainTiny else said.latent_dist.mean
    with torch.no_grad():
        assert torch.equal(net(X), model.decode(latents).sample)
    other: Autoencoder = make(seed=1)
    other.load_files(tmp_path)
    with torch.no_grad():
        assert torch.equal(other(X), net(X))
    with pytest.raises(UserError, match="of another architecture"):
        make(latent_channels=2).load_files(tmp_path)


@pytest.mark.parametrize("make", [kl, tiny])
def test_folders_of_plain_diffusers_open(tmp_path: Path, make: Any) -> None:
    model = make(channels=3).vae
    model.save_pretrained(tmp_path)
    net, use, channels, task = open_folder(tmp_path)
    assert isinstance(net, Autoencoder)
    assert not net.training
    assert (use.name, channels, task) == (
        f"autoencoder_{make.__name__}",
        3,
        {"name": "autoencode", "channels": 3},
    )
    again: Autoencoder = build("net", spelled_out("net", use)).eval()
    again.vae.load_state_dict(model.state_dict())
    x = X.expand(-1, 3, -1, -1)
    with torch.no_grad():
        assert torch.equal(again(x), net(x))
        assert net(x).shape == x.shape


def test_moments_are_sampled_in_training_and_their_mean_taken_in_evaluation() -> None:
    net = kl()
    with torch.no_grad(), capture_outputs(net, net.feature_layers()) as seen:
        out = net(X)
        moments = net.encode(X)
        assert moments.shape == (2, 8, 4, 4)
        assert torch.equal(seen["moments"], moments)
        assert torch.equal(out, net.decode(moments[:, :4]))
        assert set(seen) == set(net.feature_layers())
        net.train()
        torch.manual_seed(5)
        sampled = net(X)
        torch.manual_seed(5)
        assert torch.allclose(sampled, net.decode(net.vae.encode(X).latent_dist.sample()), atol=1e-5)
    net(X).square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_the_tiny_one_reads_and_gives_images_in_minus_one_to_one() -> None:
    net = tiny()
    with torch.no_grad(), capture_outputs(net, net.feature_layers()) as seen:
        z = net.encode(X)
        assert torch.equal(z, net.vae.encoder.layers((X + 1) / 2))
        assert torch.equal(net.decode(z), net.vae.decoder.layers((z / 3).tanh() * 3) * 2 - 1)
        net(X)
    assert z.shape == (2, 4, 4, 4)
    assert torch.equal(seen["latents"], z)
    net(X).square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_a_smaller_student_starts_from_its_teacher() -> None:
    teacher, student = kl(layers_per_block=2), kl(seed=1)
    student.inherit(teacher)
    given = teacher.vae.state_dict()
    for key, value in student.vae.state_dict().items():
        source = key.replace("resnets.1", "resnets.2") if "up_blocks" in key else key
        assert torch.equal(value, given[source]), key
    with pytest.raises(UserError, match="not from a AutoencoderTiny"):
        student.inherit(tiny())


def test_a_tiny_student_starts_from_the_first_blocks_at_each_size() -> None:
    teacher, student = tiny(width=12, encoder_blocks=(2, 3), decoder_blocks=(3, 2)), tiny(seed=1, width=12)
    student.inherit(teacher)
    ours, theirs = student.vae.decoder.layers, teacher.vae.decoder.layers
    for own, source in ((0, 0), (2, 2), (4, 6), (5, 7), (6, 9)):
        pair = (ours[own].state_dict(), theirs[source].state_dict())
        assert pair[0].keys() == pair[1].keys() != set()
        assert all(torch.equal(value, pair[1][key]) for key, value in pair[0].items())
    with pytest.raises(UserError, match=r"have 2 channels at 1/2 .* and its teacher's 4 at 1/2"):
        tiny(latent_channels=2).inherit(teacher)


def test_what_a_teacher_is_without_passes_latents_on_as_they_are() -> None:
    teacher, student = kl(), kl(seed=1)
    teacher.vae.quant_conv = teacher.vae.post_quant_conv = None
    student.inherit(teacher)
    with torch.no_grad():
        torch.testing.assert_close(student(X), teacher(X), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("make", [kl, tiny])
def test_foreign_and_damaged_folders_are_refused_in_one_line(tmp_path: Path, make: Any) -> None:
    make().vae.save_pretrained(tmp_path)
    weights, config = tmp_path / "diffusion_pytorch_model.safetensors", tmp_path / "config.json"

    def refused() -> str:
        with pytest.raises(UserError) as error:
            open_folder(tmp_path)
        assert "\n" not in str(error.value)
        return str(error.value)

    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refused()
    weights.write_bytes(whole)
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    assert "never opened" in refused()
    config.write_text(json.dumps({**json.loads(config.read_text()), "_class_name": "VQModel"}))
    assert "VQModel, which is not handled: handled are AutoencoderDC, AutoencoderKL, AutoencoderKLFlux2" in refused()
    config.write_text("[]")
    assert "damaged" in refused()


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(UserError, match="no AutoencoderKL can be made"):
        kl(norm_num_groups=3)
