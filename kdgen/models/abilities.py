"""What some nets can do or say beside being called, as protocols: none has to, and each is asked for by these names.

Four stand beside what reads them: ``Conditioned`` (which conditions a net reads), ``Layered`` (which layers are worth
reading), ``Shaped`` (which sizes it takes) and ``Around`` (by whose names files hold its weights).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn

from kdgen.diffusion.prediction import Timesteps
from kdgen.models.input_shape import Shaped
from kdgen.models.parts import Drawn
from kdgen.registry import Spec
from kdgen.types import Net
from kdgen.utils.conditions import Conditioned, conditions_of
from kdgen.utils.hooks import Layered


@runtime_checkable
class Channelled(Protocol):
    """A net that says what images it is for.

    Attributes:
        channels: of its images, 1 grey or 3 colour.
    """

    channels: int


@runtime_checkable
class Predicting(Protocol):
    """A net that says what its layers give; any other gives the image.

    Attributes:
        predicts: ``image``; ``residual``, what is to be subtracted from the input; or the word of a diffusion model's
            scheduler, such as ``epsilon``.
    """

    predicts: str


@runtime_checkable
class Latent(Protocol):
    """A net that reads or gives latents, and says how many of the channels they are.

    Attributes:
        latent_channels: channels Z of its latents. What an encoder gives beyond these, logarithms of variances say, is
            left out where latents are compared or decoded.
    """

    latent_channels: int


@runtime_checkable
class Encoding(Protocol):
    """A net that encodes by a method; see ``encodes``."""

    def encode(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` to latents ``(B, Z, ...)``, or to their means and logarithms of variances."""
        ...


@runtime_checkable
class Decoding(Protocol):
    """A net that decodes by a method; see ``decodes``."""

    def decode(self, z: Tensor) -> Tensor:
        """Latents ``(B, Z, ...)`` to images ``(B, C, H, W)``."""
        ...


@runtime_checkable
class Autoencoder(Encoding, Decoding, Latent, Protocol):
    """A net with latents between two halves; called as a whole it gives the image back."""


@runtime_checkable
class Halved(Protocol):
    """An autoencoder that says which of its modules one half alone uses.

    Attributes:
        halves: dotted paths of these modules, under ``encoder`` and ``decoder``. They are left out of the other half,
            so that its parameters and bytes are its own.
    """

    @property
    def halves(self) -> Mapping[str, Sequence[str]]: ...  # noqa: D102


@runtime_checkable
class Generating(Protocol):
    """A net with a way of its own to draw."""

    def generate(
        self,
        num_images: int,
        *,
        seed: int = 0,
        num_steps: int | None = None,
        label: Tensor | None = None,
        progress: Drawn | None = None,
    ) -> Tensor:
        """Images ``(num_images, C, H, W)`` in [-1, 1] of classes ``(num_images,)``; ``progress`` is told how many."""
        ...


@runtime_checkable
class Guided(Protocol):
    """A net of a pipeline that draws what it is told, guided: words, if ``words`` is among its conditions, or a class.

    Attributes:
        latent_channels: channels Z of the latents that it draws in.
    """

    latent_channels: int

    def generate(
        self,
        num_images: int,
        *,
        seed: int = 0,
        num_steps: int | None = None,
        label: Tensor | None = None,
        prompts: Sequence[str] | None = None,
        guidance: float | None = None,
        progress: Drawn | None = None,
    ) -> Tensor:
        """Images as ``Generating`` gives them, of the prompts in turn; without ``guidance`` the pipeline's own."""
        ...

    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """What words say, by the name of each condition, ``(N, ...)`` of N prompts."""
        ...


@runtime_checkable
class Sampled(Protocol):
    """A net whose own way to draw calls a module within, and not the net."""

    def sampled_module(self) -> nn.Module:
        """That module, called once for each call of the net that an image costs."""
        ...


