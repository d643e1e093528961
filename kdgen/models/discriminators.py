"""Discriminators and the games they play with a student: what adversarial methods and objectives share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from kdgen.data.diff_augment import augmented
from kdgen.types import Batch, UserError, text
from kdgen.utils.distance import resample

GanKind = Literal["hinge", "relativistic"]
Features = Callable[[Tensor], Sequence[Tensor]]


class Discriminator(nn.Module):
    """A convolutional discriminator that judges patches and the whole image.

    Convolutions with stride 2 (DCGAN, Radford et al. 2016, arXiv 1511.06434) until the image is at most 7 pixels wide,
    then two heads: one judges every patch (Isola et al. 2017, arXiv 1611.07004), the other the whole image together
    with how much the batch varies (minibatch standard deviation, Karras et al. 2018, arXiv 1710.10196, sec. 3).

    Args:
        channels: of the images.
        size: their height and width; at least one pixel each.
        width: of the first layer; it doubles with each halving up to eight times.
        normalized: divide each weight by its largest singular value (Miyato et al. 2018, arXiv 1802.05957, eq. 8).
        classes: of the images; with any, the judgement of the whole image is one of an image of its class.
    """

    def __init__(
        self, channels: int, size: tuple[int, int], width: int = 32, *, normalized: bool = True, classes: int = 0
    ) -> None:
        super().__init__()
        height, wide = size
        wrap: Callable[[nn.Module], nn.Module] = spectral_norm if normalized else nn.Identity()
        layers: list[nn.Module] = []
        last, grown = channels, width
        if min(height, wide) < 8:
            layers += [wrap(nn.Conv2d(channels, width, 3, padding=1)), nn.LeakyReLU(0.2)]
            last, grown = width, 2 * width
        while min(height, wide) >= 8:
            layers += [wrap(nn.Conv2d(last, grown, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
            last, grown = grown, min(2 * grown, 8 * width)
            height, wide = height // 2, wide // 2
        self.body = nn.Sequential(*layers)
        self.patches = wrap(nn.Conv2d(last, 1, 1))
        self.mix = wrap(nn.Conv2d(last + 1, last, 3, padding=1))
        self.whole = wrap(nn.Linear(last * height * wide, 1))
        self.classes = wrap(_embedding(classes, last)) if classes else None

    def forward(self, x: Tensor, label: Tensor | None = None) -> list[Tensor]:
        """Images ``(B, C, H, W)`` in [-1, 1] -> a judgement of each patch ``(B, N)`` and of the whole ``(B, 1)``.

        With classes, ``label`` ``(B,)`` says which.
        """
        x = self.body(x)
        spread = (x.var(0, correction=0) + 1e-8).sqrt().mean()
        mixed = F.leaky_relu(self.mix(torch.cat([x, spread.expand(len(x), 1, *x.shape[2:])], 1)), 0.2)
        return [self.patches(x).flatten(1), self.whole(mixed.flatten(1)) + _projection(self.classes, label, mixed)]


class ProjectedDiscriminator(nn.Module):
    """A small discriminator for each feature map of a fixed net: Sauer et al. 2021 (arXiv 2111.01007), eq. 4.

    The maps are mixed by fixed random 1x1 convolutions (the paper's cross-channel mixing).

    Args:
        features: images ``(B, C, H, W)`` in [-1, 1] -> feature maps ``(B, D, H, W)``; it is not trained.
        images: two or more, to learn the shapes of the maps from.
        width: of each discriminator.
        normalized, classes: as for ``Discriminator``; each discriminator judges with regard to the class.
    """

    def __init__(
        self, features: Features, images: Tensor, width: int = 32, *, normalized: bool = True, classes: int = 0
    ) -> None:
        super().__init__()
        wrap: Callable[[nn.Module], nn.Module] = spectral_norm if normalized else nn.Identity()
        self._features = (features,)  # in a tuple, so that its weights are not this module's
        with torch.no_grad():
            maps = features(images[:2])
        self.mixers, self.bodies, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.classes = nn.ModuleList()
        for found in maps:
            mixer = nn.Conv2d(found.shape[1], 2 * width, 1, bias=False).requires_grad_(False)
            nn.init.normal_(mixer.weight, std=found.shape[1] ** -0.5)
            stride = 2 if min(found.shape[2:]) >= 8 else 1
            body = wrap(nn.Conv2d(2 * width, 2 * width, 3, stride=stride, padding=1))
            self.mixers.append(mixer)
            self.bodies.append(nn.Sequential(body, nn.LeakyReLU(0.2)))
            self.heads.append(wrap(nn.Conv2d(2 * width, 1, 3, padding=1)))
            self.classes.append(wrap(_embedding(classes, 2 * width)) if classes else nn.Identity())
        self._conditional = classes > 0

    def forward(self, x: Tensor, label: Tensor | None = None) -> list[Tensor]:
        """Images ``(B, C, H, W)`` in [-1, 1] -> for each map a judgement of each of its patches, ``(B, N)``."""
        judged = []
        parts = zip(self._features[0](x), self.mixers, self.bodies, self.heads, self.classes, strict=True)
        for found, mixer, body, head, classes in parts:
            h = body(mixer(found.float()))
            judged.append(head(h).flatten(1) + _projection(classes if self._conditional else None, label, h))
        return judged


def _embedding(classes: int, width: int) -> nn.Module:
    """A vector for each class, small at first, so that the critic begins without regard to them."""
    embedding = nn.Embedding(classes, width)
    nn.init.normal_(embedding.weight, std=0.02)
    return embedding


def _projection(classes: nn.Module | None, label: Tensor | None, h: Tensor) -> Tensor | float:
    """``y^T V phi(x)``, ``(B, 1)``: Miyato & Koyama 2018 (arXiv 1802.05637), eq. 3, with ``phi`` pooled by the mean.

    Args:
        classes: the rows of ``V``; None for a critic without regard to classes.
        label: ``y``, ``(B,)``.
        h: features ``(B, D, H, W)``.
    """
    if classes is None:
        return 0.0
    assert label is not None
    projected: Tensor = (classes(label) * h.mean((2, 3))).sum(1, keepdim=True)
    return projected


class GanLoss(nn.Module):
    """What student and critic each want, and what keeps the critic tame.

    - ``hinge``: Lim & Ye 2017 (arXiv 1705.02894), eq. 3-4. The critic wants ``relu(1 - D(real)) + relu(1 + D(fake))``
      small, the student ``-D(fake)``. Meant for critics with spectral normalisation.
    - ``relativistic``: Jolicoeur-Martineau 2019 (arXiv 1807.00734) as in R3GAN (Huang et al. 2024, arXiv 2501.05441),
      eq. 2: the critic wants ``softplus(D(fake) - D(real))`` small, the student ``softplus(D(real) - D(fake))``.

    Both with ``penalty / 2 * |grad_x D(x)|^2`` at real images (R1, Mescheder et al. 2018, arXiv 1801.04406, eq. 9), the
    relativistic one at the student's too (R2), taken every few steps and then weighted by their number (StyleGAN2,
    Karras et al. 2020, arXiv 1912.04958, appendix B).

    A critic of classes is shown the label of each image: real and fake ones stand for the same labels, one by one.

    Args:
        critic: images, and labels where it judges by class -> judgements, a list of ``(B, N)``, each counting alike.
        loss: ``hinge`` or ``relativistic``.
        penalty: on the critic's gradient; 0 for none.
        every: steps from one penalty to the next.
        augment: show the critic all images shifted, partly covered, and brighter or darker (``augmented``).
    """

    steps: Tensor

    def __init__(
        self,
        critic: nn.Module,
        *,
        loss: GanKind = "hinge",
        penalty: float = 0.0,
        every: int = 8,
        augment: bool = False,
    ) -> None:
        super().__init__()
        self.critic, self.kind = critic, loss
        self.penalty, self.every, self.augment = penalty, every, augment
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def student_loss(self, fake: Tensor, real: Tensor, label: Tensor | None = None) -> Tensor:
        """What the student wants small, ``(B,)`` for its images ``(B, C, H, W)``; nothing flows to the critic."""
        real = matched(real, fake)
        labels = () if label is None else (label,)
        with frozen(self.critic):
            judged = self.critic(self._shown(fake), *labels)
            if self.kind == "hinge":
                return _mean([-d for d in judged])
            with torch.no_grad():
                others = self.critic(self._shown(real), *labels)
            return _mean([F.softplus(r - f) for f, r in zip(judged, others, strict=True)])

    def discriminator_loss(self, fake: Tensor, real: Tensor, label: Tensor | None = None) -> Tensor:
        """What the critic wants small, ``(B,)``; nothing flows to the student. Counts the steps for the penalty."""
        fake = fake.detach()
        real = matched(real.detach(), fake)
        punish = self.penalty > 0 and int(self.steps) % self.every == 0
        self.steps += 1
        fake, real = self._shown(fake), self._shown(real)
        both = self.kind == "relativistic"
        real.requires_grad_(punish)
        fake.requires_grad_(punish and both)
        labels = () if label is None else (label,)
        on_real, on_fake = self.critic(real, *labels), self.critic(fake, *labels)
        if both:
            loss = _mean([F.softplus(f - r) for f, r in zip(on_fake, on_real, strict=True)])
        else:
            loss = _mean([F.relu(1 - r) for r in on_real]) + _mean([F.relu(1 + f) for f in on_fake])
        if punish:
            slopes = squared_slope(on_real, real) + (squared_slope(on_fake, fake) if both else 0)
            loss = loss + self.every * self.penalty / 2 * slopes
        return loss

    def learning(self) -> Iterator[nn.Parameter]:
        """The critic's parameters that learn."""
        return (p for p in self.critic.parameters() if p.requires_grad)

    def _shown(self, images: Tensor) -> Tensor:
        return augmented(images) if self.augment else images


