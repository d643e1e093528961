"""Modules of the user's own."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdgen import registry
from kdgen.metrics import cost
from kdgen.models.adapters.module import Half, from_module
from kdgen.models.model import load
from kdgen.models.nets.fold import folded
from kdgen.registry import Spec
from kdgen.types import UserError
from kdgen.utils.conditions import call
from kdgen.utils.hooks import capture_outputs

X = torch.rand(2, 1, 5, 4) * 2 - 1


class Halve(nn.Module):
    """A module that knows of no conditions."""

    def forward(self, image: Tensor) -> Tensor:
        return image / 2


class Add(nn.Module):
    """A module that is told the noise level."""

    def forward(self, image: Tensor, sigma: Tensor) -> Tensor:
        return image + sigma.view(-1, 1, 1, 1)


def test_range_prediction_and_conditions() -> None:
    level = torch.tensor([0.1, 0.2])
    unit = (X + 1) / 2
    assert torch.allclose(call(from_module(Halve()), X, {"sigma": level}), unit / 2 * 2 - 1)
    assert torch.allclose(call(from_module(Halve(), predicts="residual"), X, {"sigma": level}), unit / 2 * 2 - 1)
    assert torch.allclose(call(from_module(Halve(), range=(-1, 1)), X, {"label": level}), X / 2)
    assert torch.allclose(call(from_module(Halve(), range=(0, 255)), X, {"label": level}), X / 2 - 1 / 2, atol=1e-5)
    told = call(from_module(Add()), X, {"sigma": level, "label": level})
    assert torch.allclose(told, X + level.view(2, 1, 1, 1), atol=1e-6)
    with pytest.raises(TypeError, match="label"):
        from_module(Add())(X, sigma=level, label=level)
    assert level.tolist() == pytest.approx([0.1, 0.2])


def test_a_plain_sequential_with_batch_norm_is_folded_inside() -> None:
    net = from_module(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)), range=(-1.0, 1.0))
    assert not net.training
    assert torch.allclose(folded(net)(X), net(X), atol=1e-6)
    assert net.feature_layers() == ["net.0", "net.1"]


def test_unknown_ranges_and_predictions_are_refused() -> None:
    for wrong in ((255, 0), (1, 1), (0, float("inf"))):
        with pytest.raises(UserError, match="range"):
            from_module(Halve(), range=wrong)
    with pytest.raises(UserError, match="predicts"):
        from_module(Halve(), predicts="noise")


def halves_of(net: Any, x: torch.Tensor) -> tuple[Half, Half]:
    encoder, decoder = Half(net, "encoder").eval(), Half(net, "decoder").eval()
    with torch.no_grad():
        said = net.encode(x)
        assert torch.equal(encoder(x), said)
        latents = said[:, : net.latent_channels]
        assert torch.equal(decoder(latents), net.decode(latents))
        for half, seen in ((encoder, x), (decoder, latents)):
            with capture_outputs(half, half.feature_layers()) as tapped:
                half(seen)
            assert list(tapped) == half.feature_layers() != []
    return encoder, decoder


@pytest.mark.parametrize("name", ["vae", "mlp_vae", "autoencoder_kl", "autoencoder_tiny", "autoencoder_dc"])
def test_the_halves_of_an_autoencoder_share_its_weights_and_count_their_own_alone(name: str) -> None:
    args: dict[str, Any] = {
        "vae": {"widths": [4, 6]}, "mlp_vae": {"hidden": 12, "latent": 3, "size": 8},
        "autoencoder_kl": {"size": 8, "block_out_channels": [8, 8], "norm_num_groups": 4},
        "autoencoder_tiny": {"width": 8, "encoder_blocks": [1, 1], "decoder_blocks": [1, 1]},
        "autoencoder_dc": {"latent_channels": 4, "widths": [8, 8], "head_dim": 2},
    }[name]  # fmt: skip
    net: Any = registry.build("net", Spec(name=name, args={"channels": 1, **args})).eval()
    encoder, decoder = halves_of(net, torch.rand(2, 1, 8, 8) * 2 - 1)
    counts = [cost.num_params(half) for half in (encoder, decoder)]
    assert sum(counts) == cost.num_params(net)
    assert min(counts) > 0.2 * max(counts)
    assert cost.size_bytes(decoder) < 0.8 * cost.size_bytes(net)
    assert {id(p) for p in decoder.parameters()} < {id(p) for p in net.parameters()}


def test_the_decoder_of_the_bundled_autoencoder_has_its_own_parameters() -> None:
    whole, decoder = load("vae").net, load("vae#decoder").net
    alone = registry.build("net", Spec(name="vae_decoder"))
    assert cost.num_params(decoder) == cost.num_params(alone) < cost.num_params(whole)
