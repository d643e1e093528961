"""A teacher's own images with the noise it made them of, for students that learn its trajectories."""

import hashlib
import math
from functools import cached_property

import torch
from torch import Tensor

from kdgen.cache import Array, kept_array
from kdgen.checks import check_count
from kdgen.data import derive, generator
from kdgen.devices import pick_device
from kdgen.diffusion import karras
from kdgen.diffusion.few_steps import Table, few_sigmas
from kdgen.drawing import NUM_STEPS, follow_noise, starting_noise
from kdgen.registry import register
from kdgen.tasks.samples import Samples
from kdgen.types import UserError

CLOSE = 0.25
"""How near the logarithm of a Karras level may be to one that is wanted, before it is left out."""


@register("images")
class Rollouts(Samples):
    """Images that a diffusion model made of known noise, by Heun's method on its ODE, and where they were on their way.

    They are kept on disk for later runs, states in half precision.

    Args:
        model: a diffusion model by reference: a bundled name, a run folder, a folder of diffusers' making.
        num_images: how many are drawn.
        seed: of the noise.
        num_steps: of Heun's method on a Karras schedule, to which the levels of ``steps`` are added.
        steps: states are kept at the noise levels of a student of so many steps.
        table: of those levels, ``linear`` or ``cosine``.

    Raises:
        UserError: for an argument that does not fit, a model that is of no diffusion, and a full disk.
    """

    def __init__(
        self,
        model: str,
        num_images: int = 2000,
        seed: int = 0,
        num_steps: int = NUM_STEPS,
        steps: int = 1,
        table: Table = "linear",
    ) -> None:
        super().__init__(model, num_images=num_images, seed=seed, num_steps=num_steps)
        check_count("rollouts", "steps", steps)
        task = self._model.task
        if task.get("name") != "diffuse" or not isinstance(task.get("size"), int):
            raise UserError(f"rollouts are of a diffusion model that knows the size of its images, not of {model}")
        self.shape = (self._model.channels, task["size"], task["size"])
        self.levels = few_sigmas(steps, table).tolist()
        key = f"rollouts {self.path.stem} {self.levels}"
        self.path = self.path.with_name(hashlib.sha256(key.encode()).hexdigest()[:24] + ".npy")

    def pairs(self, count: int, size: int, *, channels: int, seed: int) -> tuple[Tensor, Tensor]:
        """Images drawn at random, as by ``patches``, and their noise, both ``(count, channels, size, size)`` float32.

        Raises:
            UserError: for another size or other channels than the model's.
        """
        index = self._index(count, size, channels, seed)
        return self._images(index, None, channels), self._noise[index]

    def ways(self, count: int, size: int, *, channels: int, seed: int) -> Tensor:
        """The ways of the images of ``pairs``, ``(count, steps + 1, channels, size, size)`` float32, noise to image.

        Raises:
            UserError: for another size or other channels than the model's.
        """
        index = self._index(count, size, channels, seed)
        start = self.levels[0] * self._noise[index]
        return torch.cat([start[:, None], torch.from_numpy(self._states[index.numpy()]).float()], 1)

    def _index(self, count: int, size: int, channels: int, seed: int) -> Tensor:
        if (channels, size, size) != self.shape:
            raise UserError(f"these rollouts have {self.shape[0]} channels and {self.shape[1]} pixels: set the task's "
                            "channels and size to that")  # fmt: skip
        return torch.randint(self.num_images, (count,), generator=generator(seed, "pictures"))

    @cached_property
    def _noise(self) -> Tensor:
        return starting_noise(self.shape, self.num_images, derive(self.seed, "samples"))

    @cached_property
    def _states(self) -> Array:
        """Where the images are at each level but the first, ``(num_images, steps, C, H, W)`` float16, from disk."""
        whole = (self.num_images, len(self.levels) - 1, *self.shape)
        return kept_array(self.path.with_suffix(".states.npy"), self._follow, lambda kept: kept.shape == whole)

    def _follow(self) -> Array:
        assert self.num_steps is not None
        net = self._model.net.to(pick_device("auto"))
        wanted = self.levels[1:-1]
        others = [sigma for sigma in karras(self.num_steps).tolist()
                  if sigma == 0 or all(abs(math.log(sigma / level)) > CLOSE for level in wanted)]  # fmt: skip
        sigmas = torch.tensor(sorted([*others, *wanted], reverse=True), dtype=torch.float64)
        seed = derive(self.seed, "samples")
        states: Array = follow_noise(net, self.shape, self.num_images, seed, sigmas, self.levels[1:]).half().numpy()
        return states

    def _made(self) -> Tensor:
        return torch.from_numpy(self._states[:, -1]).float()


__all__ = ["Rollouts"]
