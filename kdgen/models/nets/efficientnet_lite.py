"""EfficientNet-Lite0, with the names of its published weights: a classifier, or its features at a stride."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.registry import register
from kdgen.types.arguments import Count

STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip
"""Tan & Le 2019 (arXiv 1905.11946), table 1, of each stage: blocks, kernel, stride, expansion, channels."""

STEM, HEAD = 32, 1280
EPSILON = 1e-3

Stride = Literal[2, 4, 8, 16, 32]


class SameConv(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow's "same" does: what is odd, below and to the right."""

    def __init__(self, wide: int, deep: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(wide, deep, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, wide, H, W)`` to ``(B, deep, ceil(H / stride), ceil(W / stride))``."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        rows, columns = (max((n + stride - 1) // stride * stride - stride + kernel - n, 0) for n in x.shape[-2:])
        return super().forward(F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)))


class Inverted(nn.Module):
    """An inverted residual: wider, by place, narrower (Sandler et al. 2018, arXiv 1801.04381, section 3.3)."""

    def __init__(self, wide: int, deep: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = wide * expansion
        self.residual = stride == 1 and wide == deep
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv, self._bn0 = SameConv(wide, inner, 1), _norm(inner)
        self._depthwise_conv, self._bn1 = SameConv(inner, inner, kernel, stride, groups=inner), _norm(inner)
        self._project_conv, self._bn2 = SameConv(inner, deep, 1), _norm(deep)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, wide, H, W)`` to ``(B, deep, H / stride, W / stride)``."""
        h: Tensor = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        h = F.relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        return x + h if self.residual else h


class EfficientNetLite(nn.Module):
    """The net of ``efficientnet_lite``."""

    conditions: frozenset[str] = frozenset()
    channels = 3

    def __init__(self, stride: int | None, classes: int) -> None:
        super().__init__()
        self.stride = stride
        self._conv_stem, self._bn0 = SameConv(3, STEM, 3, 2), _norm(STEM)
        self._blocks = nn.ModuleList()
        width, reached = STEM, 2
        for number, kernel, step, expansion, deep in STAGES:
            if stride is not None and reached * step > stride:
                break
            for position in range(number):
                self._blocks.append(Inverted(width, deep, kernel, step if position == 0 else 1, expansion))
                width = deep
            reached *= step
        if stride is None:
            self._conv_head, self._bn1 = SameConv(width, HEAD, 1), _norm(HEAD)
            self._fc = nn.Linear(HEAD, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, K)`` of images ``(B, 1 or 3, H, W)``, or their features ``(B, D, H / stride, W / stride)``."""
        h = F.relu6(self._bn0(self._conv_stem(x.expand(-1, 3, -1, -1))))
        for block in self._blocks:
            h = block(h)
        if self.stride is not None:
            return h
        h = F.relu6(self._bn1(self._conv_head(h)))
        logits: Tensor = self._fc(torch.mean(h, (2, 3)))
        return logits

    def feature_layers(self) -> list[str]:
        """The stem's norm and the blocks, in order of use."""
        return ["_bn0", *(f"_blocks.{i}" for i in range(len(self._blocks)))]


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON)


@register("net")
def efficientnet_lite(stride: Stride | None = None, classes: Count = 1000) -> EfficientNetLite:
    """EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946, without squeeze and excitation, with ReLU6).

    Of the published `efficientnet-lite0-57934424.pth`, which reads values (v - 127) / 128 of pixels v from 0 to 255:
    declare the range [-127/128, 1]. Of a net that answers with features declare in ``rename`` the keys that it keeps,
    each by its own name: `_conv_stem.`, `_bn0.`, and `_blocks.0.` to the last, which is 0, 2, 4, 10 or 15.

    Args:
        stride: pixels of the image to a side of a place of its features, which it answers with, from its last block
            at that stride; what comes behind is left out. If not given, it is the classifier.
        classes: number of logits.
    """
    return EfficientNetLite(stride, classes)


__all__ = ["EfficientNetLite", "efficientnet_lite"]
