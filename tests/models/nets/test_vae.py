"""Variational autoencoders: halves and wholes, latents, what a few steps teach."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

import kdgen.models.nets  # noqa: F401
from kdgen import registry
from kdgen.models.adapters.checkpoint import load_checkpoint
from kdgen.models.nets.moments import FIRST_LOG_VARIANCE, Moments, draw
from kdgen.models.nets.vae import Decoder, Encoder, Vae, reflected
from kdgen.recipe import Checkpoint
from kdgen.registry import Spec
from kdgen.utils.hooks import capture_outputs

WIDTHS = {"widths": [4, 6, 8]}


def build(name: str, **args: object) -> nn.Module:
    torch.manual_seed(0)
    net: nn.Module = registry.build("net", Spec.model_validate({"name": name, "args": args}))
    return net


def whole_and_halves(**args: object) -> tuple[Vae, Encoder, Decoder]:
    whole, encoder, decoder = (build(name, **WIDTHS, **args) for name in ("vae", "vae_encoder", "vae_decoder"))
    assert isinstance(whole, Vae)
    assert isinstance(encoder, Encoder)
    assert isinstance(decoder, Decoder)
    return whole.eval(), encoder.eval(), decoder.eval()


def test_halves_are_the_whole(tmp_path: Path) -> None:
    whole, encoder, decoder = whole_and_halves()
    x = torch.rand(2, 3, 16, 8) * 2 - 1
    encoder.load_state_dict(whole.encoder.state_dict())
    assert torch.equal(encoder(x), whole.encode(x))
    mean, log_variance = whole.encode(x).chunk(2, dim=1)
    assert mean.shape == log_variance.shape == (2, 4, 4, 2)
    save_file(whole.state_dict(), tmp_path / "vae.safetensors")
    for prefix, half, seen, answer in (
        ("encoder.", encoder, x, whole.encode(x)),
        ("decoder.", decoder, mean, whole(x)),
    ):
        assert {prefix + key for key in half.state_dict()} <= set(whole.state_dict())
        name = f"vae_{prefix[:-1]}"
        spec = {"file": str(tmp_path / "vae.safetensors"), "net": {"name": name, "args": WIDTHS}, "prefix": prefix}
        net = load_checkpoint(Checkpoint.model_validate({**spec, "range": (-1, 1)}))
        assert torch.equal(net(seen), answer)
    assert {key.partition(".")[0] for key in whole.state_dict()} == {"encoder", "decoder"}


def test_an_encoder_may_give_means_alone() -> None:
    whole, encoder, _ = whole_and_halves()
    alone = build("vae_encoder", mean=True, **WIDTHS)
    alone.load_state_dict(encoder.state_dict())
    x = torch.rand(1, 3, 8, 8)
    with capture_outputs(alone, ["moments"]) as seen:
        assert torch.equal(alone(x), encoder(x)[:, :4])
    assert torch.equal(seen["moments"], encoder(x))
    assert alone.latent_channels == whole.latent_channels == 4


def test_samples_have_the_moments() -> None:
    moments = torch.tensor([0.5, -1.0, 0.0, 2.0]).view(1, 4).expand(40_000, -1)
    z = draw(moments, sampled=True)
    assert z.mean(0).tolist() == pytest.approx([0.5, -1], abs=0.06)
    assert z.var(0).log().tolist() == pytest.approx([0, 2], abs=0.04)
    assert torch.equal(draw(moments, sampled=False), moments[:, :2])


def test_logarithms_of_variances_are_bounded_and_means_are_not() -> None:
    wild = torch.tensor([[-99.0, 99.0, -99.0, 99.0]])
    assert Moments()(wild).tolist() == [[-99, 99, -30, 20]]


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (5, 3), (8, 12)])
@pytest.mark.parametrize("channels", [1, 3])
def test_vae_takes_any_size(size: tuple[int, int], channels: int) -> None:
    whole, _, _ = whole_and_halves()
    x = torch.rand(2, channels, *size) * 2 - 1
    assert whole(x).shape == x.shape
    assert whole.encode(x).shape == (2, 8, -(-size[0] // 4), -(-size[1] // 4))
    grey = build("vae", channels=1, **WIDTHS)
    assert grey(x[:, :1]).shape == (2, 1, *size)


def test_reflection_is_that_of_pad() -> None:
    x = torch.rand(2, 3, 9, 6)
    assert torch.equal(reflected(x, 4), F.pad(x, (0, 2, 0, 3), mode="reflect"))
    assert torch.equal(reflected(x, 3), x)
    assert reflected(x[..., :2, :2], 8)[0, 0, 0].tolist() == x[0, 0, 0, :2].repeat(4).tolist()


def test_vae_starts_with_latents_and_images_of_sensible_size() -> None:
    net = build("vae").eval()
    x = F.interpolate(torch.rand(8, 3, 8, 8) * 2 - 1, scale_factor=4, mode="bilinear")
    mean, log_variance = net.encode(x).chunk(2, dim=1)
    assert 0.2 < mean.std() < 2
    assert (log_variance - FIRST_LOG_VARIANCE).abs().max() < 1
    assert draw(net.encode(x), sampled=True).sub(mean).std() < 0.1 < mean.std()
    assert 0.2 < net.decode(torch.randn_like(mean)).std() < 2


def test_a_few_steps_teach_a_vae_one_image() -> None:
    net = build("vae", widths=[8, 12], sample=False)
    x = torch.linspace(-1, 1, 12).expand(1, 3, 12, 12)
    before = (net(x) - x).square().mean()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (net(x) - x).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.05 * before
