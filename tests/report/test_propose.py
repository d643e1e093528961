import functools
import json
from typing import Any

import pytest
import torch
from torch import nn

import kdgen.tasks  # noqa: F401 - registers its names
from kdgen import registry
from kdgen.__main__ import main
from kdgen.metrics import cost
from kdgen.models.model import Model, build_net, load
from kdgen.models.scaling import Shapes, families, family_of
from kdgen.registry import Spec
from kdgen.report.propose import Proposal, propose
from kdgen.types import Task, UserError
from kdgen.utils.conditions import call, conditions_of


def model(name: str, **args: Any) -> Model:
    net, use = build_net(Spec(name=name, args=args), 1)
    return Model(net, name=name, channels=1, use=use).eval()


def task(name: str, **args: Any) -> Task:
    made: Task = registry.build("task", Spec(name=name, args=args))
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
    assert call(net.eval(), example.x, example.cond).isfinite().all()


def test_one_width_more_would_be_too_much() -> None:
    teacher, what = model("conv_generator", **GENERATE, width=24), task("generate", **GENERATE)
    found = propose(teacher, what, fraction=0.1)
    wider = {**found.use.args, "width": int(str(found.use.args["width"])) + 1}
    assert (
        cost.macs(build_net(Spec(name="conv_generator", args=wider), 1)[0], what.example().x)
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


@pytest.mark.parametrize("sigma", [25, [0, 55]])
@pytest.mark.parametrize("told", [False, True])
def test_a_student_of_another_family_is_told_what_its_teacher_is(sigma: Any, told: bool) -> None:
    what = task("denoise", sigma=sigma, channels=3)
    teacher = model("unet", channels=3, widths=[16, 32], blocks=1, blind=not told)
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
    shapes = Shapes(inputs=(32, 8, 8), outputs=(3, 64, 64), task={})
    assert families()["vae_decoder"].fresh(shapes) == {"widths": [32, 64, 96, 128]}
    turned = Shapes(inputs=(3, 64, 64), outputs=(32, 8, 8), task={})
    assert families()["vae_encoder"].fresh(turned) == {"widths": [32, 64, 96, 128], "latent": 32, "mean": True}


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


@pytest.mark.parametrize("family", sorted(families()))
def test_scales_know_their_nets(family: str) -> None:
    args = registry.spelled_out("net", Spec(name=family)).args
    at = [list(families()[family].scale(args, scale)) for scale in (0.0, 0.3, 1.0)]
    assert len({len(depths) for depths in at}) == 1
    assert at[-1][0] == {key: list(v) if isinstance(v, tuple) else v for key, v in args.items()}
    for depths in zip(*at, strict=True):
        with torch.device("meta"):
            sizes = [cost.num_params(registry.build("net", Spec(name=family, args=each))) for each in depths]
        assert sizes == sorted(sizes)


def test_a_family_is_found_behind_a_wrapper(monkeypatch: pytest.MonkeyPatch) -> None:
    net, declared = registry.get("net", "dncnn"), family_of("dncnn")
    monkeypatch.setitem(registry._registered["net"], "dncnn", functools.wraps(net)(lambda **args: net(**args)))
    assert family_of("dncnn") is declared
    assert families()["dncnn"] is declared


def test_command_prints_a_student_for_set(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = model("conv_generator", **GENERATE, width=16)
    made.task = {"name": "generate", "latent": [16], "size": 16, "channels": 1}
    made.save(tmp_path / "student")
    with pytest.raises(SystemExit) as stop:
        main(["propose", str(tmp_path / "student"), "--macs", "0.2"])
    assert not stop.value.code
    said = capsys.readouterr()
    assert Spec.model_validate(json.loads(said.out)).name == "conv_generator"
    assert "parameters" in said.err


class ConvGan(nn.Module):
    """A class-conditional GAN of 28x28 as people write them: few weights, used at many places."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 16)
        self.start = nn.Linear(32, 16 * 49)
        self.layers = nn.Sequential(
            nn.Upsample(scale_factor=2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 3, padding=1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return self.layers(self.start(torch.cat([z, self.embed(label)], 1)).view(-1, 16, 7, 7))


@pytest.mark.parametrize("size", [28, 32])
def test_a_conditional_gan_gets_a_student_that_reads_labels_and_has_no_more_weights(size: int) -> None:
    teacher = Model(ConvGan().eval(), name="cgan", channels=1)
    what = task("generate", latent=16, size=size, num_classes=10)
    found = propose(teacher, what, fraction=0.2)
    assert found.num_params <= cost.num_params(teacher.net)
    assert found.use.args["num_classes"] == 10
    net = registry.build("net", found.use)
    assert conditions_of(net) == {"label"}
    z = torch.randn(2, 16)
    assert not torch.equal(net(z, label=torch.tensor([0, 0])), net(z, label=torch.tensor([1, 1])))


def test_a_diffusion_student_is_told_classes_as_its_teacher_is() -> None:
    small: dict[str, Any] = {"size": 8, "norm_num_groups": 4, "attention_levels": 0, "num_class_embeds": 3}
    teacher = model("unet2d", **small, block_out_channels=[16, 32])
    what = task("diffuse", size=8)
    what.num_classes, what.needs = 3, frozenset({"sigma", "label"})  # type: ignore[attr-defined]
    assert propose(teacher, what, fraction=0.5).use.args["num_class_embeds"] == 3
    teacher.use = None
    assert propose(teacher, what, fraction=0.5).use.args["num_class_embeds"] == 3


def test_the_share_is_that_of_an_image() -> None:
    teacher, what = model("unet2d", size=8, block_out_channels=[16, 32]), task("few_steps", size=8, num_steps=4)
    found = propose(teacher, what, fraction=0.1)
    example = what.example()
    assert found.share == pytest.approx(found.macs / cost.macs(teacher.net, example.x, example.cond) / 7)
    assert found.share <= 0.1


def test_a_net_that_does_not_read_what_the_teacher_does_is_refused() -> None:
    teacher = model("unet", channels=1, widths=[16, 32], blocks=1)
    with pytest.raises(UserError, match="unet tells a net 'sigma', which this DnCNN does not read; nets that can: "):
        propose(teacher, task("denoise", sigma=25), fraction=0.5, family="dncnn")


CODE = """
from torch import nn
from kdgen.registry import register

class Net(nn.Module):
    def __init__(self, channels, width, depth):
        super().__init__()
        if depth < 2:
            raise ValueError("two layers at least")
        inner = [layer for _ in range(depth - 2) for layer in (nn.Conv2d(width, width, 3, padding=1), nn.ReLU())]
        self.layers = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(2, width), *inner,
                                    nn.Conv2d(width, channels, 3, padding=1))
    def forward(self, x):
        return x - self.layers(x)

@register("net")
def mine(channels=3, width=16, depth=4):
    return Net(channels, width, depth)

@register("net")
def deep(channels=3, depth=9):
    return Net(channels, 8, depth)
"""


def test_a_net_of_the_users_own_is_scaled_by_its_width_or_depth(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.py").write_text(CODE)
    made = model("dncnn", depth=8, width=32)
    made.task = {"name": "denoise", "sigma": 25, "channels": 1}
    made.save(tmp_path / "teacher")
    code = ["--code", str(tmp_path / "own.py")]
    for name, key, more in (("mine", "width", code), ("deep", "depth", [])):
        with pytest.raises(SystemExit) as stop:
            main(["propose", str(tmp_path / "teacher"), "--macs", "0.1", "--net", name, *more])
        assert not stop.value.code
        use = Spec.model_validate(json.loads(capsys.readouterr().out))
        found = registry.build("net", use)
        share = cost.macs(found, torch.zeros(1, 1, 64, 64)) / cost.macs(made.net, torch.zeros(1, 1, 64, 64))
        assert 0.06 < share <= 0.1
        assert use.args["channels"] == 1
        assert use.args[key] != registry.default("net", name, key)
