import json
from typing import Any

import pytest
import torch
from torch import nn

import kdgen.tasks  # noqa: F401 - registers its names
from kdgen import registry
from kdgen.__main__ import main
from kdgen.metrics import cost
from kdgen.model import Model, build_net, load
from kdgen.propose import FAMILIES, Proposal, Shapes, propose
from kdgen.registry import Use
from kdgen.types import Task, UserError


def model(name: str, **args: Any) -> Model:
    net, use = build_net(Use(name=name, args=args), 1)
    return Model(net, name=name, channels=1, use=use).eval()


def task(name: str, **args: Any) -> Task:
    made: Task = registry.build("task", Use(name=name, args=args))
    return made


def check(found: Proposal, teacher: Model, what: Task, fraction: float) -> nn.Module:
    """The figures are those of the proposed net, which works, is within the bound and makes use of it."""
    net, _ = build_net(found.use, what.channels)
    example = what.example()
    assert found.macs == cost.macs(net, example.x, example.cond)
    assert found.num_params == cost.num_params(net)
    assert found.share == pytest.approx(found.macs / cost.macs(teacher.net, example.x, example.cond))
    assert 0.7 * fraction <= found.share <= fraction
    return net


GENERATE: dict[str, Any] = {"latent": 16, "size": 16}
CASES = [
    ("conv_generator", {**GENERATE, "width": 24}, "generate", GENERATE, 0.5),
    ("conv_generator", {**GENERATE, "width": 24}, "generate", GENERATE, 0.1),
    ("conv_generator", {**GENERATE, "width": 24}, "generate", {"latent": 16, "size": 8}, 0.1),
    ("mlp_generator", {**GENERATE, "hidden": [64, 64]}, "generate", GENERATE, 0.2),
    ("unet2d", {"size": 8, "block_out_channels": [16, 32], "layers_per_block": 2}, "diffuse", {"size": 8}, 0.3),
    ("unet2d", {"size": 8, "block_out_channels": [16, 32], "layers_per_block": 2}, "diffuse", {"size": 8}, 0.15),
    ("vae", {"channels": 3, "widths": [16, 24]}, "autoencode", {"patch": 16}, 0.1),
    ("autoencoder_tiny", {"channels": 3, "width": 32}, "autoencode", {"patch": 16}, 0.1),
    ("autoencoder_kl", {"channels": 3, "block_out_channels": [32, 64]}, "autoencode", {"patch": 16}, 0.3),
    ("dncnn", {"depth": 5, "width": 32}, "denoise", {}, 0.1),
]  # fmt: skip


@pytest.mark.parametrize(("family", "args", "name", "asked", "fraction"), CASES)
def test_largest_within_the_bound(family: str, args: Any, name: str, asked: Any, fraction: float) -> None:
    teacher, what = model(family, **args), task(name, **asked)
    found = propose(teacher, what, fraction=fraction)
    assert found.use.name == family
    net = check(found, teacher, what, fraction)
    example = what.example()
    assert net.eval()(example.x, **example.cond).isfinite().all()


def test_one_width_more_would_be_too_much() -> None:
    teacher, what = model("conv_generator", **GENERATE, width=24), task("generate", **GENERATE)
    found = propose(teacher, what, fraction=0.1)
    wider = {**found.use.args, "width": int(str(found.use.args["width"])) + 1}
    assert (
        cost.macs(build_net(Use(name="conv_generator", args=wider), 1)[0], what.example().x)
        > found.macs / found.share * 0.1
    )


def test_groups_divide_the_widths_of_a_unet2d() -> None:
    teacher = model("unet2d", size=8, block_out_channels=[16, 32], norm_num_groups=4, attention_head_dim=4)
    widths = propose(teacher, task("diffuse", size=8), fraction=0.4).use.args["block_out_channels"]
    assert isinstance(widths, list)
    assert all(int(str(width)) % 4 == 0 for width in widths)


def test_a_whole_configuration_is_scaled() -> None:
    config = dict(model("unet2d", size=8, block_out_channels=[16, 32], layers_per_block=2).net.unet.config)  # type: ignore[union-attr, arg-type]
    plain = {key: list(v) if isinstance(v, tuple) else v for key, v in config.items() if not key.startswith("_")}
    found = propose(model("unet2d", config=plain), task("diffuse", size=8), fraction=0.3)
    assert found.use.args["config"]["block_out_channels"] != [16, 32]  # type: ignore[index, call-overload]
    assert found.share <= 0.3


