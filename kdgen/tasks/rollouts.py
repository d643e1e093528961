"""A teacher's own images with the noise it made them of: pairs for students that learn its trajectories' ends."""

from functools import cached_property

from torch import Tensor

from kdgen.data import derive
from kdgen.diffusion import HowGuided, guidance_of, guided, null_label
from kdgen.models.parts import listening
from kdgen.models.sampling import NUM_STEPS, denoise_noise, in_turn, starting_noise
from kdgen.models.task_arguments import task_class
from kdgen.registry import register
from kdgen.tasks.samples import Samples
from kdgen.types import UserError, text
from kdgen.types.arguments import Count
from kdgen.utils.cache import short_hash
from kdgen.utils.devices import pick_device
from kdgen.utils.references import ModelReference


@register("images")
class Rollouts(Samples):
    """Images that a diffusion model made of known noise, by Heun's method on its ODE, kept on disk for later runs.

    Args:
        model: a diffusion model by reference (a bundled name, a run folder, a folder of diffusers' making) or a
            declared checkpoint.
        num_images: how many are drawn.
        seed: of the noise.
        num_steps: of Heun's method on a Karras schedule.
        guidance: of a class-conditional model, by default as the task's teacher: a scale or a mapping, see
            ``kdgen.diffusion.GuidanceSpec``; its ``null`` is the label of no class.

    Raises:
        UserError: for an argument that does not fit, a model that is of no diffusion, and a full disk.
    """

    def __init__(
        self,
        model: ModelReference,
        num_images: Count = 2000,
        seed: int = 0,
        num_steps: Count = NUM_STEPS,
        guidance: HowGuided = None,
    ) -> None:
        super().__init__(model, num_images=num_images, seed=seed, num_steps=num_steps)
        task = self._model.task
        if task_class(task).draws != "noise" or not isinstance(task.get("size"), int):
            raise UserError(text("no_rollouts", "rollouts are of a diffusion model that knows the size of its "
                                 "images, not of {model}", model=str(model)))  # fmt: skip
        self.shape = (self._model.channels, task["size"], task["size"])
        self.guidance = guidance_of(guidance)
        self.null = null_label(self.guidance)
        key = f"rollouts {self.path.stem}" + (f" {self.guidance.model_dump_json()}" if self.guidance else "")
        self.path = self.path.with_name(f"{short_hash(key)}.npy")

    def pairs(self, count: int, size: int, *, channels: int, seed: int) -> tuple[Tensor, Tensor]:
        """Images drawn at random, as by ``patches``, and their noise, both ``(count, channels, size, size)`` float32.

        Raises:
            UserError: for another size or other channels than the model's.
        """
        if (channels, size, size) != self.shape:
            raise UserError(text("rollouts_shape", "these rollouts have {channels} channels and {size} pixels: set "
                                 "the task's channels and size to that", channels=self.shape[0],
                                 size=self.shape[1]))  # fmt: skip
        index = self._at_random(count, seed)
        return self._images(index, None, channels), self._noise[index]

    @cached_property
    def _noise(self) -> Tensor:
        return starting_noise(self.shape, self.num_images, derive(self.seed, "samples"))

    def _made(self) -> Tensor:
        net = guided(self._model.net.to(pick_device("auto")), self.guidance, self.null)
        assert self.num_steps is not None
        seed = derive(self.seed, "samples")
        told = in_turn(self.num_classes, None)
        drawn = denoise_noise(net, self.shape, self.num_images, seed, self.num_steps, told, listening())
        return drawn.clamp(-1, 1)


__all__ = ["Rollouts"]
