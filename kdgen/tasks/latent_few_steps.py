"""Students of text-to-image pipelines, told words or a class, that draw in one to a few steps."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from kdgen.diffusion import HowGuided
from kdgen.diffusion.few_steps import ImageSampler
from kdgen.models.sampling import few_levels
from kdgen.registry import register
from kdgen.tasks.drawing import fitted
from kdgen.tasks.drawn_in_few_steps import DrawnInFewSteps, Steps
from kdgen.tasks.latent_diffusion import LatentDiffusion
from kdgen.types import Net
from kdgen.types.arguments import Count, Positive, Share
from kdgen.utils.references import FilePath, ModelReference


@register("task")
class LatentFewSteps(DrawnInFewSteps, LatentDiffusion):
    """Denoise latents as in ``latent_diffusion``, and be measured by what is drawn in a few steps.

    A student draws at the levels of its own scheduler: ``euler`` is diffusers' DDIMScheduler with ``timestep_spacing``
    ``trailing``, or its FlowMatchEulerDiscreteScheduler; ``consistency`` its LCMScheduler or FlowMatchLCMScheduler.

    Args:
        model: the pipeline whose latents, words and decoder they are, the teacher as a rule.
        prompts: a list, or a text file with one a line, or the pipeline's own, see ``latent_diffusion``.
        sampler: how the student draws: ``consistency`` or ``euler``.
        steps: in how many steps; the first decides.
        first: share of each batch at the highest level.
        num_latents: how many latents are drawn to train on.
        num_steps: of the sampler by which the teacher draws, see ``latent_diffusion``.
        guidance: of the teacher, a scale or a mapping, see ``kdgen.diffusion.GuidanceSpec``; by default its ``null`` is
            the empty prompt, or no class.
        mean, std: of the logarithm of sigma, in units of the latents; levels above the highest are cut. Of a flow whose
            times are shifted, add the logarithm of the shift to the mean (Esser et al. 2024, arXiv 2403.03206, eq. 23).
        sigma_data: standard deviation of the latents, which balances the weights.
        weight: ``edm``, or ``none`` for the plain squared error.
        picture: height and width in pixels at which pictures are compared.
        num_images: how many pictures a net is measured on.
        resolution: height and width in pixels of what is drawn, see ``latent_diffusion``.
        features: extractor of the features whose distributions are compared, ``features32`` or ``inception``.
        recognise: a classifier whose classes are words, see ``latent_diffusion``.

    Raises:
        UserError: as ``latent_diffusion`` does.
    """

    alike = frozenset({LatentDiffusion.name})

    def __init__(
        self,
        model: ModelReference,
        prompts: FilePath | Sequence[str] | None = None,
        sampler: ImageSampler = "consistency",
        steps: Steps = (1, 2, 4),
        first: Share = 0.1,
        num_latents: Count = 1000,
        num_steps: Count = 20,
        guidance: HowGuided = None,
        mean: float = 0.0,
        std: Positive = 1.6,
        sigma_data: Positive = 1.0,
        weight: Literal["edm", "none"] = "edm",
        picture: Count = 32,
        num_images: Count = 256,
        features: str = "features32",
        recognise: ModelReference | None = None,
        resolution: Count | None = None,
    ) -> None:
        super().__init__(model, prompts, num_latents, num_steps, guidance, mean, std, sigma_data, weight, picture,
                         num_images, features, recognise=recognise, resolution=resolution)  # fmt: skip
        self.sampler, self.steps, self.first = sampler, tuple(steps), first
        table = self.pipeline.timesteps
        self.highest = self.pipeline.levels(1)[0].item() if table is None else table.sigma_max
        self.calls = self.steps[0] * self.calls_a_step

    def describe(self) -> dict[str, Any]:
        """What ``latent_diffusion`` says, and the steps to draw in."""
        return {**super().describe(), "num_steps": self.steps[0], "steps": list(self.steps)}

    def fingerprint(self) -> str:
        """A hash of the noise levels, the weights, the pipeline and what it is told."""
        return f"{super().fingerprint()}-{self.first}"

    def draw_teacher(self, net: Net, *, num_images: int, seed: int = 0) -> Tensor:
        """Pictures of the teacher in many steps, at the size at which they are compared."""
        return fitted(LatentDiffusion.draw(self, net, num_images=num_images, seed=seed), self.size)

    def draw_teacher_in(self, net: Net, num_steps: int, *, num_images: int, seed: int = 0) -> Tensor:
        """Pictures of the teacher in a number of steps of its own sampler."""
        latents = self._drawn_at(self.pipeline.levels(num_steps), "euler", self.as_drawn(net), num_images, seed)
        return fitted(self.pipeline.pictures(latents), self.size)

    def draw_in(self, net: Net, num_steps: int, *, num_images: int, seed: int = 0) -> Tensor:
        """Pictures of any net in a number of steps, at its own scheduler's levels; see the base."""
        sigmas = few_levels(net, num_steps, "linear")
        latents = self._drawn_at(sigmas, self.sampler_of(net), self.as_drawn(net), num_images, seed)
        return fitted(self.pipeline.pictures(latents), self.size)


__all__ = ["LatentFewSteps"]
