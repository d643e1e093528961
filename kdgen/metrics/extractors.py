"""Images to feature vectors, by nets with names: figures from different extractors are never comparable."""

import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdgen.models.model import load
from kdgen.registry import nearest
from kdgen.types import Net, UserError, text
from kdgen.utils.devices import device_of, evaluating, pick_device

INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION}"


@dataclass(frozen=True, slots=True, eq=False)
class Extractor:
    """A net that makes features of images.

    Attributes:
        name: stands in the names of all figures made from its features.
        net: the net, where it lies.
        features: images ``(B, 3, H, W)`` in [-1, 1] on the net's device -> ``(B, D)``.
    """

    name: str
    net: Net
    features: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor, *, batch_size: int = 100) -> Tensor:
        """The features of images.

        Args:
            images: ``(N, C, H, W)`` in [-1, 1], C 1 or 3; grey ones are repeated to three channels.
            batch_size: images in one call of the net.

        Returns:
            ``(N, D)`` float64 on the device of the images.
        """
        where = device_of(self.net)
        with evaluating(self.net):
            parts = [self.features(x.expand(-1, 3, -1, -1).to(where)) for x in torch.split(images, batch_size)]
        return torch.cat(parts).to(images.device, torch.float64)


@cache
def extractor(name: str) -> Extractor:
    """An extractor by name, on a GPU where there is one.

    ``features32`` is the small net that ships with kdgen, ``inception`` the Inception-v3 of FID and KID, by
    torch-fidelity.

    Raises:
        UserError: for an unknown name, or an Inception whose package or weights are not at hand.
    """
    if name not in _made:
        raise UserError(text("no_features", "no features are called {name!r}{nearest}", name=name,
                             nearest=nearest(name, _made)))  # fmt: skip
    return _made[name]()


def _features32() -> Extractor:
    net: Any = load("features32").net.to(pick_device("auto"))
    return Extractor("features32", net, net.features)


def _inception() -> Extractor:
    try:
        package = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    except ImportError:
        raise UserError(text("inception_missing", "features called inception need torch-fidelity: pip install "
                             "torch-fidelity")) from None  # fmt: skip
    path = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION
    if not path.is_file():
        raise UserError(text("inception_weights", "features called inception need their weights: put {url} at {path}",
                             url=INCEPTION_URL, path=path))  # fmt: skip
    weights = _plain(path)
    net: Any = package.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=weights
    ).to(pick_device("auto"))
    return Extractor("inception", net, lambda x: net(_to_bytes(x))[0])


def _plain(path: Path) -> io.BytesIO:
    """The tensors of a file, read without running code and written anew: the package unpickles what it is given."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damage can surface as any error
        raise UserError(text("inception_damaged", "{path} is damaged ({type}): fetch it again from {url}", path=path,
                             type=type(error).__name__, url=INCEPTION_URL)) from None  # fmt: skip
    copy = io.BytesIO()
    torch.save(weights, copy)
    copy.seek(0)
    return copy


def _to_bytes(x: Tensor) -> Tensor:
    return x.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


_made: dict[str, Callable[[], Extractor]] = {"features32": _features32, "inception": _inception}
