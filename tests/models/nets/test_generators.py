"""Generators, autoencoders and the feature net: shapes, costs, layers, gradients."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import kdgen.models.nets  # noqa: F401
from kdgen import registry
from kdgen.metrics import num_params
from kdgen.models.adapters.checkpoint import load_checkpoint
from kdgen.recipe import Checkpoint
from kdgen.registry import Spec
from kdgen.types import UserError
from kdgen.utils.conditions import call
from kdgen.utils.hooks import capture_outputs, hookable_layers

LATENTS = (2, 6)
GREY, COLOUR = (2, 1, 8, 8), (2, 3, 12, 8)
WIDTHS = {"widths": [4, 6, 8]}
SMALL: dict[str, tuple[dict[str, object], tuple[int, ...]]] = {
    "conv_generator": ({"latent": 6, "width": 4}, LATENTS),
    "mlp_generator": ({"latent": 6, "hidden": [8, 9], "size": 8}, LATENTS),
    "feature_net": ({"width": 4}, COLOUR),
    "vae": (WIDTHS, COLOUR),
    "vae_encoder": (WIDTHS, COLOUR),
    "vae_decoder": (WIDTHS, (2, 4, 3, 2)),
    "mlp_vae": ({"size": 8, "hidden": 9, "latent": 5}, GREY),
}


def build(name: str, **args: object) -> nn.Module:
    torch.manual_seed(0)
    net: nn.Module = registry.build("net", Spec.model_validate({"name": name, "args": args}))
    return net


def small(name: str) -> tuple[nn.Module, Tensor]:
    args, shape = SMALL[name]
    return build(name, **args), torch.randn(shape, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


def cost(net: nn.Module, *shape: int) -> float:
    """Millions of multiply-accumulates."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(torch.zeros(shape))
    return counter.get_total_flops() / 2e6


@pytest.mark.parametrize("name", SMALL)
def test_taps_are_there_and_in_order(name: str) -> None:
    net, x = small(name)
    paths = hookable_layers(net)
    order: list[str] = []
    for path in paths:
        net.get_submodule(path).register_forward_hook(lambda *_, path=path: order.append(path))
    with capture_outputs(net, paths) as seen:
        net(x)
    assert len(paths) >= 2
    assert order == paths
    assert all(len(feature) == len(x) for feature in seen.values())


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_every_weight(name: str) -> None:
    net, x = small(name)
    net(x).square().mean().backward()
    for key, weight in net.named_parameters():
        assert weight.grad is not None, key
        assert weight.grad.isfinite().all(), key
        assert weight.grad.any(), key


