"""Be taken for the teacher by a critic that learns alongside."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from kdgen.critics import Critic, Game, GameLoss, Projected, check_game
from kdgen.methods.asking import check_outputs
from kdgen.methods.pairing import outputs
from kdgen.model import load
from kdgen.registry import register
from kdgen.types import Batch, Method, Net, View


@register("method")
class Adversarial(Method):
    """Look like the teacher's images to a critic that learns alongside, after Wang et al. 2018 (arXiv 1803.10750).

    The game is ``kdgen.critics.Game`` with the teacher's images, resampled to the student's size, as the real ones.
    The critic looks at images (``kdgen.critics.Critic``) or at fixed features of them (``kdgen.critics.Projected``),
    spectrally normalised for ``hinge`` and plain for ``relativistic``.

    Args:
        width: of the critic's first layer.
        loss: ``hinge`` or ``relativistic``.
        penalty: weight of the critic's squared gradient, in units of images in [-1, 1]; 0 for none, which suits
            ``hinge`` alone: ``relativistic`` wants about 1.
        every: steps from one penalty to the next.
        augment: show the critic augmented images, which helps where they are few.
        projected: judge feature maps of the small net ``features32`` that ships with kdgen, not pixels.

    Raises:
        UserError: for numbers out of range; in ``attach`` for outputs that are not images of like channels.
    """

    game: Game

    def __init__(
        self,
        width: int = 32,
        loss: GameLoss = "hinge",
        penalty: float = 0.0,
        every: int = 8,
        augment: bool = False,
        projected: bool = False,
    ) -> None:
        super().__init__()
        check_game("adversarial", width=width, loss=loss, penalty=penalty, every=every)
        self.width, self.kind, self.projected = width, loss, projected
        self.penalty, self.every, self.augment = penalty, every, augment

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Make a critic for the student's images. Raises UserError where the outputs are no images of like channels."""
        ours, theirs = outputs(student, teacher, batch)
        check_outputs("adversarial", ours, theirs, images=True)
        normalized = self.kind == "hinge"
        critic: nn.Module
        if self.projected:
            critic = Projected(_maps(ours), ours, self.width, normalized=normalized)
        else:
            critic = Critic(ours.shape[1], (ours.shape[2], ours.shape[3]), self.width, normalized=normalized)
        game = Game(critic, loss=self.kind, penalty=self.penalty, every=self.every, augment=self.augment)
        self.game = game.to(ours.device)

    def loss(self, view: View) -> Tensor:
        """What the student wants small: ``(B,)``, below zero where the critic of ``hinge`` is taken in."""
        return self.game.student_loss(view.student, view.teacher)

    def critic_loss(self, view: View) -> Tensor:
        """What the critic wants small, ``(B,)``."""
        return self.game.critic_loss(view.student, view.teacher)

    def critics(self) -> Iterator[nn.Parameter]:
        """The critic's parameters; those of the feature net are fixed."""
        return self.game.learning()


def _maps(images: Tensor) -> Callable[[Tensor], Sequence[Tensor]]:
    """The feature maps of ``features32``, where the images are; grey ones are repeated to three channels."""
    net: Any = load("features32").net.requires_grad_(False).eval().to(images.device)
    return lambda x: net.maps(x.expand(-1, 3, -1, -1))
