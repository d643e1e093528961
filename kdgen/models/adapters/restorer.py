"""Restorers from other people's files: spandrel tells their architecture from the names and shapes of their weights."""

import enum
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.models.adapters.recognise import kind_of_weights
from kdgen.models.input_shape import InputShape
from kdgen.models.task_arguments import task_having
from kdgen.types import UserError, text
from kdgen.utils.validation import check_finite

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".th", ".tar", ".npz")
"""How files of weights are called."""


class Restorer(nn.Module):
    """A net that spandrel built, called on images in [-1, 1].

    Attributes:
        net: the net itself, whose values lie in [0, 1].
        input_shape: the heights and widths that it takes.
        scale: how many times higher and wider images become.
    """

    conditions: frozenset[str] = frozenset()

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.net: nn.Module = descriptor.model
        self.descriptor, self.scale = descriptor, int(descriptor.scale)
        sizes = descriptor.size_requirements
        multiple = max(int(sizes.multiple_of), 1)
        self.input_shape = InputShape(multiple=multiple, min_size=-(-max(int(sizes.minimum), 1) // multiple) * multiple)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to ``(B, C, scale H, scale W)`` in [-1, 1]."""
        out: Tensor = self.descriptor((x + 1) / 2)
        return 2 * out - 1


def open_restorer(weights: Mapping[str, Tensor], path: Path) -> tuple[Restorer, int, dict[str, Any]]:
    """Open the weights of a file whose architecture spandrel knows.

    Args:
        weights: by name.
        path: of the file.

    Returns:
        the net in evaluation mode on the CPU, the channels of its images, and the task that it was made for.

    Raises:
        UserError: where spandrel is missing or knows no such net, and for a net that is told more than an image.
    """
    spandrel = _spandrel(path)
    try:
        descriptor = spandrel.ModelLoader("cpu").load_from_state_dict(dict(weights))
    except spandrel.UnsupportedModelError:
        if (what := kind_of_weights(weights)) is not None:
            raise UserError(text("recognised_weights", "{path} holds the weights of no net that is known by its keys, "
                                 "these say that it is {what}", path=str(path), what=what)) from None  # fmt: skip
        known = ", ".join(sorted({each.architecture.name for each in spandrel.MAIN_REGISTRY.architectures()}))
        raise UserError(text(
            "unknown_weights", "{path} holds the weights of no net that is known by its keys (its first: {keys:, }; "
            "looked for: {known}): write its class into a file with `from kdgen.registry import register` and "
            '`@register("net")` above it, and declare it by {{"file": "{name}", "net": {{"name": ...}}}} with --code',
            path=str(path), keys=list(weights)[:3], known=known, name=path.name)) from None  # fmt: skip
    except Exception as error:  # a file can fit an architecture by its names alone
        reason = " ".join(str(error).split())[:200]
        raise UserError(text("unfit_weights", "{path} looks like a restorer's, and does not fit it: {reason}",
                             path=str(path), reason=reason)) from None  # fmt: skip
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise UserError(text("told_a_mask", "{path} holds a {net}, which is told a mask beside the image: such "
                             "teachers are not handled", path=str(path), net=descriptor.architecture.name))  # fmt: skip
    channels = descriptor.input_channels
    if channels not in (1, 3) or descriptor.output_channels != channels:
        raise UserError(text("other_channels", "{path} holds a {net} of {channels} channels in and {out} out: 1 or 3 "
                             "of both are handled", path=str(path), net=descriptor.architecture.name, channels=channels,
                             out=descriptor.output_channels))  # fmt: skip
    check_finite(descriptor.model, str(path))
    net = Restorer(descriptor).eval().float()
    return net, channels, {"name": task_having(scales=True), "channels": channels, **made_for(int(descriptor.scale))}


def made_for(scale: int) -> dict[str, Any]:
    """What is known of the damage that a net of this scale undoes, as arguments of its task."""
    if scale == 1:
        return {"damages": [{"name": "real", "args": {"scale": 1}}]}
    return {"damages": [{"name": "shrink", "args": {"scale": scale}}], "scale": scale, "measure": "y"}


def _spandrel(path: Path) -> Any:
    try:
        with _torchvision():
            import spandrel
    except ModuleNotFoundError:
        raise UserError(text("no_spandrel", "{path} is a file of weights alone, and spandrel, which tells nets by "
                             "them, is not installed: run `pip install 'kdgen[restorers]'`, or declare the file in "
                             "JSON",
                             path=str(path))) from None  # fmt: skip
    return spandrel


class InterpolationMode(enum.Enum):
    """The modes of torchvision that LaMa names."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"


def normalize(tensor: Tensor, mean: list[float], std: list[float], inplace: bool = False) -> Tensor:
    """``(x - mean) / std`` by channels."""
    mean_, std_ = (tensor.new_tensor(each).view(-1, 1, 1) for each in (mean, std))
    return tensor.sub_(mean_).div_(std_) if inplace else (tensor - mean_) / std_


def rotate(img: Tensor, angle: float, interpolation: InterpolationMode, fill: float = 0) -> Tensor:
    """Images ``(B, C, H, W)`` turned by degrees against the clock around their middle, as large as before."""
    theta = img.new_tensor(angle).deg2rad()
    height, width = img.shape[-2:]
    cosine, sine = theta.cos(), theta.sin()
    rows = img.new_tensor([[cosine, -sine * height / width, 0], [sine * width / height, cosine, 0]])
    grid = F.affine_grid(rows.expand(len(img), 2, 3), list(img.shape), align_corners=False)
    return F.grid_sample(img - fill, grid, interpolation.value, align_corners=False) + fill


@contextmanager
def _torchvision() -> Iterator[None]:
    """Within it the names of torchvision that spandrel imports are there, where torchvision itself is not."""
    if find_spec("torchvision") is not None:
        yield
        return
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    modules = [ModuleType(name) for name in names]
    for each in (InterpolationMode, normalize, rotate):
        setattr(modules[-1], each.__name__, each)
    sys.modules.update(zip(names, modules, strict=True))
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)