@pytest.mark.parametrize("name", SMALL)
def test_conditions_are_ignored_and_images_do_not_mix(name: str) -> None:
    net, x = small(name)
    net.eval()
    out = net(x)
    assert torch.equal(call(net, x, {"sigma": torch.ones(2), "label": torch.zeros(2)}), out)
    assert torch.allclose(net(x[:1]), out[:1], atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_autocast_is_close(name: str) -> None:
    net, x = small(name)
    net.eval()
    with torch.autocast("cpu", torch.bfloat16):
        out = net(x)
    assert torch.allclose(out.float(), net(x), atol=0.06)


@pytest.mark.parametrize("name", SMALL)
def test_weights_survive_a_file(name: str, tmp_path: Path) -> None:
    net, x = small(name)
    net(x)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    spec = {"file": str(tmp_path / "net.safetensors"), "net": {"name": name, "args": SMALL[name][0]}, "range": (-1, 1)}
    assert torch.equal(load_checkpoint(Checkpoint.model_validate(spec))(x), net.eval()(x))


@pytest.mark.parametrize("size", [8, 16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_conv_generator_draws_any_power_of_two(size: int, channels: int) -> None:
    net = build("conv_generator", latent=6, width=4, size=size, channels=channels)
    z = torch.randn(3, 6)
    with capture_outputs(net, hookable_layers(net)) as seen:
        out = net.eval()(z)
    assert out.shape == (3, channels, size, size)
    assert out.abs().max() <= 1
    assert torch.equal(net(z.view(3, 6, 1, 1)), out)
    assert [feature.shape[-1] for feature in seen.values()] == [8 << i for i in range(len(seen))]
    assert seen[f"stages.{len(seen) - 1}"].shape[-1] == size


def test_conv_generator_keeps_the_size_of_its_features_in_training() -> None:
    net = build("conv_generator")
    with capture_outputs(net, ["stages.0.norm", "stages.2.norm"]) as seen:
        out = net(torch.randn(64, 64))
    assert [feature.std().item() for feature in seen.values()] == pytest.approx([1, 1], abs=0.02)
    assert 0.2 < out.std() < 0.8


@pytest.mark.parametrize("size", [1, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_mlp_generator_draws_any_size(size: int, channels: int) -> None:
    net = build("mlp_generator", latent=6, hidden=[8], size=size, channels=channels)
    z = torch.randn(3, 6)
    out = net(z)
    assert out.shape == (3, channels, size, size)
    assert out.abs().max() <= 1
    assert torch.equal(net(z.view(3, 6, 1, 1)), out)


def test_mlp_generator_is_a_plain_sequence_and_its_sigmoid_is_shifted() -> None:
    net, z = build("mlp_generator", latent=6, hidden=[8, 9], size=4, output="sigmoid", slope=0.0), torch.randn(5, 6)
    plain = nn.Sequential(
        nn.Linear(6, 8),
        nn.ReLU(),
        nn.Linear(8, 9),
        nn.ReLU(),
        nn.Linear(9, 16),
        nn.Sigmoid(),
        nn.Unflatten(1, (1, 4, 4)),
    )
    plain.load_state_dict(net.state_dict())
    assert torch.allclose(net(z), 2 * plain(z) - 1, atol=1e-6)


def test_mlp_generator_keeps_the_size_of_its_latents() -> None:
    net, z = build("mlp_generator", hidden=[512, 512]), torch.randn(200, 64)
    with capture_outputs(net, ["1", "3", "4"]) as seen:
        net(z)
    assert [feature.square().mean().item() for feature in seen.values()] == pytest.approx([1, 1, 1], abs=0.15)


def test_costs_that_the_documentation_states() -> None:
    wide, slim = cost(build("conv_generator"), 1, 64), cost(build("conv_generator", width=16), 1, 64)
    assert wide == pytest.approx(32.3, abs=0.1)
    assert wide / slim > 8
    assert cost(build("mlp_generator"), 1, 64) == pytest.approx(0.672, abs=0.001)
    assert cost(build("feature_net"), 1, 3, 32, 32) < 12
    assert num_params(build("feature_net")) < 300_000
    whole = cost(build("vae"), 1, 3, 32, 32)
    halves = cost(build("vae_encoder"), 1, 3, 32, 32) + cost(build("vae_decoder"), 1, 4, 8, 8)
    assert whole == pytest.approx(halves)
    assert whole == pytest.approx(140.5, abs=0.1)
    assert whole / cost(build("vae", widths=[10, 20, 30]), 1, 3, 32, 32) > 8
    assert num_params(build("vae")) * 4 < 3_000_000


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (9, 13)])
def test_feature_net_gives_maps_features_and_logits(size: tuple[int, int]) -> None:
    net = build("feature_net", width=4, classes=7).eval()
    x = torch.rand(2, 1, *size) * 2 - 1
    maps = net.maps(x)
    assert [tuple(m.shape[:2]) for m in maps] == [(2, 4), (2, 8), (2, 16)]
    assert [m.shape[-1] for m in maps] == [-(-size[1] // 2**i) for i in (1, 2, 3)]
    assert torch.allclose(net.features(x), maps[-1].mean((2, 3)))
    assert net(x).shape == (2, 7)
    assert torch.equal(net(x), net(x.expand(-1, 3, -1, -1)))


def test_feature_net_without_a_head_gives_features() -> None:
    whole, x = build("feature_net", width=4), torch.rand(2, 3, 16, 16)
    headless = build("feature_net", width=4, classes=0).eval()
    weights = {key: value for key, value in whole.state_dict().items() if not key.startswith("head")}
    headless.load_state_dict(weights)
    assert torch.equal(headless(x), whole.eval().features(x))


@pytest.mark.parametrize("name", ["vae", "mlp_vae"])
def test_moments_are_tapped_and_latents_sampled_in_training_alone(name: str) -> None:
    net, x = small(name)
    with capture_outputs(net, ["moments"]) as seen:
        first = net(x)
    assert torch.equal(seen["moments"], net.encode(x))
    assert not torch.equal(first, net(x))
    net.eval()
    mean = net.encode(x)[:, : net.latent_channels]
    assert torch.equal(net(x), net(x))
    assert torch.equal(net(x), net.decode(mean))
    args, _ = SMALL[name]
    exact = build(name, sample=False, **args)
    assert torch.equal(exact(x), exact(x))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("conv_generator", {"size": 28}),
        ("conv_generator", {"size": 4}),
        ("conv_generator", {"latent": 0}),
        ("conv_generator", {"channels": 2}),
        ("mlp_generator", {"hidden": []}),
        ("mlp_generator", {"hidden": [0]}),
        ("mlp_generator", {"output": "relu"}),
        ("mlp_generator", {"slope": -1.0}),
        ("mlp_generator", {"channels": 4}),
        ("feature_net", {"classes": -1}),
        ("feature_net", {"width": 0}),
        ("vae", {"widths": []}),
        ("vae", {"channels": 2}),
        ("vae_encoder", {"latent": 0}),
        ("vae_decoder", {"blocks": -1}),
        ("mlp_vae", {"hidden": 0}),
    ],
)
def test_senseless_arguments_are_refused(name: str, args: dict[str, object]) -> None:
    with pytest.raises(UserError) as caught:
        build(name, **args)
    assert "\n" not in str(caught.value)
