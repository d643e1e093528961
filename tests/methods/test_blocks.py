"""Features of diffusion U-Nets and autoencoders block by block."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from kdgen.methods.features.blocks import Blocks
from kdgen.types import Batch, UserError


class Block(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        return x, (x,)


class UNet(nn.Module):
    def __init__(self, width: int, depth: int, middle: bool = True) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList(Block(width if i else 1, width) for i in range(depth))
        self.mid_block = Block(width, width) if middle else None
        self.up_blocks = nn.ModuleList(Block(width, width) for _ in range(depth))
        self.tail = nn.Conv2d(width, 1, 1)

    def forward(self, x, **cond):
        for block in (*self.down_blocks, *((self.mid_block,) if self.mid_block else ()), *self.up_blocks):
            x = block(x)[0]
        return self.tail(x)


class Wrapped(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"unet": net})

    def forward(self, x, **cond):
        return self.inner["unet"](x)


def test_blocks_are_paired_by_name_under_any_prefix(make_view):
    torch.manual_seed(0)
    batch = Batch(x=torch.rand(3, 1, 8, 8))
    student, teacher = UNet(2, 1, middle=False), Wrapped(UNet(4, 2))
    method = Blocks()
    inputs = make_view(method, student, teacher, batch)
    assert method.student_layers == ("down_blocks.0", "up_blocks.0")
    assert method.teacher_layers == ("inner.unet.down_blocks.0", "inner.unet.up_blocks.0")
    s = method.regressors[0](inputs.student_features["down_blocks.0"])
    t = inputs.teacher_features["inner.unet.down_blocks.0"]
    first = (s - t).square().flatten(1).mean(1) / t.square().mean()
    s, t = (
        method.regressors[1](inputs.student_features["up_blocks.0"]),
        inputs.teacher_features["inner.unet.up_blocks.0"],
    )
    second = (s - t).square().flatten(1).mean(1) / t.square().mean()
    loss = method.loss(inputs)
    torch.testing.assert_close(loss, (first + second) / 2)
    loss.sum().backward()
    assert student.down_blocks[0].conv.weight.grad.norm() > 0
    assert all(p.grad is None for p in teacher.parameters())


def test_blocks_of_an_autoencoder_keep_their_halves_apart():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.vae = nn.ModuleDict({"encoder": UNet(2, 1), "decoder": UNet(2, 1)})

        def forward(self, x, **cond):
            return self.vae["decoder"](self.vae["encoder"](x))

    method = Blocks()
    method.attach(Two(), Two(), Batch(x=torch.rand(2, 1, 8, 8)))
    assert len(method.student_layers) == 6
    assert all(pair.student.path == pair.teacher.path for pair in method.pairs)


def test_blocks_do_not_depend_on_the_scale_of_features_and_are_zero_when_equal(make_view):
    torch.manual_seed(0)
    batch = Batch(x=torch.rand(3, 1, 8, 8))
    student, teacher = UNet(3, 2), UNet(3, 2)
    method = Blocks()
    inputs = make_view(method, student, teacher, batch)
    loss = method.loss(inputs)
    for seen in (inputs.student_features, inputs.teacher_features):
        for path in list(seen):
            seen[path] = 50 * seen[path]
    torch.testing.assert_close(method.loss(inputs), loss)
    same = method.loss(make_view(method, deepcopy(teacher), teacher, batch))
    torch.testing.assert_close(same, torch.zeros(3))


def test_blocks_without_names_in_common_take_pairs(tiny, batch, make_view):
    with pytest.raises(UserError, match="these nets have none in common: give pairs"):
        Blocks().attach(tiny(), tiny(), batch)
    method = Blocks([["body.0", "body.3"]])
    assert method.loss(make_view(method, tiny(4), tiny(6), batch)).shape == (4,)
