"""Students that start from their teacher."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

import kdgen.models.adapters  # noqa: F401 - registers its nets
from kdgen import registry
from kdgen.models.adapters.module import from_module
from kdgen.models.nets.inherit import copy_weights, inherit
from kdgen.registry import Spec
from kdgen.types import UserError
from kdgen.utils.conditions import call

Change = Callable[[nn.Module], nn.Module]

X = torch.rand(2, 1, 9, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
SIGMA = torch.full((2,), 0.2)


def make(name: str, **args: object) -> nn.Module:
    net: nn.Module = registry.build("net", Spec.model_validate({"name": name, "args": args}))
    return net


class Units(nn.Module):
    """A wrapper whose net works on ``scale * x + shift``."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.scale, self.shift = net, 0.5, 0.5

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = (call(self.net, x / 2 + 0.5, {"sigma": sigma / 2}) - 0.5) * 2
        return out

    def unwrapped(self) -> tuple[nn.Module, float, float, bool]:
        return self.net, self.scale, self.shift, False


class Mine(nn.Module):
    """A teacher of somebody's own, one of whose parts is called net."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.gain = net, nn.Parameter(torch.tensor(7.0))

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.gain * self.net(x, sigma=sigma)
        return out


def test_a_trunk_is_taken_over_from_a_net_of_another_task() -> None:
    student, other = make("feature_net", width=4, classes=3), make("feature_net", width=4, classes=7)
    head = student.head.weight.clone()
    inherit(student, other)
    assert torch.equal(student.stages[2].down[0].weight, other.stages[2].down[0].weight)
    assert torch.equal(student.head.weight, head)
    with pytest.raises(UserError, match="half of its weights by the same names and shapes"):
        inherit(make("feature_net", width=4, classes=3), make("feature_net", width=5, classes=3))


def test_a_part_called_net_is_no_wrapped_net() -> None:
    student = make("dncnn", depth=3, width=6)
    with pytest.raises(UserError, match="a DnCNN cannot start from this Mine"):
        inherit(student, Mine(make("dncnn", depth=3, width=6)))


def test_a_foreign_net_is_looked_through() -> None:
    student, teacher = make("dncnn", depth=3, width=6), make("dncnn", depth=3, width=6)
    inherit(student, from_module(from_module(teacher, range=(-1, 1)), range=(-1, 1)))
    assert torch.equal(student(X), teacher(X))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("dncnn", {"depth": 4, "width": 6}),
        ("dncnn", {"depth": 4, "width": 6, "norm": True}),
        ("ffdnet", {"depth": 4, "width": 6}),
        ("unet", {"channels": 1, "widths": [4, 6], "blocks": 2}),
        ("half_res", {"width": 6}),
        ("patch_mlp", {"width": 6}),
    ],
)
def test_the_same_net_is_copied_exactly(with_statistics: Change, name: str, args: dict[str, object]) -> None:
    student, teacher = make(name, **args).eval(), with_statistics(make(name, **args)).float()
    inherit(student, teacher)
    assert torch.equal(call(student, X, {"sigma": SIGMA}), call(teacher, X, {"sigma": SIGMA}))


def test_batch_norm_of_the_teacher_is_folded(with_statistics: Change) -> None:
    student, teacher = make("dncnn", depth=5, width=6), with_statistics(make("dncnn", depth=5, width=6, norm=True))
    inherit(student, teacher)
    assert torch.allclose(student(X), teacher.float()(X), atol=1e-4)


def test_silent_channels_and_the_weakest_are_left_out() -> None:
    student, teacher = make("dncnn", depth=3, width=4), make("dncnn", depth=3, width=6)
    with torch.no_grad():
        for path, dead in (("0", [1, 4]), ("2", [0, 5])):
            teacher.get_submodule(path).weight[dead] = 0  # type: ignore[operator, index]
    inherit(student, teacher)
    assert torch.allclose(student(X), teacher(X), atol=1e-5)


def test_layers_are_kept_at_even_distances() -> None:
    student, teacher = make("dncnn", depth=3, width=4), make("dncnn", depth=5, width=4)
    inherit(student, teacher)
    for mine, yours in (("0", "0"), ("2", "4"), ("4", "8")):
        assert torch.equal(student.get_parameter(f"{mine}.weight"), teacher.get_parameter(f"{yours}.weight"))


@pytest.mark.parametrize("predicts", ["image", "residual"])
@pytest.mark.parametrize("name", ["dncnn", "ffdnet"])
def test_another_range_is_converted(name: str, predicts: str) -> None:
    student, teacher = (make(name, depth=3, width=5, predicts=predicts) for _ in range(2))
    inherit(student, Units(teacher))
    expected = Units(teacher)(X, SIGMA)
    inside = (..., slice(3, -3), slice(3, -3)) if name == "dncnn" else (..., slice(6, -6), slice(6, -6))
    if name == "ffdnet":
        big = torch.rand(2, 1, 20, 20) * 2 - 1
        assert torch.allclose(student(big, sigma=SIGMA)[inside], Units(teacher)(big, SIGMA)[inside], atol=1e-5)
    else:
        assert torch.allclose(student(X)[inside], expected[inside], atol=1e-5)


def test_a_unet_with_silent_channels_loses_nothing() -> None:
    teacher = make("unet", channels=1, widths=[6, 8], blocks=2)
    student = make("unet", channels=1, widths=[4, 5], blocks=2)
    dead = {0: [1, 3], 1: [0, 4, 7]}
    with torch.no_grad():
        teacher.get_parameter("head.weight")[dead[0]] = 0
        teacher.get_parameter("down.0.weight")[dead[1]] = 0
        teacher.get_parameter("up.0.weight")[:, dead[0]] = 0
        for stretch, level in (("encoder.0", 0), ("decoder.0", 0), ("middle", 1)):
            for i in range(2):
                teacher.get_parameter(f"{stretch}.{i}.second.weight")[dead[level]] = 0
                teacher.get_parameter(f"{stretch}.{i}.first.weight")[dead[level]] = 0
    inherit(student, teacher)
    assert torch.allclose(student(X, sigma=SIGMA), teacher(X, sigma=SIGMA), atol=1e-5)


def test_a_grey_unet_does_what_its_colour_teacher_does_to_grey() -> None:
    student, teacher = (make("unet", channels=c, widths=[4, 6], blocks=1) for c in (1, 3))
    inherit(student, teacher)
    assert torch.allclose(student(X, sigma=SIGMA), teacher(X, sigma=SIGMA), atol=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        (("dncnn", {"depth": 5, "width": 4}), ("dncnn", {"depth": 4, "width": 4})),
        (("dncnn", {"depth": 4, "width": 8}), ("dncnn", {"depth": 4, "width": 4})),
        (("dncnn", {"depth": 4, "width": 4, "norm": True}), ("dncnn", {"depth": 5, "width": 4})),
        (("dncnn", {"depth": 4, "width": 4, "predicts": "image"}), ("dncnn", {"depth": 4, "width": 4})),
        (("half_res", {"width": 4}), ("dncnn", {"depth": 4, "width": 4})),
        (("patch_mlp", {"width": 4}), ("dncnn", {"depth": 4, "width": 4})),
        (("unet", {"widths": [4, 8]}), ("unet", {"widths": [4, 6]})),
        (("unet", {"widths": [4]}), ("unet", {"widths": [4, 6]})),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    student: tuple[str, dict[str, object]], teacher: tuple[str, dict[str, object]]
) -> None:
    with pytest.raises(UserError) as refused:
        inherit(make(student[0], **student[1]), make(teacher[0], **teacher[1]))
    assert "\n" not in str(refused.value)


def test_a_student_without_biases_cannot_hold_those_of_a_folded_norm(with_statistics: Change) -> None:
    teacher = with_statistics(make("dncnn", depth=4, width=4, norm=True)).float()
    with pytest.raises(UserError, match="bias=true"):
        inherit(make("dncnn", depth=4, width=4, bias=False), teacher)


def test_weights_of_equal_shape_that_mean_something_else_are_not_merely_copied() -> None:
    sizes = {"size": 8, "block_out_channels": [8, 16], "norm_num_groups": 4, "attention_levels": 0}
    torch.manual_seed(0)
    teacher, student = (make("unet2d", **sizes, beta_schedule=each) for each in ("linear", "squaredcos_cap_v2"))
    inherit(student, teacher)
    levels = torch.tensor([0.1, 1.0, 20.0])
    x = torch.randn(3, 1, 8, 8) * levels.view(-1, 1, 1, 1)
    with torch.no_grad():
        mine, theirs = student.eval()(x, sigma=levels), teacher.eval()(x, sigma=levels)
    assert (mine - theirs).square().mean().sqrt() < 0.05 * theirs.std()


def test_a_copy_is_one_to_the_last_bit_though_time_means_something_else() -> None:
    sizes = {"size": 8, "block_out_channels": [8, 16], "norm_num_groups": 4, "attention_levels": 0}
    teacher, student = (make("unet2d", **sizes, beta_schedule=each) for each in ("linear", "squaredcos_cap_v2"))
    copy_weights(student, teacher)
    mine, theirs = student.state_dict(), teacher.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        (make("dncnn", depth=3, width=4), make("dncnn", depth=3, width=6)),
        (make("dncnn", depth=3, width=4), make("ffdnet", depth=3, width=4)),
        (make("dncnn", depth=3, width=4), Units(make("dncnn", depth=3, width=4))),
        (make("dncnn", depth=3, width=4), make("dncnn", depth=3, width=4, predicts="image")),
    ],
)
def test_what_is_no_copy_is_refused(student: nn.Module, teacher: nn.Module) -> None:
    with pytest.raises(UserError, match='set init to "teacher"'):
        copy_weights(student, teacher)
