"""A net that is shown images as somebody sees them."""

from torch import Tensor, nn

from kdgen.data.damages.view import View
from kdgen.types import Net
from kdgen.utils.conditions import call


class Seen(nn.Module):
    """A net that is shown images in a view of its own.

    Args:
        net: any net.
        view: how it sees them.
        seed: of what the view draws.
    """

    conditions = None

    def __init__(self, net: Net, view: View, seed: int) -> None:
        super().__init__()
        self.net, self.view, self.seed = net, view, seed

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        """The net's answer to its view of ``x`` ``(B, C, H, W)``."""
        return call(self.net, *self.view.after(cond, self.view.each(x, self.seed)))
