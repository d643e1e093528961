"""Residual nets of CIFAR-10: their cost, and students that start from them."""

from typing import Any

import pytest
import torch

from kdgen.metrics import cost
from kdgen.models.nets.cifar_resnet import CifarResNet, cifar_resnet
from kdgen.models.nets.inherit import inherit
from kdgen.types import UserError


def random(seed: int = 0, **args: Any) -> CifarResNet:
    """A net whose norms scale each channel otherwise, as after training."""
    torch.manual_seed(seed)
    net = cifar_resnet(**{"width": 8, "depth": 2, **args})
    for value in net.parameters():
        if value.ndim == 1:
            torch.nn.init.uniform_(value, 0.5, 1.5)
    return net.eval()


def test_it_costs_what_the_paper_says() -> None:
    net = cifar_resnet()
    assert cost.num_params(net) == 269_722
    assert cost.macs(net, torch.zeros(1, 3, 32, 32)) == pytest.approx(40.8e6, rel=0.01)


@pytest.mark.parametrize("shortcut", ["pad", "conv"])
def test_a_student_as_large_starts_as_its_teacher(shortcut: str) -> None:
    teacher, student = random(shortcut=shortcut), random(1, shortcut=shortcut)
    inherit(student, teacher)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(student(x), teacher(x))


@torch.no_grad()
def mute(net: CifarResNet, *, stream: bool) -> None:
    """Let the first half of the channels within blocks say nothing, and if ``stream`` of those that stages pass on."""
    layers = [block.net[1] for block in net.blocks]
    if stream:
        layers += [net.stem[1], *(block.net[4] for block in net.blocks)]
        layers += [block.downsample for block in net.blocks if block.downsample is not None]
    for layer in layers:
        for value in layer.parameters():
            value[: len(value) // 2] = 0


@pytest.mark.parametrize("shortcut", ["pad", "conv"])
@pytest.mark.parametrize("smaller", [{"inner": 0.5}, {"width": 4}], ids=["inner", "width"])
def test_a_smaller_student_leaves_out_the_channels_that_say_nothing(smaller: dict[str, Any], shortcut: str) -> None:
    teacher, student = random(shortcut=shortcut), random(1, shortcut=shortcut, **smaller)
    mute(teacher, stream="width" in smaller)
    inherit(student, teacher)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(student(x), teacher(x), atol=1e-4, rtol=1e-4)


def test_a_shallower_student_keeps_the_first_block_of_each_stage() -> None:
    teacher, student = random(depth=3), random(1, depth=2)
    inherit(student, teacher)
    for own, other in ((0, 0), (1, 2), (2, 3), (3, 5), (5, 8)):
        assert torch.equal(student.blocks[own].net[0].weight, teacher.blocks[other].net[0].weight)


@pytest.mark.parametrize(("args", "words"), [
    ({"width": 9}, "no wider and no deeper"),
    ({"depth": 3}, "no wider and no deeper"),
    ({"shortcut": "conv"}, "starts from one with its shortcut"),
    ({"mean": (0.4,)}, "starts from one with its shortcut"),
])  # fmt: skip
def test_a_start_that_does_not_fit_is_refused(args: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        inherit(random(**args), random())


def test_normalisation_is_for_one_channel_or_for_each() -> None:
    x = torch.rand(2, 1, 8, 8) * 2 - 1
    net = random(mean=(0.2, 0.4, 0.6), std=(0.5, 0.25, 0.1))
    plain = random()
    rescaled = ((x.expand(-1, 3, -1, -1) + 1) / 2 - net.mean.add(1).div(2)) / net.std.div(2)
    torch.testing.assert_close(net(x), plain(rescaled))
    with pytest.raises(UserError, match="mean has 2 values: give one, or one for each of 3"):
        cifar_resnet(mean=(0.5, 0.5))
