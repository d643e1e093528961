"""Every registered net keeps the contract: any size, one and three channels, valid layers, gradients."""

import pytest
import torch
from torch import Tensor, nn

import kdgen.models.nets  # noqa: F401
from kdgen import registry
from kdgen.metrics import macs, num_params
from kdgen.presets import preset
from kdgen.registry import Spec
from kdgen.types import UserError
from kdgen.utils.conditions import call
from kdgen.utils.hooks import capture_outputs, hookable_layers

SMALL = {
    "dncnn": {"depth": 4, "width": 5},
    "ffdnet": {"depth": 4, "width": 5},
    "unet": {"widths": [4, 6, 8], "blocks": 1},
    "half_res": {"width": 5, "blocks": 2},
    "patch_mlp": {"width": 8, "patch": 4, "stride": 3},
}
SIZES = [(8, 8), (7, 9), (1, 6), (5, 1), (1, 1), (13, 3)]


def small(name: str, **args: object) -> nn.Module:
    torch.manual_seed(0)
    net: nn.Module = registry.build("net", Spec.model_validate({"name": name, "args": {**SMALL[name], **args}}))
    return net


def sigma(count: int) -> Tensor:
    return torch.full((count,), 2 * 25 / 255)


def test_all_nets_are_covered() -> None:
    assert set(SMALL) <= set(registry.names("net"))


def test_the_costs_that_the_documentation_states() -> None:
    student: nn.Module = registry.build("net", Spec(name="half_res"))
    teacher: nn.Module = registry.build("net", preset("denoiser-teacher").student, channels=3)
    assert num_params(student) == 57_828
    assert round(macs(student, torch.zeros(1, 1, 256, 256)) / 1e9, 2) == 0.94
    assert num_params(teacher) == 1_042_400
    assert macs(teacher, torch.zeros(1, 1, 256, 256), {"sigma": sigma(1)}) > 8 * macs(
        student, torch.zeros(1, 1, 256, 256)
    )


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_any_size(name: str, channels: int, size: tuple[int, int]) -> None:
    x = torch.rand(2, channels, *size) * 2 - 1
    net = small(name, channels=channels)
    out = call(net, x, {"sigma": sigma(2), "label": torch.zeros(2)})
    assert out.shape == x.shape
    assert out.isfinite().all()
    alone = call(net, x[:1], {"sigma": sigma(1)})
    assert torch.allclose(out[:1], alone, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_a_fresh_net_is_near_the_identity(name: str) -> None:
    x = torch.rand(2, 1, 16, 16) * 2 - 1
    assert (call(small(name, channels=1), x, {"sigma": sigma(2)}) - x).std() < 0.5 * x.std()


@pytest.mark.parametrize("name", SMALL)
def test_taps_are_there_and_in_order(name: str) -> None:
    net = small(name, channels=1)
    paths = hookable_layers(net)
    order: list[str] = []
    for path in paths:
        net.get_submodule(path).register_forward_hook(lambda *_, path=path: order.append(path))
    with capture_outputs(net, paths) as seen:
        call(net, torch.rand(1, 1, 9, 9), {"sigma": sigma(1)})
    assert len(paths) >= 2
    assert order == paths
    assert all(feature.ndim == 4 for feature in seen.values())


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_every_weight(name: str) -> None:
    net = small(name, channels=1)
    call(net, torch.rand(2, 1, 12, 12) * 2 - 1, {"sigma": sigma(2)}).square().mean().backward()
    for key, weight in net.named_parameters():
        assert weight.grad is not None, key
        assert weight.grad.isfinite().all(), key
        assert weight.grad.any(), key


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_autocast_is_close(name: str) -> None:
    net, x = small(name, channels=1), torch.rand(1, 1, 16, 16) * 2 - 1
    exact = call(net, x, {"sigma": sigma(1)})
    with torch.autocast("cpu", torch.bfloat16):
        out = call(net, x, {"sigma": sigma(1)})
    assert out.dtype == torch.float32
    assert torch.allclose(out, exact, atol=0.02)


def test_known_sizes() -> None:
    def count(name: str, **args: object) -> int:
        net = registry.build("net", Spec.model_validate({"name": name, "args": args}))
        return sum(p.numel() for p in net.parameters())

    assert count("dncnn", norm=True, bias=False) == 556_032
    assert count("dncnn", depth=8, width=32) == 56_097
    assert count("ffdnet", norm=True, bias=False) == 486_080
    assert count("unet") * 4 < 5_000_000


@pytest.mark.parametrize("name", ["unet", "half_res"])
def test_a_colour_net_answers_grey_as_the_mean_of_its_three_channels(name: str) -> None:
    net, x = small(name, channels=3), torch.rand(2, 1, 8, 9)
    expected = call(net, x.expand(-1, 3, -1, -1), {"sigma": sigma(2)}).mean(1, keepdim=True)
    assert torch.allclose(call(net, x, {"sigma": sigma(2)}), expected, atol=1e-6)


def test_unet_without_biases_scales_with_its_input() -> None:
    net, x = small("unet"), torch.rand(2, 3, 8, 8)
    assert torch.allclose(net(3 * x, sigma=3 * sigma(2)), 3 * net(x, sigma=sigma(2)), atol=1e-4)


def test_unet_tells_noise_levels_apart_unless_blind() -> None:
    net, x = small("unet"), torch.rand(1, 3, 8, 8)
    assert not torch.equal(net(x, sigma=sigma(1)), net(x, sigma=2 * sigma(1)))
    assert small("unet", blind=True)(x).shape == x.shape
    with pytest.raises(UserError, match="noise level"):
        net(x)


def test_patches_that_say_one_thing_average_to_it() -> None:
    net = small("patch_mlp", channels=1)
    for weight in net.parameters():
        nn.init.zeros_(weight)
    nn.init.constant_(net.get_parameter("layers.4.bias"), 0.25)
    x = torch.rand(1, 1, 10, 11)
    assert torch.allclose(net(x), x - 0.25, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("dncnn", {"depth": 1}),
        ("half_res", {"width": 0}),
        ("unet", {"widths": []}),
        ("patch_mlp", {"stride": 9, "patch": 8}),
    ],
)
def test_senseless_arguments_are_refused(name: str, args: dict[str, object]) -> None:
    with pytest.raises(UserError):
        registry.build("net", Spec.model_validate({"name": name, "args": args}))