def test_bundled_denoiser_gets_a_grey_student_for_grey_images() -> None:
    teacher, what = load("denoiser"), task("denoise", sigma=25, channels=1)
    found = propose(teacher, what, fraction=0.1)
    assert (found.use.name, found.use.args["channels"]) == ("unet", 1)
    check(found, teacher, what, 0.1)


@pytest.mark.parametrize(("sigma", "told"), [(25, False), ([0, 55], True)])
def test_another_family(sigma: Any, told: bool) -> None:
    what = task("denoise", sigma=sigma, channels=3)
    teacher = model("unet", channels=3, widths=[16, 32], blocks=1)
    found = propose(teacher, what, fraction=0.1, family="half_res")
    assert (found.use.name, found.use.args["sigma_map"]) == ("half_res", told)
    check(found, teacher, what, 0.1)


class Big(nn.Module):
    """A teacher of no family: 100 numbers to images."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.layers = size, nn.Sequential(nn.Linear(100, 2000), nn.ReLU(), nn.Linear(2000, 3 * size**2))

    def forward(self, x: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layers(x.flatten(1))).view(-1, 3, self.size, self.size)


@pytest.mark.parametrize(("size", "family"), [(32, "conv_generator"), (28, "mlp_generator")])
def test_a_foreign_teacher_gets_the_tasks_usual_family_that_fits(size: int, family: str) -> None:
    teacher = Model(Big(size), name="big", channels=3)
    what = task("generate", latent=[100, 1, 1], channels=3, size=size)
    found = propose(teacher, what, fraction=0.3)
    assert found.use.name == family
    check(found, teacher, what, 0.3)


def test_halves_get_as_many_levels_as_their_latents_ask_for() -> None:
    shapes = Shapes(reads=(32, 8, 8), gives=(3, 64, 64), task={})
    assert FAMILIES["vae_decoder"].fresh(shapes) == {"widths": [32, 64, 96, 128]}
    turned = Shapes(reads=(3, 64, 64), gives=(32, 8, 8), task={})
    assert FAMILIES["vae_encoder"].fresh(turned) == {"widths": [32, 64, 96, 128], "latent": 32, "mean": True}


def test_unreachable_says_what_is_reachable() -> None:
    teacher, what = model("unet2d", size=8, block_out_channels=[16, 32]), task("diffuse", size=8)
    with pytest.raises(UserError, match=r"smallest unet2d for this has 0\.\d+ of the MACs") as told:
        propose(teacher, what, fraction=0.01)
    least = float(str(told.value).split(" of the MACs")[0].rpartition(" ")[2])
    assert propose(teacher, what, fraction=least).share <= least


@pytest.mark.parametrize("fraction", [0.0, 1.0, 3.0])
def test_a_fraction_is_one(fraction: float) -> None:
    with pytest.raises(UserError, match="above 0 and below 1"):
        propose(model("dncnn", depth=3), task("denoise"), fraction=fraction)


def test_unknown_family_names_the_nearest() -> None:
    with pytest.raises(UserError, match="half_res"):
        propose(model("dncnn", depth=3), task("denoise"), fraction=0.5, family="half-res")


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_scales_know_their_nets(family: str) -> None:
    args = registry.spelled_out("net", Use(name=family)).args
    at = [list(FAMILIES[family].scale(args, scale)) for scale in (0.0, 0.3, 1.0)]
    assert len({len(depths) for depths in at}) == 1
    assert at[-1][0] == {key: list(v) if isinstance(v, tuple) else v for key, v in args.items()}
    for depths in zip(*at, strict=True):
        sizes = [cost.num_params(registry.build("net", Use(name=family, args=each))) for each in depths]
        assert sizes == sorted(sizes)


def test_command_prints_a_student_for_set(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = model("conv_generator", **GENERATE, width=16)
    made.task = {"name": "generate", "latent": [16], "size": 16, "channels": 1}
    made.save(tmp_path / "student")
    with pytest.raises(SystemExit) as stop:
        main(["propose", str(tmp_path / "student"), "--macs", "0.2"])
    assert not stop.value.code
    said = capsys.readouterr()
    assert Use.model_validate(json.loads(said.out)).name == "conv_generator"
    assert "parameters" in said.err