@runtime_checkable
class Stepping(Protocol):
    """A net whose scheduler says at which noise levels it draws in few steps."""

    def few_levels(self, num_steps: int) -> Tensor:
        """These levels, ``(num_steps + 1,)`` in float64, from noise alone down to 0; see ``few_levels`` of sampling."""
        ...


@runtime_checkable
class Timed(Protocol):
    """A net that counts time by noise levels of a table, or of a flow.

    Attributes:
        timesteps: that table; None of a flow.
    """

    timesteps: Timesteps | None


@runtime_checkable
class Scheduled(Protocol):
    """A net that draws by a scheduler of diffusers.

    Attributes:
        scheduler: that scheduler; ``config.num_train_timesteps`` is the most steps that it takes.
    """

    scheduler: Any


@runtime_checkable
class Stored(Protocol):
    """A net that is saved as files of another library, in place of kdgen's `model.safetensors`."""

    def save_files(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write what the other library opens into a student folder, which is there, its weights in ``dtype``."""
        ...

    def load_files(self, folder: Path) -> None:
        """Read the weights of such a folder. Raises UserError if they are damaged or do not fit."""
        ...


@runtime_checkable
class Specified(Protocol):
    """A net that knows how it is built, where folding makes it one of other arguments.

    Attributes:
        use: the registered name and all arguments.
    """

    use: Spec


@runtime_checkable
class Folding(Protocol):
    """A net, or a part of one, with a simpler form for use than for training."""

    def folded(self) -> nn.Module:
        """What takes its place: in evaluation it gives the same, up to rounding."""
        ...


@runtime_checkable
class Reparameterised(Folding, Protocol):
    """A part that has more weights in training than in use, where it is what it folds into.

    Attributes:
        gain: how many times as many channels it has within.
    """

    gain: int


@runtime_checkable
class Inheriting(Protocol):
    """A net with a way of its own to start from a teacher."""

    def inherit(self, teacher: nn.Module) -> None:
        """Take over weights of a teacher, in place. Raises UserError for one that does not fit."""
        ...


@runtime_checkable
class Descended(Protocol):
    """A net that knows which layers of a larger one of its kind its own are."""

    def origins(self, teacher: nn.Module) -> Mapping[str, str]:
        """By the dotted paths of its layers those of a teacher's that they come from; none where they do not."""
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


@runtime_checkable
class Opaque(Protocol):
    """A net that another runtime computes: it gives answers, and neither gradients nor layers; see ``opaque``.

    Attributes:
        num_weights: values of its weights, which are no parameters.
        num_bytes: of its file.
    """

    num_weights: int
    num_bytes: int

    def macs(self, x: Tensor) -> int:
        """Multiply-accumulates of a call on ``x``; 0 where they are not known."""
        ...


def opaque(net: Net) -> list[Opaque]:
    """The modules of a net that another runtime computes."""
    return [module for module in net.modules() if isinstance(module, Opaque)]


def reads_words(net: Net) -> TypeGuard[Guided]:
    """Whether a net draws what words ask for, and not only a class or whatever it was trained on."""
    return isinstance(net, Guided) and "words" in (conditions_of(net) or ())


def encodes(net: Net) -> TypeGuard[Encoding]:
    """Whether a net encodes: by a method, or by a module within of that name, which not every Python finds by type."""
    return (isinstance(net, Encoding) or Encoding.encode.__name__ in net._modules) and callable(net.encode)


def decodes(net: Net) -> TypeGuard[Decoding]:
    """Whether a net decodes, likewise."""
    return (isinstance(net, Decoding) or Decoding.decode.__name__ in net._modules) and callable(net.decode)


__all__ = ["Adopting", "Autoencoder", "Channelled", "Conditioned", "Decoding", "Encoding", "Folding",
           "Generating", "Guided", "Halved", "Inheriting", "Latent", "Layered", "Opaque", "Predicting",
           "Reparameterised", "Sampled", "Scheduled", "Shaped", "Specified", "Stored", "Wrapper", "decodes", "encodes",
           "opaque", "reads_words"]  # fmt: skip
