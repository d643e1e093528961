"""The size at which a model of latents draws: that of its configuration, or another that its pipeline takes."""

import math
from typing import Any, ClassVar

from kdgen.models.adapters.block_net import BlockNet
from kdgen.models.input_shape import InputShape
from kdgen.types import UserError, text


class LatentSize(BlockNet):
    """A net of square latents.

    Attributes:
        one_size: whether its pipeline draws at the size of its model's configuration alone.
        pixels: what its pipeline has heights and widths of pictures be multiples of.
        patch: side of the squares of latents that its model looks at, where its configuration says another.
        size: height and width of its latents.
        input_shape: that size alone, at which it is taught, though its model may take others.
    """

    inseparable: ClassVar[str]
    one_size: ClassVar[bool] = False
    pixels: ClassVar[int] = 8
    patch: ClassVar[int | None] = None
    size: int
    input_shape: InputShape

    @property
    def model(self) -> Any:
        """The model of diffusers."""
        return self.get_submodule(self.part)

    def largest(self) -> int | None:
        """The largest height and width of latents that its model knows the places of; None where it knows any."""
        return None

    def draw_at(self, size: int) -> None:
        """Have it draw latents of another height and width.

        Raises:
            UserError: for a size that its pipeline does not draw.
        """
        if size != self.size:
            self._check_size(size)
        self.size, self.input_shape = size, InputShape(fixed=(size, size))

    def _check_size(self, size: int) -> None:
        if self.one_size:
            raise UserError(text("latent_one_size", "a {name} draws at the size of its configuration alone, "
                                 "{own}x{own} latents: leave resolution out", name=self.inseparable,
                                 own=self.size))  # fmt: skip
        most, each = self.largest(), self.squares()
        if size < 1 or size % each or (most is not None and size > most):
            bound = text("latent_size_most", ", {most} at most", most=most) if most is not None else ""
            raise UserError(text("latent_size", "a {name} draws latents of a height and width that are multiples of "
                                 "{each}{bound}, not {size}: give another resolution", name=self.inseparable, each=each,
                                 bound=bound, size=size))  # fmt: skip

    def squares(self) -> int:
        """Side of the squares of latents that its model looks at, 1 where it looks at each."""
        return self.patch or int(self.model.config.get("patch_size") or 1)

    def size_for(self, resolution: int) -> int:
        """Height and width of the latents of pictures of a height and width in pixels.

        Raises:
            UserError: for what its pipeline does not draw, with what it does, and a pipeline without an autoencoder.
        """
        times = self.reduction_of_folder()
        each = math.lcm(self.pixels, times * self.squares())
        if resolution < 1 or resolution % each:
            near = max(resolution // each, 1) * each
            raise UserError(text("latent_resolution", "a {pipeline} draws pictures of a height and width that are "
                                 "multiples of {each} pixels, not {resolution}: make resolution {near}, say",
                                 pipeline=self.inseparable, each=each, resolution=resolution, near=near))  # fmt: skip
        return resolution // times

    def reduction_of_folder(self) -> int:
        """How many times higher and wider its pictures are than its latents, by the autoencoder of its folder."""
        raise NotImplementedError


__all__ = ["LatentSize"]
