"""Nets that show where a picture is unlike good ones, by another net's features."""

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.types import Net, UserError, text
from kdgen.utils.hooks import capture_outputs

QUANTILES = (0.9, 0.995)
"""Those of good pictures' maps that become 0 and ``SPAN``: Batzner et al. 2024, section 3.4."""

SPAN = 0.1
BRIGHTEST = 0.5
LOOKED_AT = 2**20
"""Most values of the maps of good pictures of which quantiles are taken."""


@runtime_checkable
class Autoencoded(Protocol):
    """A student of features ``(B, D, h, w)`` that holds an autoencoder of these, and predicts what it says.

    Attributes:
        together: dotted path of its module that is called on images and gives ``(B, 3 D, h, w)``: the net's answer,
            what it predicts of the autoencoder, and what the autoencoder says.
    """

    together: str


class FeatureMaps(nn.Module):
    """What a net, or a layer within, says of each place, each channel less its mean and divided by its deviation.

    The latter two are those of good pictures: Batzner et al. 2024 (arXiv 2303.14535), section 3.1.

    Args:
        net: any net of images.
        layer: the dotted path of a module of it; none for the net's own answer.
        features: channels D, for buffers that are loaded; ``fit`` finds them itself.
    """

    conditions: frozenset[str] = frozenset()

    def __init__(self, net: Net, layer: str | None = None, features: int = 1) -> None:
        super().__init__()
        self.net, self.layer = net, layer
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))

    def raw(self, x: Tensor) -> Tensor:
        """The features as they are, ``(B, D, h, w)``.

        Raises:
            UserError: for a layer that the net lacks, and an answer of another shape.
        """
        if self.layer is None:
            maps = self.net(x)
        else:
            with capture_outputs(self.net, [self.layer]) as outputs:
                self.net(x)
            maps = outputs.get(self.layer)
        if not isinstance(maps, Tensor) or maps.ndim != 4:
            what = text("layer_called", "layer {layer!r}", layer=self.layer) if self.layer else \
                text("its_answer", "its answer")  # fmt: skip
            raise UserError(text("no_feature_maps", "{net}: {what} is no map `(B, D, h, w)`: set task.args.layer to a "
                                 "layer that gives one", net=type(self.net).__name__, what=what))  # fmt: skip
        return maps

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Take mean and deviation from good pictures ``(N, C, H, W)``."""
        maps = torch.cat([self.raw(part).float() for part in torch.split(x, 16)])
        self.mean = maps.mean((0, 2, 3))
        self.deviation = maps.std((0, 2, 3)).clamp_min(1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """The features ``(B, D, h, w)`` of images ``(B, C, H, W)``, normalised."""
        by_channel = (1, -1, 1, 1)
        return (self.raw(x) - self.mean.view(by_channel)) / self.deviation.view(by_channel)

    def extra_repr(self) -> str:
        """The layer."""
        return f"layer={self.layer!r}"


class FaultMaps(nn.Module):
    """A net that maps images to how faulty each pixel is; a subclass says ``distances``.

    Args:
        kinds: of distance, M: each is brought to its own scale, and the map is their mean.
    """

    conditions: frozenset[str] = frozenset()

    def __init__(self, kinds: int = 1) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(kinds))
        self.register_buffer("span", torch.ones(kinds))

    def distances(self, x: Tensor) -> Tensor:
        """How far each place of images ``(B, C, H, W)`` is from what is usual, ``(B, M, h, w)``, at least 0."""
        raise NotImplementedError

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Set the scale of each kind by good pictures ``(N, C, H, W)``: Batzner et al. 2024, section 3.4.

        Of its values one in ten becomes more than 0, and one in 200 more than 0.1.
        """
        distances = [self.distances(part).float().movedim(1, -1).flatten(0, 2) for part in torch.split(x, 16)]
        values = _some(torch.cat(distances), LOOKED_AT)
        low, high = (values.quantile(share, dim=0) for share in QUANTILES)
        self.zero, self.span = low, ((high - low) / SPAN).clamp_min(1e-12)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, 1, H, W)`` of images ``(B, C, H, W)`` in [-1, 1]: 0 and below is as usual, 1 is far from it."""
        by_kind = (1, -1, 1, 1)
        scaled = (self.distances(x).float() - self.zero.view(by_kind)) / self.span.view(by_kind)
        maps = scaled.mean(1, keepdim=True)
        return F.interpolate(maps, x.shape[-2:], mode="bilinear", align_corners=False)


class StudentTeacher(FaultMaps):
    """Where a student fails to say what its teacher says: Bergmann et al. 2020 (arXiv 1911.02357), eq. 6.

    Of an ``Autoencoded`` student also where it fails to predict its autoencoder, which sees the image as a whole:
    Batzner et al. 2024 (arXiv 2303.14535), section 3.3.

    Args:
        student: trained on good pictures alone.
        teacher: gives features of the same shape, normalised.
    """

    def __init__(self, student: Net, teacher: Net) -> None:
        super().__init__(2 if isinstance(student, Autoencoded) else 1)
        self.student, self.teacher = student, teacher

    def with_student(self, student: Net) -> "StudentTeacher":
        """The same on the same scale, of another student that holds what this one does."""
        other = StudentTeacher(student, self.teacher)
        other.zero, other.span = self.zero, self.span
        return other

    def distances(self, x: Tensor) -> Tensor:
        """The means over channels of the squared differences, ``(B, 1, h, w)``, or ``(B, 2, h, w)`` with both."""
        if not isinstance(self.student, Autoencoded):
            return _apart(self.student(x), self.teacher(x))
        local, predicted, encoded = self.student.get_submodule(self.student.together)(x).chunk(3, dim=1)
        return torch.cat([_apart(local, self.teacher(x)), _apart(predicted, encoded)], dim=1)


class Neighbours(FaultMaps):
    """How far each place's features are from the nearest of good pictures: Roth et al. 2022 (arXiv 2106.08265), eq. 6.

    Args:
        net: gives features ``(B, D, h, w)``.
        good: good pictures ``(N, C, H, W)``.
        most: how many of their places are kept, drawn at random.
    """

    def __init__(self, net: Net, good: Tensor, *, most: int = 10_000) -> None:
        super().__init__()
        self.net = net
        with torch.no_grad():
            known = torch.cat([self._places(part) for part in torch.split(good, 16)])
        self.register_buffer("known", _some(known, most))

    def _places(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x).float()
        return features.movedim(1, -1).flatten(0, 2)

    def distances(self, x: Tensor) -> Tensor:
        """The mean over channels of the squared difference to the nearest, ``(B, 1, h, w)``."""
        features: Tensor = self.net(x).float().movedim(1, -1)
        known = self.get_buffer("known")
        nearest = torch.stack([torch.cdist(each.flatten(0, 1), known).amin(1) for each in features])
        return nearest.square().view(features.shape[:-1])[:, None] / features.shape[-1]


class Given(FaultMaps):
    """Maps ``(B, 1, H, W)`` as any net gives them: a detector under another runtime."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def distances(self, x: Tensor) -> Tensor:
        """The maps."""
        maps: Tensor = self.net(x)
        return maps


def heat(maps: Tensor) -> Tensor:
    """Maps ``(B, 1, H, W)`` in colours, ``(B, 3, H, W)`` in [-1, 1], from black at 0 to the brightest at 0.5."""
    from matplotlib import colormaps

    share = (maps[:, 0] / BRIGHTEST).clamp(0, 1).cpu().numpy()
    return 2 * torch.from_numpy(colormaps["magma"](share)[..., :3]).float().movedim(-1, 1) - 1


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """The mean over channels of the squared difference, ``(B, 1, h, w)``."""
    return (a - b).square().mean(1, keepdim=True)


def _some(rows: Tensor, most: int) -> Tensor:
    """At most so many rows, the same ones of as many."""
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:most].to(rows.device)]


__all__ = ["Autoencoded", "FaultMaps", "FeatureMaps", "Given", "Neighbours", "StudentTeacher", "heat"]
