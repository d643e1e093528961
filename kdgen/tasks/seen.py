"""Nets that are shown images as somebody sees them."""

from torch import Tensor, nn

from kdgen.data.damages.view import View
from kdgen.models.fault_maps import Autoencoded, FeatureMaps
from kdgen.types import Net
from kdgen.utils.conditions import call
from kdgen.utils.devices import device_of, evaluating


class Seen(nn.Module):
    """A net that is shown images in a view of its own; an ``Autoencoded`` one is one still.

    Args:
        net: any net.
        view: how it sees them.
        seed: of what the view draws.
    """

    conditions = None

    def __init__(self, net: Net, view: View, seed: int) -> None:
        super().__init__()
        self.net, self.view, self.seed = net, view, seed
        if isinstance(net, Autoencoded):
            self.together, self.whole = "whole", Seen(net.get_submodule(net.together), view, seed)

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        """The net's answer to its view of ``x`` ``(B, C, H, W)``."""
        return call(self.net, *self.view.after(cond, self.view.each(x, self.seed)))


def normalised(net: Net, layer: str | None, good: Tensor) -> Net:
    """The features of a net, in whatever view, normalised by good pictures ``(N, C, H, W)`` as it sees these.

    Raises:
        UserError: for a layer that it lacks, and features that are no map.
    """
    if isinstance(net, FeatureMaps):
        return net
    if isinstance(net, Seen):
        asked = normalised(net.net, layer, net.view.each(good, net.seed)[0])
        return net if asked is net.net else Seen(asked, net.view, net.seed)
    maps = FeatureMaps(net, layer).eval()
    with evaluating(net, inference=False):
        maps.fit(good.to(device_of(net)))
    return maps


__all__ = ["Seen", "normalised"]
