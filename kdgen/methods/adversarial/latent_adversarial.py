"""Be taken for the teacher's own latents by small critics on what the teacher itself sees in them."""

from collections.abc import Iterator, Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from kdgen.diffusion import unguided
from kdgen.diffusion.few_steps import ImageSampler, Table, trailing_sigmas
from kdgen.methods.few_step.rollout import backward_simulation, check_diffusion, computing_like, conditions, noised
from kdgen.methods.layer_matching import layers
from kdgen.models.discriminators import frozen
from kdgen.models.sampling import few_levels
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net, UserError, text
from kdgen.types.arguments import Count, Positive
from kdgen.utils.conditions import call
from kdgen.utils.devices import Autocast
from kdgen.utils.hooks import capture_outputs


class Heads(nn.Module):
    """A critic for each of several layers, which judges every place of it.

    Args:
        channels: of each layer, by its path.
        width: of each critic.
    """

    def __init__(self, channels: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.paths = list(channels)
        self.critics = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, count), spectral_norm(nn.Conv1d(count, width, 1)), nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv1d(width, 1, 1)),
            ) for count in channels.values()
        )  # fmt: skip

    def forward(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """Maps ``(B, C, H, W)`` or tokens ``(B, N, C)`` by path -> a judgement of each place ``(B, N)`` of each."""
        places = (places_of(features[path]).float() for path in self.paths)
        return [critic(each).flatten(1) for critic, each in zip(self.critics, places, strict=True)]


def places_of(feature: Tensor) -> Tensor:
    """Maps ``(B, C, H, W)`` or tokens ``(B, N, C)`` as ``(B, C, N)``."""
    return feature.flatten(2) if feature.dim() == 4 else feature.movedim(1, 2)


@register("method", handle="ladd")
class LatentAdversarial(Method):
    """Latent adversarial diffusion distillation (LADD), Sauer et al. 2024 (arXiv 2403.12015), section 3.

    What the student draws in ``steps`` calls and the batch's own clean latents, the teacher's as a rule, are put under
    noise of one level and shown to the teacher, under what both are told. Small critics judge what it makes of them in
    ``layers`` of its layers. The game is that of hinges (Lim & Ye 2017, arXiv 1705.02894, eq. 3-4). Images come by
    backward simulation (Yin et al. 2024, arXiv 2405.14867, section 4.5). The teacher is never asked what it would draw:
    its guidance is in the latents alone.

    The loss lives between -1 and 1, and the critics' near 2 where neither wins.

    Args:
        steps: calls that make an image.
        sampler: ``consistency`` or ``euler``.
        table: of the student's noise levels, where no scheduler says them: ``linear``, ``cosine`` or ``karras``.
        layers: how many layers are judged, at even distances to the last.
        width: of each critic.
        mean, std: of the logarithm of the noise level under which the teacher looks: high levels judge what is where,
            low ones texture (their section 4.2).

    Raises:
        UserError: for arguments that do not fit; in ``attach`` where batches have no noise level or no clean images,
            and for a teacher without layers that give maps or tokens.
    """

    heads: Heads

    reads = frozenset()
    lives = (-1.0, 1.0)

    def __init__(
        self,
        steps: Count = 1,
        sampler: ImageSampler = "consistency",
        table: Table = "linear",
        layers: Count = 4,
        width: Count = 64,
        mean: Annotated[float, Field(ge=-10, le=10)] = 1.0,
        std: Positive = 1.0,
    ) -> None:
        super().__init__()
        self.steps, self.sampler, self.table, self.num_layers, self.width = steps, sampler, table, layers, width
        self.mean, self.std, self.sigmas = mean, std, trailing_sigmas(steps, table)
        self._made: Tensor | None = None

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Make the critics. Raises UserError where batches have no noise level or no clean images."""
        check_diffusion("latent_adversarial", student, teacher, batch)
        self.sigmas = few_levels(student, self.steps, self.table)
        found = layers(teacher, batch.x, batch.cond, (3, 4))
        if not found:
            raise UserError(text("no_layers_to_judge", "latent_adversarial: no layer of the teacher gives maps or "
                                 "tokens to judge"))  # fmt: skip
        count = min(self.num_layers, len(found))
        chosen = [found[(i + 1) * len(found) // count - 1] for i in range(count)]
        channels = {each.path: each.shape[1] if len(each.shape) == 4 else each.shape[2] for each in chosen}
        self.heads = Heads(channels, self.width).to(batch.x.device)

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """What the student wants small, ``(B,)``; draws from the global generator."""
        x = self._drawn(inputs)
        self._made = x.detach()
        with frozen(self.heads):
            judged = self.heads(self._seen(inputs, x, self._levels(x)))
        return torch.stack([-each.mean(1) for each in judged]).mean(0)

    def discriminator_loss(self, inputs: DistillationInputs) -> Tensor:
        """What the critics want small, ``(B,)``."""
        assert inputs.batch.y is not None
        made, self._made = self._made, None
        with torch.no_grad():
            fake = self._drawn(inputs) if made is None else made
            sigma = self._levels(fake)
            fakes, reals = (self._seen(inputs, x, sigma) for x in (fake, inputs.batch.y.float()))
        pairs = zip(self.heads(reals), self.heads(fakes), strict=True)
        return torch.stack([F.relu(1 - real).mean(1) + F.relu(1 + fake).mean(1) for real, fake in pairs]).mean(0)

    def critics(self) -> Iterator[nn.Parameter]:
        """The critics' parameters."""
        return self.heads.parameters()

    def _drawn(self, inputs: DistillationInputs) -> Tensor:
        cond = conditions(inputs.batch)
        return backward_simulation(inputs.student_net, inputs.batch.x, cond, self.sigmas, self.sampler)[0]

    def _levels(self, like: Tensor) -> Tensor:
        return (self.mean + self.std * torch.randn(len(like), device=like.device)).exp()

    def _seen(self, inputs: DistillationInputs, x: Tensor, sigma: Tensor) -> Mapping[str, Tensor]:
        """What the teacher makes of images under noise, by layer."""
        asked = inputs.teacher_net
        net, cond = unguided(asked.net if isinstance(asked, Autocast) else asked), conditions(inputs.batch)
        noisy = noised(x, sigma, torch.randn_like(x))
        with computing_like(inputs.student_net), capture_outputs(net, self.heads.paths) as seen:
            call(net, noisy, {**cond, "sigma": sigma})
            return dict(seen)


__all__ = ["LatentAdversarial"]
