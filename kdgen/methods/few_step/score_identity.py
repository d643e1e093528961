"""Draw what the teacher draws as a whole: make its score and the student's own alike."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from kdgen.diffusion.few_steps import ImageSampler, Table
from kdgen.methods.few_step.rollout import denoise, noised
from kdgen.methods.few_step.scores import Critic, Level, Scores
from kdgen.registry import register
from kdgen.types import Net
from kdgen.types.arguments import Count, NonNegative, Positive


@register("method", handle="sid")
class ScoreIdentity(Scores):
    """Score identity distillation, SiD (Zhou et al. 2024, arXiv 2404.04057), section 4; needs no data.

    With the student's images ``x``, and ``T`` and ``F`` what teacher and critic make of ``x + sigma n``::

        loss = mean (T - F) ((T - x) - alpha (T - F)) / sg(mean |x - T|)

    It is the model-based explicit score matching loss, estimated as if the critic were exact by two identities whose
    difference ``alpha`` weighs. Gradients flow through both nets to ``x``. The scale is that of the authors' code.

    The loss lives within -0.2 and 0.2 of zero and may be negative; that it stays small and steady is all it says. It
    grows without bound where the critic has lost the student: raise ``every`` or ``discriminator_lr``.

    Args:
        alpha: 1.2 in the paper; 1 is plain identity.
        steps: calls that make an image; those before the last are made as in use, by backward simulation.
        table: of the student's noise levels, ``linear``, ``cosine`` or ``karras``.
        sampler: how the student draws, ``consistency`` or ``euler``.
        every: steps of the critic for one of the student, which rests in the others.
        critic: the net the fake score starts from, ``teacher`` or ``student``.
        sigma_min, sigma_max: noise levels at which scores are compared.
        sigma_data: standard deviation of the data.
        adversarial: weight of an adversarial head (SiDA, Zhou et al. 2024, arXiv 2410.14919), which needs data.
        width: of the head's first layer.
        shift: in place of log-uniform levels, those of uniform flow times moved towards noise by this, see ``Scores``.

    Raises:
        UserError: for arguments that do not fit; in ``attach`` where batches have no noise level.
    """

    lives = (-0.05, 0.02)

    def __init__(
        self,
        alpha: Annotated[float, Field(ge=0, le=2)] = 1.2,
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
        super().__init__("score_identity", steps=steps, table=table, sampler=sampler, every=every, critic=critic,
                         sigma_min=sigma_min, sigma_max=sigma_max, sigma_data=sigma_data, adversarial=adversarial,
                         width=width, shift=shift)  # fmt: skip
        self.alpha = alpha

    def of_student(self, teacher: Net, x: Tensor, sigma: Tensor, noise: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """The loss of the identity, ``(B,)``."""
        noisy = noised(x, sigma, noise)
        real, fake = (denoise(net, noisy, sigma, cond) for net in (teacher, self.fake))
        terms = (real - fake) * ((real - x) - self.alpha * (real - fake))
        return (terms / self.scale(x, real, sigma)).flatten(1).mean(1)
