"""What some nets can do beside being called, as protocols."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from kdgen.types import Net


@runtime_checkable
class Autoencoder(Protocol):
    """A net with latents between two halves; called as a whole it gives the image back.

    Attributes:
        latent_channels: channels Z of its latents.
    """

    latent_channels: int

    def encode(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` to latents ``(B, Z, ...)``, or to their means and logarithms of variances."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Latents ``(B, Z, ...)`` to images."""
        ...


@runtime_checkable
class Adopting(Protocol):
    """A net that is published in a form that pipelines of another library hold."""

    def adopt(self, teacher: Net) -> None:
        """Take over what pipelines ask of a teacher besides its weights, so that this net drops into its place."""
        ...


@runtime_checkable
class Wrapper(Protocol):
    """A net that only translates for another, and says so."""

    def unwrapped(self) -> tuple[Net, float, float, bool]:
        """The other net, scale and shift of the ``scale * x + shift`` that it reads, whether it gives a residual."""
        ...
