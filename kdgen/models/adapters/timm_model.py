"""Classifiers of timm: by the name of their architecture, from a file of weights, or as timm publishes them."""

import enum
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import torch
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kdgen.models.adapters.pretrained import one_line, read_json
from kdgen.models.adapters.weight_files import check_content
from kdgen.models.task_arguments import task_having
from kdgen.registry import Spec, register
from kdgen.types import UserError, text
from kdgen.types.arguments import AnyChannels, CountOrZero
from kdgen.utils.validation import check_finite, check_numbers

WEIGHTS = "model.safetensors"


@runtime_checkable
class Informed(Protocol):
    """A model of timm that says which of its modules end its stages."""

    feature_info: Any


class Timm(nn.Module):
    """The net of ``timm``: a model of timm that is called on images in [-1, 1].

    Attributes:
        model: the model itself.
        around: the same, whose names of weights are those in its files.
        channels: of its images.
        mean, std: what it normalises by, in [-1, 1]; no part of its weights.
    """

    conditions: frozenset[str] = frozenset()
    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, *, channels: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model, self.channels = model, channels
        for name, values in (("mean", [2 * m - 1 for m in mean]), ("std", [2 * s for s in std])):
            own = torch.tensor(values) if len(values) in (1, channels) else torch.tensor(values).mean(0, keepdim=True)
            self.register_buffer(name, own.view(-1, 1, 1), persistent=False)

    @property
    def around(self) -> nn.Module:
        """The model of timm."""
        return self.model

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, K)``, without a head features ``(B, D)``, of images ``(B, 1 or C, H, W)`` in [-1, 1]."""
        out: Tensor = self.model((x.expand(-1, self.channels, -1, -1) - self.mean) / self.std)
        return out

    def feature_layers(self) -> list[str]:
        """The ends of its stages, where timm says these; its own parts otherwise."""
        info: Any = self.model.feature_info if isinstance(self.model, Informed) else ()
        ends = [each["module"] for each in info if "module" in each]
        return [f"model.{name}" for name in ends or dict(self.model.named_children())]


@register("net")
def timm(
    architecture: str = "resnet18",
    num_classes: CountOrZero = 1000,
    channels: AnyChannels = 3,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    model_args: Mapping[str, Any] | None = None,
) -> Timm:
    """A classifier of timm by the name of its architecture, ``resnet18`` or ``mobilenetv3_small_100``, say.

    It needs timm, `pip install 'kdgen[timm]'`. Its own weights are not fetched: a teacher is an id of the Hub,
    ``timm/resnet18.a1_in1k``, or a file that declares this net and `"range": [-1, 1]`.

    Args:
        architecture: one of ``timm.list_models()``.
        num_classes: number of logits K; 0 leaves the head out, and the answer are the features.
        channels: channels C of its images; with 3 it also reads grey ones.
        mean: what is taken from images, for each channel or one for all, of values in [0, 1]; default timm's.
        std: what they are then divided by, likewise.
        model_args: further arguments of the architecture, ``{"img_size": 64}`` of a transformer, say.

    Raises:
        UserError: where timm is missing, knows no such architecture, or refuses an argument.
    """
    library = _library()
    try:
        model = library.create_model(
            architecture, pretrained=False, num_classes=num_classes, in_chans=channels, **(model_args or {})
        )
    except Exception as error:  # a net refuses arguments by any error
        raise UserError(text("timm_refuses", "timm makes no {architecture} of these arguments ({error}): its "
                             "architectures are those of timm.list_models()", architecture=architecture,
                             error=one_line(error)[:200])) from None  # fmt: skip
    usual = model.pretrained_cfg
    return Timm(model, channels=channels, mean=mean or usual["mean"], std=std or usual["std"])


def is_timm(folder: Path) -> bool:
    """Whether a folder holds a model as timm publishes it: a `config.json` with its architecture and its images."""
    file = folder / "config.json"
    return file.is_file() and {"architecture", "pretrained_cfg"} <= read_json(file).keys()


def timm_use(folder: Path) -> tuple[Spec, dict[str, JsonValue]]:
    """How the model of a folder is built, and the task that it was made for.

    Raises:
        UserError: for a configuration that is missing, damaged, or of images that are neither grey nor in colour.
    """
    config = read_json(folder / "config.json")
    images = config["pretrained_cfg"]
    channels, height, _ = images.get("input_size") or (3, 224, 224)
    if channels not in (1, 3):
        raise UserError(text("timm_channels", "{folder} holds a model for images of {channels} channels: 1 or 3 are "
                             "handled", folder=folder, channels=channels))  # fmt: skip
    num_classes = config.get("num_classes", images.get("num_classes", 1000))
    args = {"architecture": config["architecture"], "num_classes": num_classes, "channels": channels,
            "mean": images.get("mean"), "std": images.get("std"), "model_args": config.get("model_args")}  # fmt: skip
    task: dict[str, JsonValue] = {
        "name": task_having(gives="logits", dense=False),
        "num_classes": num_classes,
        "size": height,
        "channels": channels,
    }
    return Spec(name="timm", args={key: value for key, value in args.items() if value is not None}), task


def open_timm(folder: Path, net: Timm) -> None:
    """Read the weights of a folder into the net that its configuration builds.

    Raises:
        UserError: for weights that are missing, damaged, not finite, not safetensors, or do not fit.
    """
    file = folder / WEIGHTS
    if not file.is_file():
        raise UserError(text("folder_no_weights", "no {file} in {folder}: fetch it again", file=WEIGHTS,
                             folder=folder))  # fmt: skip
    try:
        check_content(file)
        weights = load_file(file)
        check_numbers(weights, net.model.state_dict(), str(folder))
        net.model.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(text("folder_damaged", "the weights in {folder} are damaged or do not fit its config.json: "
                             "{error}", folder=folder, error=one_line(error)[:300])) from None  # fmt: skip
    check_finite(net, str(folder))


def _library() -> Any:
    try:
        with _torchvision():
            import timm
    except ImportError:
        raise UserError(text("no_timm", "timm is not installed, which has this net: run `pip install "
                             "'kdgen[timm]'`")) from None  # fmt: skip
    return timm


class InterpolationMode(enum.Enum):
    """The modes of torchvision that timm tables."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


class _Names(ModuleType):
    """A module of which every name is a class: nets of timm use none of them, its reading of data does."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@contextmanager
def _torchvision() -> Iterator[None]:
    """Within it what timm imports of torchvision is there, where torchvision itself is not."""
    if "timm" in sys.modules or find_spec("torchvision") is not None:
        yield
        return
    parts = ("", ".datasets", ".ops", ".ops.misc", ".transforms", ".transforms.functional", ".utils")
    modules = {f"torchvision{part}": _Names(f"torchvision{part}") for part in parts}
    for name, module in modules.items():
        module.__path__ = []
        above, _, own = name.rpartition(".")
        if above:
            setattr(modules[above], own, module)
    functional = modules["torchvision.transforms.functional"]
    for each in (functional, modules["torchvision.transforms"]):
        setattr(each, InterpolationMode.__name__, InterpolationMode)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)


__all__ = ["Timm", "is_timm", "open_timm", "timm_use"]
