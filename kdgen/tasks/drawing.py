"""What tasks that make images share: how what a net draws is measured."""

from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.data import Images, derive
from kdgen.metrics import (
    digest,
    distances,
    extractor,
    mean_pairwise_distance,
    perceptual,
    psnr,
    sharpness_ratio,
    signs,
    ssim,
    vendi_score,
)
from kdgen.models.sampling import CALL
from kdgen.types import Batch, Metrics, Net, Task, Text, UserError, text

FEWEST = 200
"""Fewest images that a distance between distributions is worth measuring on."""


class Drawing(Task):
    """A task whose nets make images: measured by agreement with the teacher, distribution, diversity and sharpness.

    A task says how images are drawn, in ``draw``, and what data they should look like, in ``images``.

    Attributes:
        size: height and width of its images in pixels.
        num_images: how many are drawn to measure a net.
        features: the extractor of features whose distributions are compared.
        images: the data, where there is any.
        needs: conditions that a student has to read.
    """

    channels: int
    size: int
    num_images: int
    features: str
    images: Images | None = None
    equivariant = False
    quick_eval_images = 256
    needs: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Net, dict[int, Tensor]] = WeakKeyDictionary()
        self._data: dict[tuple[int, int], Tensor] = {}
        self._diversity: WeakKeyDictionary[Net, dict[int, float]] = WeakKeyDictionary()

    @property
    def primary_metric(self) -> str:  # type: ignore[override]
        """The distance between distributions: FID for Inception's features, otherwise under its extractor's name."""
        return "fid" if self.features == "inception" else f"fd_{self.features}"

    @property
    def taught_primary_metric(self) -> str:  # type: ignore[override]
        """The same, for with a teacher it is the distance to the teacher's images."""
        return self.primary_metric

    def answer_shape(self, batch: Batch) -> tuple[int, ...] | None:
        """An image ``(C, size, size)``."""
        return self.channels, self.size, self.size

    def draw(self, net: Net, *, num_images: int, seed: int = 0) -> Tensor:
        """Images of a student, ``(num_images, C, H, W)`` in [-1, 1] on the CPU; equal seeds mean equal latents."""
        raise NotImplementedError

    def draw_teacher(self, net: Net, *, num_images: int, seed: int = 0) -> Tensor:
        """Images of the teacher, as ``draw`` gives them; a task in which it draws in a way of its own says how."""
        return self.draw(net, num_images=num_images, seed=seed)

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """How near the images of a net come to the teacher's and to the data.

        ``psnr`` (dB), ``ssim`` and ``perceptual`` compare images of the same latents with the teacher's.
        ``fd_*``, ``kd_*``, ``precision``, ``recall``, ``density`` and ``coverage`` compare the distribution with that
        of as many images of the teacher from other latents, or without a teacher with the data; with both, those to
        the data end in ``@data``. ``diversity`` is the mean perceptual distance of two images, ``vendi`` the number of
        unlike ones; ``sharpness`` is the gradient energy relative to the reference's. What spoils students beside it
        is told by ``saturation``, ``contrast`` and ``diversity_ratio``, see ``kdgen.metrics.signs``.

        Args:
            net: any net of the task.
            reference: the teacher.
            seed: of the latents.
            limit: draw so many images only.
        """
        count = min(limit or self.num_images, self.num_images)
        own = self._answers(net, count, seed) if net is reference else self.draw(net, num_images=count, seed=seed)
        drawn = fitted(own, self.size)
        figures: dict[str, float] = {}
        if reference is not None:
            target = self._answers(reference, self.num_images, derive(seed, "reference"))
            if net is not reference:
                figures |= self._agreement(drawn, self._answers(reference, min(count, self.quick_eval_images), seed))
            figures |= self._distribution(drawn, target)
            if self.images is not None:
                apart = self._distribution(drawn, self._real(count, seed))
                figures |= {f"{key}@data": value for key, value in apart.items()}
        elif self.images is not None:
            figures |= self._distribution(drawn, self._real(count, seed))
        else:
            raise UserError(text("nothing_to_compare", "there is nothing to compare with: name a teacher, or give "
                                 "the task `images`"))  # fmt: skip
        variety = self._variety(drawn)
        if reference is None:
            target, theirs = (
                self._real(count, seed),
                mean_pairwise_distance(self._real(count, seed)[: self.quick_eval_images]),
            )
        else:
            theirs = self._diversity_of(reference, seed)
        ratio = variety["diversity"] / max(theirs, 1e-12)
        return figures | dict(self.recognised(drawn)) | signs(drawn, target) | {"diversity_ratio": ratio} | variety

    def recognised(self, drawn: Tensor) -> Metrics:
        """Whether images ``(N, C, H, W)`` show what was asked for, where something was and somebody can tell."""
        return {}

    def describe_evaluation(self, *, reference: Net | None = None, seed: int = 0) -> Text:
        """How many images, which seed, and a hash of the features they were compared with."""
        if reference is not None:
            target = self._answers(reference, self.num_images, derive(seed, "reference"))
            whose = text("the_teachers", "the teacher's")
        else:
            target, whose = self._real(self.num_images, seed), text("the_datas", "the data's")
        return text(
            "measured_drawn",
            "Distributions are those of {count:,} images with seed {seed} against as many of {whose} (features "
            "{features}, statistics {statistics}); diversity and the Vendi score are those of the first {first}.",
            count=self.num_images, seed=seed, whose=whose, features=str(self.features),
            statistics=digest(extractor(self.features)(target)), first=min(self.quick_eval_images, self.num_images),
        )  # fmt: skip

    def _answers(self, reference: Net, count: int, seed: int) -> Tensor:
        """The first images of the teacher at the task's size, kept for as long as it lives: it never changes."""
        known = self._known.setdefault(reference, {})
        if len(known.get(seed, ())) < count:
            known[seed] = fitted(self.draw_teacher(reference, num_images=count, seed=seed), self.size)
        return known[seed][:count]

    def _real(self, count: int, seed: int) -> Tensor:
        assert self.images is not None
        if (count, seed) not in self._data:
            drawn = self.images.patches(count, self.size, channels=self.channels, seed=derive(seed, "data"))
            self._data[count, seed] = drawn
        return self._data[count, seed]

    def _agreement(self, drawn: Tensor, target: Tensor) -> dict[str, float]:
        drawn = drawn[: len(target)]
        distance = perceptual("features32")
        with torch.inference_mode():
            apart = torch.cat(
                [distance(*pair) for pair in zip(torch.split(drawn, CALL), torch.split(target, CALL), strict=True)]
            )
        return {
            "psnr": psnr(drawn, target).mean().item(),
            "ssim": ssim(drawn, target).mean().item(),
            "perceptual": apart.mean().item(),
        }

    def _variety(self, drawn: Tensor) -> dict[str, float]:
        """How unlike the first images are: their mean perceptual distance, and how many unlike ones there seem."""
        first = drawn[: self.quick_eval_images]
        return {
            "diversity": mean_pairwise_distance(first),
            "vendi": vendi_score(extractor(self.features)(first)),
        }

    def _diversity_of(self, reference: Net, seed: int) -> float:
        """The mean perceptual distance of two of the teacher's first images, measured once."""
        known = self._diversity.setdefault(reference, {})
        if seed not in known:
            images = self._answers(reference, self.num_images, derive(seed, "reference"))
            known[seed] = mean_pairwise_distance(images[: self.quick_eval_images])
        return known[seed]

    def _distribution(self, drawn: Tensor, target: Tensor) -> dict[str, float]:
        figures = {"sharpness": sharpness_ratio(drawn, target)}
        if len(drawn) >= FEWEST:
            features = extractor(self.features)
            figures = distances(features(drawn), features(target), name=self.features) | figures
        return figures


def fitted(images: Tensor, size: int) -> Tensor:
    """Images ``(N, C, H, W)`` resampled to ``size``, with antialiasing, where they are of another."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)


__all__ = ["Drawing", "fitted"]
