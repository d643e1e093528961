"""Residual nets for small images, as published for CIFAR-10: He et al. 2016 (arXiv 1512.03385), section 4.2."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdgen.models.nets.inherit import evenly
from kdgen.models.scaling import Args, Family, Shapes, scale_widths, scaled
from kdgen.registry import register
from kdgen.types import UserError, text
from kdgen.types.arguments import AnyChannels, Count

Means = Annotated[Sequence[float], Field(min_length=1, max_length=3)]
Deviations = Annotated[Sequence[Annotated[float, Field(gt=0)]], Field(min_length=1, max_length=3)]
Shortcut = Literal["pad", "conv"]

STAGES = 3


class Block(nn.Module):
    """``relu(shortcut(x) + net(x))``: ``(B, wide, H, W)`` to ``(B, deep, H / stride, W / stride)``.

    Attributes:
        net: convolution, norm, ReLU, convolution, norm; ``inner`` channels between the convolutions.
        downsample: a 1x1 convolution as the shortcut; without it every other pixel is taken, and channels of zeros are
            put around those that there are, half on either side ("option A").
    """

    def __init__(self, wide: int, deep: int, inner: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.around, stride = deep - wide, 1 if wide == deep else 2
        self.net = nn.Sequential(
            nn.Conv2d(wide, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, deep, 3, 1, 1, bias=False), nn.BatchNorm2d(deep),
        )  # fmt: skip
        self.downsample = nn.Conv2d(wide, deep, 1, 2) if shortcut == "conv" and wide != deep else None

    @property
    def layers(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Its two convolutions, each with the norm behind it."""
        first, norm, _, second, last = self.net.children()
        return [first, norm], [second, last]

    def within(self, other: "Block") -> bool:
        """Whether neither convolution has more filters than that of another block."""
        return all(len(_weight(a)) <= len(_weight(b)) for (a, _), (b, _) in zip(self.layers, other.layers, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if self.downsample is not None:
            skipped = self.downsample(x)
        elif self.around:
            before = self.around // 2
            skipped = F.pad(F.max_pool2d(x, 1, 2), (0, 0, 0, 0, before, self.around - before))
        else:
            skipped = x
        return F.relu(skipped + self.net(x))


class CifarResNet(nn.Module):
    """The net of ``cifar_resnet``: three stages of blocks, each at half the size and twice the channels.

    Attributes:
        blocks: of all stages, ``depth`` each.
        mean, std: what it normalises by, in [-1, 1]; no part of its weights.
    """

    conditions: frozenset[str] = frozenset()
    mean: Tensor
    std: Tensor

    def __init__(
        self, channels: int, num_classes: int, width: int, depth: int, *, inner: float, shortcut: Shortcut,
        mean: Sequence[float], std: Sequence[float],
    ) -> None:  # fmt: skip
        super().__init__()
        self.channels, self.depth, self.shortcut = channels, depth, shortcut
        for name, values in (("mean", [2 * m - 1 for m in mean]), ("std", [2 * s for s in std])):
            if len(values) not in (1, channels):
                raise UserError(text("per_channel", "{name} has {count} values: give one, or one for each of "
                                     "{channels} channels", name=name, count=len(values),
                                     channels=channels))  # fmt: skip
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        widths = [width * 2**stage for stage in range(STAGES)]
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))
        before = [width, *(wide for wide in widths for _ in range(depth))]
        self.blocks = nn.ModuleList(
            Block(wide, deep, max(round(inner * deep), 1), shortcut) for wide, deep in pairwise(before)
        )
        self.head = nn.Linear(widths[-1], num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """He et al. 2015, eq. 10."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, K)`` of images ``(B, 1 or C, H, W)`` in [-1, 1]."""
        x = F.relu(self.stem((x.expand(-1, self.channels, -1, -1) - self.mean) / self.std))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits

    def feature_layers(self) -> list[str]:
        """The last block of each stage."""
        return [f"blocks.{self.depth * (stage + 1) - 1}" for stage in range(STAGES)]

    def inherit(self, teacher: nn.Module) -> None:
        """Start from a larger one: the channels that weigh most, and blocks at even distances, each stage's first too.

        A channel weighs what norms scale it by (Liu et al. 2017, arXiv 1708.06519), between two convolutions times what
        the second makes of it. All blocks of a stage keep the same channels of what they add to.

        Raises:
            UserError: for another net, one that is smaller, and one of other shortcuts, classes or normalisation.
        """
        if not isinstance(teacher, CifarResNet) or self._ends != teacher._ends:
            raise UserError(text("no_resnet_start", "a cifar_resnet starts from one with its shortcut, channels, "
                                 "num_classes, mean and std, and not from this {type}",
                                 type=type(teacher).__name__))  # fmt: skip
        pairs = [(own, teacher.stage(i)[j]) for i in range(STAGES)
                 for own, j in zip(self.stage(i), evenly(self.depth, teacher.depth), strict=True)]  # fmt: skip
        if self.depth > teacher.depth or any(not own.within(other) for own, other in pairs):
            raise UserError(text("resnet_not_within", "this cifar_resnet is not within its teacher: make it no wider "
                                 "and no deeper"))  # fmt: skip
        kept = self._kept(teacher)
        _copy(self.stem.children(), teacher.stem.children(), kept[0], slice(None))
        before = kept[0]
        for number, (own, other) in enumerate(pairs):
            after, (first, second), (wide, deep) = kept[number // self.depth], own.layers, other.layers
            inner = _most(_gain(wide[1]) * _weight(deep[0]).abs().sum((0, 2, 3)), len(_weight(first[0])))
            _copy(first, wide, inner, before)
            _copy(second, deep, after, inner)
            if own.downsample is not None and other.downsample is not None:
                _copy([own.downsample], [other.downsample], after, before)
            before = after
        _copy([self.head], [teacher.head], slice(None), before)

    def stage(self, number: int) -> list[Block]:
        """The blocks of a stage."""
        blocks = self.blocks[number * self.depth : (number + 1) * self.depth]
        return [block for block in blocks if isinstance(block, Block)]

    @property
    def _ends(self) -> tuple[Any, ...]:
        norms = [value.flatten().tolist() for value in (self.mean, self.std)]
        return self.shortcut, self.channels, self.head.out_features, norms

    def _kept(self, teacher: "CifarResNet") -> list[Tensor]:
        """Channels of a teacher's stages; in the middle of padding those of the stage before."""
        kept = list[Tensor]()
        for number in range(STAGES):
            blocks, count = teacher.stage(number), len(_weight(self.stage(number)[0].layers[1][0]))
            norms = [block.layers[1][1] for block in blocks] + ([] if number else [teacher.stem[1]])
            weight = torch.stack([_gain(norm) for norm in norms]).sum(0)
            if not number or self.shortcut == "conv":
                kept.append(_most(weight, count))
                continue
            before, within = blocks[0].around // 2, len(weight) - blocks[0].around
            weight[before : before + within] = -torch.inf
            added = _most(weight, count - len(kept[-1]))
            first = len(added) // 2
            kept.append(torch.cat([added[:first], kept[-1] + before, added[first:]]))
        return kept


def _gain(norm: nn.Module) -> Tensor:
    return norm.get_parameter("weight").abs()


def _weight(conv: nn.Module) -> Tensor:
    return conv.get_parameter("weight")


def _most(weight: Tensor, count: int) -> Tensor:
    """Indices of the largest of ``(N,)`` weights, in order."""
    return weight.topk(count).indices.sort().values


def _copy(
    layers: Iterable[nn.Module], sources: Iterable[nn.Module], outputs: Tensor | slice, inputs: Tensor | slice
) -> None:
    """Some outputs of successive layers, a convolution with its norm say, and some inputs of those that have them."""
    for layer, source in zip(layers, sources, strict=True):
        taken = {key: value[outputs] if value.ndim else value for key, value in source.state_dict().items()}
        if taken["weight"].ndim > 1:
            taken["weight"] = taken["weight"][:, inputs]
        layer.load_state_dict(taken)


def _fit(shapes: Shapes) -> Args:
    return {"channels": shapes.inputs[0], "num_classes": shapes.outputs[0]}


@register("net")
@scaled(Family(scale=scale_widths("width", "depth"), fit=_fit,
               does={"gives": "logits", "pipeline_tag": "image-classification"}))  # fmt: skip
def cifar_resnet(
    channels: AnyChannels = 3,
    num_classes: Count = 10,
    width: Count = 16,
    depth: Count = 3,
    inner: Annotated[float, Field(gt=0)] = 1.0,
    shortcut: Shortcut = "pad",
    mean: Means = (0.5,),
    std: Deviations = (0.5,),
) -> CifarResNet:
    """A residual net for small images, as published for CIFAR-10 (He et al. 2016): ``6 depth + 2`` layers.

    By default the ResNet-20 of 269,722 parameters and 41 million multiply-accumulates for an image of 32x32.

    Args:
        channels: channels C of its images; with 3 it also reads grey ones.
        num_classes: number of logits K.
        width: channels of the first stage; the second has twice and the third four times as many.
        depth: blocks of each stage.
        inner: channels between the two convolutions of a block, as a share of those that it gives; 0.5 halves the cost.
        shortcut: where channels grow, ``pad`` with zeros (option A) or a ``conv`` of 1x1.
        mean: what is taken from images, for each channel or one for all, as published: of values in [0, 1].
        std: what they are then divided by, likewise.
    """
    return CifarResNet(channels, num_classes, width, depth, inner=inner, shortcut=shortcut, mean=mean, std=std)