def known_labels(term: str, batch: Batch, classes: int | None) -> Tensor | None:
    """The labels that a critic of some classes judges by, ``(B,)``; None where it has no regard to them.

    Raises:
        UserError: for labels without a number of classes or the other way round, and a label beyond them.
    """
    label = batch.cond.get("label")
    if label is None:
        if classes:
            raise UserError(text("critic_no_labels", "{term}: the batches carry no labels, so there are no classes: "
                                 "leave `classes` out", term=term))  # fmt: skip
        return None
    if classes is None:
        raise UserError(text("critic_labels", "{term}: the batches carry labels: set `classes` to their number, for "
                             "a critic that judges images of a class, or to 0 for one that has no regard to it",
                             term=term))  # fmt: skip
    if classes and int(label.max()) >= classes:
        raise UserError(text("critic_label_beyond", "{term}: a label is {label}, and `classes` is {classes}: set it "
                             "to the number of classes", term=term, label=int(label.max()),
                             classes=classes))  # fmt: skip
    return label.long() if classes else None


def squared_slope(judged: Sequence[Tensor], images: Tensor) -> Tensor:
    """``|grad_x D(x)|^2`` image by image, with ``D`` the mean judgement: ``(B,)``, differentiable in the critic.

    Args:
        judged: the critic's judgements of ``images``, each ``(B, N)``.
        images: ``(B, C, H, W)``, requiring gradient.
    """
    (slope,) = torch.autograd.grad(_mean(judged).sum(), images, create_graph=True)
    return slope.square().flatten(1).sum(1)


def matched(real: Tensor, fake: Tensor) -> Tensor:
    """As many real images as there are fake ones, taken in turn, at their size: float32, antialiased."""
    if len(real) != len(fake):
        real = real[torch.arange(len(fake), device=real.device) % len(real)]
    return resample(real, fake)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through a module to its input and not into its parameters."""
    learning = [p for p in module.parameters() if p.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _mean(judged: Sequence[Tensor]) -> Tensor:
    return torch.stack([each.float().mean(1) for each in judged]).mean(0)
