"""Draw what the teacher draws as a whole: follow the difference of its score and the student's own."""

import torch
from torch import Tensor

from kdgen.diffusion.few_steps import ImageSampler, Table
from kdgen.methods.few_step.rollout import denoise, noised
from kdgen.methods.few_step.scores import Critic, Level, Scores
from kdgen.registry import register
from kdgen.types import Net
from kdgen.types.arguments import Count, NonNegative, Positive


@register("method", handle="dmd2")
class DistributionMatching(Scores):
    """Distribution matching distillation, DMD2 (Yin et al. 2024, arXiv 2405.14867); needs no data.

    The gradient of the divergence between the distributions of the student's images ``x`` and the teacher's is, at
    noise level ``sigma``, the difference of two scores, scaled for each image (DMD, Yin et al. 2024, arXiv 2311.18828,
    eqs. 7 and 8)::

        g = (fake(x_sigma; sigma) - teacher(x_sigma; sigma)) / mean |x - teacher(x_sigma; sigma)|

    The loss, ``mean (x - sg(x - g))^2 / 2``, has the value ``mean g^2 / 2`` and the gradient ``g`` over the number of
    pixels. Its value is how far the scores are apart, and does not fall with quality: the critic follows.

    Args:
        steps: calls that make an image; those before the last are made as in use, by backward simulation.
        table: of the student's noise levels, ``linear``, ``cosine`` or ``karras``.
        sampler: how the student draws, ``consistency`` or ``euler``.
        every: steps of the critic for one of the student, which rests in the others.
        critic: the net the fake score starts from, ``teacher`` or ``student``.
        sigma_min, sigma_max: noise levels at which scores are compared.
        sigma_data: standard deviation of the data.
        adversarial: weight of an adversarial head (DMD2, section 4.3), which needs data; 0 for none.
        width: of the head's first layer.
        shift: in place of log-uniform levels, those of uniform flow times moved towards noise by this, see ``Scores``.

    Raises:
        UserError: for arguments that do not fit; in ``attach`` where batches have no noise level.
    """

    lives = (0.05, 0.3)

    def __init__(
        self,
        steps: Count = 1,
        table: Table = "linear",
        sampler: ImageSampler = "consistency",
        every: Count = 1,
        critic: Critic = "teacher",
        sigma_min: Level = 0.05,
        sigma_max: Level = 20.0,
        sigma_data: Level = 0.5,
        adversarial: NonNegative = 0.0,
        width: Count = 32,
        shift: Positive | None = None,
    ) -> None:
        super().__init__("distribution_matching", steps=steps, table=table, sampler=sampler, every=every, critic=critic,
                         sigma_min=sigma_min, sigma_max=sigma_max, sigma_data=sigma_data, adversarial=adversarial,
                         width=width, shift=shift)  # fmt: skip

    def of_student(self, teacher: Net, x: Tensor, sigma: Tensor, noise: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """``mean (x - sg(x - g))^2 / 2``, ``(B,)``."""
        with torch.no_grad():
            noisy = noised(x, sigma, noise)
            real, fake = (denoise(net, noisy, sigma, cond) for net in (teacher, self.fake))
            target = x - (fake - real) / self.scale(x, real, sigma)
        return (x - target).square().flatten(1).mean(1) / 2
