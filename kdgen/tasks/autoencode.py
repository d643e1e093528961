"""Images to latents and back."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from kdgen.data import Gallery, Images, derive, make_images
from kdgen.data.source import NOTHING_TO_EVALUATE, ImageSource, no_patches, no_whole_images
from kdgen.metrics import psnr, sharpness, ssim
from kdgen.models.abilities import Autoencoder
from kdgen.models.input_shape import fitted
from kdgen.models.sampling import CALL
from kdgen.registry import register
from kdgen.tasks.drawing import Drawing
from kdgen.tasks.latents import exchanged
from kdgen.tasks.near_truth import Loss, NearTruth
from kdgen.types import Batch, Metrics, Net, Task, Text, UserError, text
from kdgen.types.arguments import Channels, Count
from kdgen.utils.devices import device_of, evaluating

BLOCK_PIXELS = 2**20
"""Pixels of the patches that a source is asked for at once."""

EXCHANGED = text(
    "exchanged",
    "The error of the latents is the mean squared difference of a net's latents to the teacher's as a share of their "
    "variance; each decoder on the other's latents is compared with the teacher's own images.",
)


@register("task")
class Autoencode(Drawing, NearTruth):
    """Give an image back that has gone through latents, as autoencoders do.

    Args:
        images: where training patches come from, ``{"name": ..., "args": {...}}``; dead leaves if not given.
        channels: of the images, 1 or 3.
        patch: height and width of patches in pixels.
        evaluate: images to evaluate on, likewise; bundled photographs if not given.
        whole: evaluate on whole images, cut to multiples of ``multiple``, in place of patches. Distributions are then
            not compared.
        multiple: what the height and width of images must be a multiple of, for the nets.
        loss: ``"charbonnier"`` (see ``loss``), ``"l1"`` or ``"l2"``.
        num_images: how many patches a net is measured on.
        features: extractor of the features whose distributions are compared, ``features32`` or ``inception``.

    Raises:
        UserError: for an argument that does not fit.
    """

    name = "autoencode"
    half: ClassVar[Literal["encoder", "decoder", "whole"] | None] = "whole"
    tiled = False
    group, usual_preset = "vae", "vae"
    usual_methods = (*Task.usual_methods, "gaussian_kl")
    primary_metric, taught_primary_metric = "psnr", "psnr@teacher"
    equivariant = True

    def __init__(
        self,
        images: ImageSource | None = None,
        channels: Channels = 3,
        patch: Count = 32,
        evaluate: ImageSource | None = None,
        whole: bool = False,
        multiple: Count = 16,
        loss: Loss = "charbonnier",
        num_images: Count = 1000,
        features: str = "features32",
    ) -> None:
        super().__init__()
        self.channels, self.size, self.num_images, self.features = channels, patch, num_images, features
        self.whole, self.multiple, self.loss_name = whole, multiple, loss
        self.source: Images = make_images(images if images is not None else {"name": "dead_leaves"})
        self.gallery: Any = make_images(evaluate if evaluate is not None else {"name": "photographs"})
        if not isinstance(self.source, Images):
            raise no_patches(self.source)
        if whole and not isinstance(self.gallery, Gallery):
            raise no_whole_images(self.gallery)
        self.images = self.gallery

    def describe(self) -> dict[str, Any]:
        """Name, size of patches and channels."""
        return {"name": self.name, "size": self.size, "channels": self.channels}

    @classmethod
    def evaluation_source(cls, args: Mapping[str, Any]) -> Any:
        """Those to evaluate on, bundled photographs if there are none."""
        return args.get("evaluate") or {"name": "photographs"}

    def fingerprint(self) -> str:
        """A hash of the description and the source of images."""
        return hashlib.sha256(repr((self.describe(), self.source.fingerprint())).encode()).hexdigest()

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches, ``x`` and ``y`` the same patches ``(B, C, patch, patch)``."""
        for y in self.patches(batch_size=batch_size, seed=seed, start=start):
            yield Batch(x=self.seen(y), y=y)

    def patches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Tensor]:
        """The images of each batch, ``(B, C, patch, patch)`` in [-1, 1], a function of seed, size and number alone.

        They are made for a block of successive batches at once, which depends on its number alone likewise.
        """
        length = max(BLOCK_PIXELS // (self.size**2 * batch_size), 1)
        block, ready = -1, tuple[Tensor, ...]()
        for number in count(start):
            if number // length != block:
                block = number // length
                drawn = derive(seed, "block", block)
                made = self.source.patches(length * batch_size, self.size, channels=self.channels, seed=drawn)
                ready = torch.split(made, batch_size)
            yield ready[number % length]

    def seen(self, y: Tensor) -> Tensor:
        """What the nets see of images ``(B, C, H, W)``."""
        return y

    def shown(self, out: Tensor) -> Tensor:
        """What a net gives as images ``(B, C, H, W)``."""
        return out

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        """The batch as it is: nothing in it is random but the images."""
        return batch

    def example(self) -> Batch:
        """What the nets see of one flat patch."""
        return Batch(x=self.seen(torch.zeros(1, self.channels, self.size, self.size)))

    def draw(self, net: Net, *, num_images: int, seed: int = 0) -> Tensor:
        """Reconstructions of the first evaluation patches, ``(num_images, C, patch, patch)`` in [-1, 1] on the CPU."""
        return torch.cat([self._through(net, y) for y in torch.split(self._real(num_images, seed), CALL)])

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """How near images stay to themselves: ``psnr`` (dB), ``ssim``, ``perceptual`` and ``sharpness``.

        ``fd_*``, ``kd_*``, ``precision``, ``recall``, ``density`` and ``coverage`` compare the distribution of the
        reconstructions with that of the patches. Those ending in ``@teacher`` compare with what the teacher makes of
        the same images; where both have latents, so do ``latent_error``, ``psnr_teacher_decoder`` and
        ``psnr_student_decoder`` (see ``exchanged``), which tell whether the halves can take the teacher's place.
        ``diversity`` and ``vendi`` are of the reconstructions alone.

        Args:
            net: any net of the task.
            reference: the teacher.
            seed: of which patches.
            limit: the first so many images only.
        """
        taught = reference if reference is not net else None
        exchange = {} if taught is None else dict(exchanged(net, taught, self.measured(seed, limit)))
        if self.whole:
            return {**self._evaluate_whole(net, taught, limit), **exchange}
        num_images = min(limit or self.num_images, self.num_images)
        truth, out = self._real(num_images, seed), self.draw(net, num_images=num_images, seed=seed)
        figures = self._distribution(out, truth) | self._agreement(out, truth)
        if taught is not None:
            target = self._answers(taught, num_images, seed)
            beside = self._distribution(out, target) | self._agreement(out, target)
            figures |= {f"{key}@teacher": value for key, value in beside.items()} | exchange
        return figures | (self._variety(out) if num_images > 1 else {})

    def describe_evaluation(self, *, reference: Net | None = None, seed: int = 0) -> Text:
        """On how many images of which size, and with which seed."""
        if self.whole:
            on = text("measured_whole", "Measured on whole images, cut to multiples of {multiple} pixels.",
                      multiple=self.multiple)  # fmt: skip
        else:
            on = text("measured_patches", "Measured on {count:,} patches of {size}x{size} with seed {seed} (features "
                      "{features}).", count=self.num_images, size=self.size, seed=seed,
                      features=str(self.features))  # fmt: skip
        return text("sentences", "{parts: }", parts=[on, EXCHANGED]) if isinstance(reference, Autoencoder) else on

    def measured(self, seed: int, limit: int | None = None) -> Iterable[Tensor]:
        """The images that nets are measured on, ``(B, C, H, W)``: patches, or whole images one by one."""
        if self.whole:
            return self.whole_images(limit)
        return torch.split(self._real(min(limit or self.num_images, self.num_images), seed), CALL)

    def whole_images(self, limit: int | None = None) -> Iterator[Tensor]:
        """The evaluation images, each ``(1, C, H, W)``, cut in the middle to multiples of ``multiple``."""
        for name, y in islice(self.gallery.images(self.channels), limit):
            height, width = (extent // self.multiple * self.multiple for extent in y.shape[-2:])
            if not height or not width:
                raise UserError(text("image_too_small", "{name}: {image} is smaller than {multiple} pixels: leave it "
                                     "out of the images to evaluate on, or set multiple", name=self.name, image=name,
                                     multiple=self.multiple))  # fmt: skip
            top, left = (y.shape[-2] - height) // 2, (y.shape[-1] - width) // 2
            yield y[..., top : top + height, left : left + width]

    def _evaluate_whole(self, net: Net, reference: Net | None, limit: int | None) -> Metrics:
        rows = []
        for y in self.whole_images(limit):
            out = self._through(net, y)
            row = {"psnr": psnr(out, y), "ssim": ssim(out, y), "sharpness": sharpness(out, y)}
            if reference is not None:
                target = self._through(reference, y)
                row |= {"psnr@teacher": psnr(out, target), "ssim@teacher": ssim(out, target)}
            rows.append(row)
        if not rows:
            raise UserError(NOTHING_TO_EVALUATE)
        return {key: sum(row[key].item() for row in rows) / len(rows) for key in rows[0]}

    def _through(self, net: Net, y: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` through a net, in [-1, 1] on the CPU."""
        with evaluating(net):
            return self.shown(fitted(net, self.seen(y).to(device_of(net))).float().cpu()).clamp(-1, 1)
