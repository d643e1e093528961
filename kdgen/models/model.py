"""Models as users hold them: loaded from a reference, called on pictures, saved as a folder that can be published."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save as serialize
from torch import Tensor, nn

from kdgen import registry
from kdgen.models import tiling
from kdgen.models.abilities import Specified, Stored
from kdgen.models.config import Config
from kdgen.models.drawing import draw_by_name
from kdgen.models.loading import load_net
from kdgen.models.nets.fold import folded
from kdgen.models.parts import Drawn
from kdgen.models.resolution import Sizable, draw_as_told, drawing_at
from kdgen.models.task_arguments import check_settled, settled_by, task_class, task_name
from kdgen.recipe import Checkpoint
from kdgen.registry import Spec
from kdgen.types import Net, UserError, text
from kdgen.types.arguments import Sigma, check_argument
from kdgen.utils.cache import fingerprint
from kdgen.utils.conditions import check_told
from kdgen.utils.convert import from_picture, to_pictures, write_text
from kdgen.utils.devices import device_of
from kdgen.utils.references import relative


class Model(nn.Module):
    """A net and what is known of it, called on a picture of any common kind.

    Attributes:
        net: called as ``net(x, **cond) -> (B, C, H, W)`` in [-1, 1].
        name: what it is called in tables.
        channels: 1 or 3.
        task: what it was made for, the name and what its ``describe`` gives.
        use: the architecture and its arguments, None for a net that came as a module.
        home: the folder that it was loaded from, None for one that was made.
    """

    def __init__(
        self, net: Net, *, name: str, channels: int, task: Mapping[str, Any] | None = None, use: Spec | None = None
    ) -> None:
        super().__init__()
        self.net = net
        self.name = name
        self.channels = channels
        self.task = dict(task or {})
        draw_as_told(net, self.task)
        self.use = use
        self.home: Path | None = None

    def forward(self, image: Any, sigma: float | None = None, mask: Any = None, stops: float | None = None) -> Any:
        """Restore a picture; see ``__call__``."""
        x, back = from_picture(image)
        return back(self.restore(x, sigma, None if mask is None else from_picture(mask)[0] > 0, stops))

    @torch.inference_mode()
    def restore(
        self, x: Tensor, sigma: float | None = None, mask: Tensor | None = None, stops: float | None = None
    ) -> Tensor:
        """Restore images, large ones tile by tile.

        Args:
            x: ``(B, C, H, W)`` in [-1, 1]. A grey model takes colour images channel by channel; a colour model takes
                grey ones repeated.
            sigma: noise level in 8-bit units; default what the model was made for.
            mask: which pixels are missing, ``(B or 1, 1, H, W)``, true where they are; whatever ``x`` holds there. None
                are if not given.
            stops: how many times too little light there is, halved each time; none is missing if not given.

        Returns:
            ``(B, C, S H, S W)``, clamped to [-1, 1], for a model that makes images S times higher and wider.

        Raises:
            UserError: for a sigma that is no noise level, if the model was made for a range of them and none is given,
                for a mask of another size, for a mask or stops to a model that is told none, if it was not made for
                images at all, and for answers that are not finite.
        """
        made_for = task_class(self.task)
        if (made_for.reads, made_for.gives) != ("images", "images"):
            raise UserError(text("restores_nothing", "{name} restores no images, it was made to {task}: name a "
                                 "denoiser or an autoencoder", name=self.name, task=task_name(self.task)))  # fmt: skip
        self.eval()
        batch, channels = x.shape[:2]
        where = device_of(self)
        x = x.to(where)
        if channels != self.channels:
            x = x.flatten(0, 1).unsqueeze(1) if self.channels == 1 else x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        told = {"sigma": torch.full((len(x),), 2 * self._sigma(sigma) / 255, device=where)}
        if mask is not None:
            missing = self._missing(mask, x.shape)
            told["mask"] = missing.to(x).repeat_interleave(len(x) // len(missing), 0)
            x = x * (1 - told["mask"])
        if stops is not None:
            check_told(self.name, self.net, "stops")
            told["stops"] = torch.full((len(x),), float(stops), device=where)
        out = made_for.images_in(tiling.apply(self.net, x, told), self.task)
        self._check_finite(out)
        out = out.clamp(-1, 1)
        if channels != self.channels:
            out = out.view(batch, channels, *out.shape[-2:]) if self.channels == 1 else out.mean(1, keepdim=True)
        return out

    def _missing(self, mask: Tensor, shape: torch.Size) -> Tensor:
        """A mask that fits images of a shape ``(B, C, H, W)``, one for all or one each."""
        check_told(self.name, self.net, "mask")
        if mask.shape[-2:] != shape[-2:] or shape[0] % len(mask):
            (tall, wide), (height, width) = mask.shape[-2:], shape[-2:]
            raise UserError(text("mask_size", "the mask has {tall}x{wide} pixels and the image {height}x{width}: make "
                                 "it as large", tall=tall, wide=wide, height=height, width=width))  # fmt: skip
        return mask.flatten(1, -3).any(1, keepdim=True)

    def draw(
        self,
        num_images: int,
        *,
        seed: int = 0,
        num_steps: int | None = None,
        label: int | Sequence[int] | None = None,
        prompt: str | Sequence[str] | None = None,
        guidance: float | None = None,
        resolution: int | None = None,
        progress: Drawn | None = None,
    ) -> Tensor:
        """Draw images, as many at once as fit into memory.

        The same seed gives the same images on one machine, and the first of them are the same, up to the rounding of
        sums, however many are drawn.

        Args:
            num_images: how many.
            seed: of the latents or the noise.
            num_steps: steps of a diffusion model's sampler; if not given what suits it, or was made for.
            label: the class of a class-conditional model's images, or several that come in turn; all if not given.
            prompt: what a model of words is asked for, or several that come in turn; the empty one asks for nothing. If
                not given those that the model says it was taught with.
            guidance: how far a pipeline goes from nothing towards what it is told, and past it; 1 is no further, and by
                default it is what the model says that it was taught to be drawn with, or else the pipeline's own.
            resolution: height and width of a pipeline's pictures in pixels; by default what it was made for.
            progress: told, as it goes on, how many are drawn and of how many.

        Returns:
            ``(num_images, C, H, W)`` in [-1, 1] on the CPU.

        Raises:
            UserError: for a model that makes no images of its own, a label that it does not know, a model of words
                without a prompt, a prompt, guidance or a resolution to another model, a resolution that a pipeline does
                not draw, and images that are not finite.
        """
        with drawing_at(self.net, self.name, resolution):
            images = draw_by_name(self.net, self.name, self.channels, self.task, num_images, seed=seed,
                                  num_steps=num_steps, label=label, prompt=prompt, guidance=guidance,
                                  progress=progress)  # fmt: skip
        self._check_finite(images)
        return images

    def generate(
        self,
        num_images: int = 1,
        *,
        seed: int = 0,
        num_steps: int | None = None,
        label: int | Sequence[int] | None = None,
        prompt: str | Sequence[str] | None = None,
        guidance: float | None = None,
        resolution: int | None = None,
        progress: Drawn | None = None,
    ) -> list[Image.Image]:
        """Draw images as PIL images; see ``draw``."""
        return to_pictures(self.draw(num_images, seed=seed, num_steps=num_steps, label=label, prompt=prompt,
                                     guidance=guidance, resolution=resolution, progress=progress))  # fmt: skip

    def _check_finite(self, images: Tensor) -> None:
        if not images.isfinite().all():
            raise UserError(text("images_not_finite", "{name} makes images that are not finite: its weights are "
                                 "damaged, or not of this architecture", name=self.name))  # fmt: skip

    def check_sigma(self, sigma: float) -> None:
        """Refuse what is no noise level in 8-bit units; warn of one that is far from what the model was made for.

        Raises:
            UserError: with the range.
        """
        check_argument(self.name, "sigma", sigma, Sigma)
        made_for = self.task.get("sigma", sigma)
        low, high = (made_for, made_for) if isinstance(made_for, int | float) else made_for
        if not low / 2 <= sigma <= 2 * high:
            span = f"{low:g}" if low == high else text("span", "{low:g} to {high:g}", low=low, high=high)
            warnings.warn(text("sigma_is_far", "{name} was made for noise of sigma {span}, and {sigma:g} is far from "
                               "that", name=self.name, span=span, sigma=sigma), stacklevel=2)  # fmt: skip

    def _sigma(self, sigma: float | None) -> float:
        made_for = self.task.get("sigma", 25.0)
        if sigma is not None:
            self.check_sigma(sigma)
            return float(sigma)
        if isinstance(made_for, int | float):
            return float(made_for)
        raise UserError(text("say_sigma", "{name} restores noise of sigma {low:g} to {high:g}: say which, e.g. 25",
                             name=self.name, low=made_for[0], high=made_for[1]))  # fmt: skip

    def fingerprint(self) -> str:
        """A hash of architecture and weights."""
        return fingerprint(self.net)

    def save(self, folder: Path, *, dtype: torch.dtype | None = None) -> None:
        """Write the student folder, each file whole or not at all, its weights in ``dtype`` if given.

        It holds `config.json` and `model.safetensors`, folded for use; or, for a net of another library, the files
        that library opens in place of the latter. Raises UserError for a net that has no name to be built by.
        """
        if (use := self.use) is None:
            raise UserError(text("not_built_by_name", "{name} cannot be built by name: save the whole model, or "
                                 "export this as onnx", name=self.name))  # fmt: skip
        net = folded(self.net)
        if isinstance(net, Specified) and isinstance(net.use, Spec):
            use = net.use
        elif net.state_dict().keys() != self.net.state_dict().keys():
            net = self.net
        config = Config(kdgen=version("kdgen"), name=self.name, net=use, channels=self.channels, task=self.task)
        config = relative(config, folder)
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(self.net, Stored) and callable(self.net.save_files):
            self.net.save_files(folder, dtype)
        else:
            weights = {key: value.detach().cpu().to(dtype if value.is_floating_point() else None).contiguous()
                       for key, value in net.state_dict().items()}  # fmt: skip
            partial = folder / "model.safetensors.partial"
            partial.write_bytes(serialize(weights, metadata={"format": "pt"}))
            os.replace(partial, folder / "model.safetensors")
        write_text(folder / "config.json", json.dumps(config.model_dump(mode="json"), indent=2) + "\n")


def load(reference: str | os.PathLike[str] | Checkpoint | Mapping[str, Any], *, revision: str | None = None) -> Model:
    """Load a model.

    Args:
        reference: a bundled name, a run folder, a student folder, an id of the Hub (``org/name``, ``hub:org/name``), a
            restorer's file of weights, a half of a tiny autoencoder in the layout of TAESD, an ONNX file, a JSON file
            that declares a foreign checkpoint, or such a declaration itself, also as plain data.
            ``#encoder`` or ``#decoder`` behind a name means that half of an autoencoder.
        revision: branch, tag or commit of an id of the Hub; by default the newest of its main branch.

    Returns:
        the model on the CPU, in evaluation mode.

    Raises:
        UserError: if nothing lies there, or what lies there is damaged or does not fit its declaration.
        WorldError: if the Hub cannot be reached and the cache does not hold the model.
    """
    loaded = load_net(reference, revision=revision)
    model = Model(loaded.net, name=loaded.name, channels=loaded.channels, task=loaded.task, use=loaded.use)
    model.home = loaded.home
    return model.eval()


def build_net(use: Spec, channels: int, task: Mapping[str, Any] | None = None) -> tuple[Net, Spec]:
    """A net by name, and all its arguments; those that are left open and that the task settles are the task's.

    Args:
        use: the net.
        channels: of the task's images.
        task: what it says of itself. Of one that draws or classifies, nets take the size of images, the size of latents
            and the number of classes too; of one for half an autoencoder, which half, and the channels of latents.

    Raises:
        UserError: as ``registry.build`` does, and for another size or fewer classes than the task has.
    """
    settled = {"channels": channels, **settled_by(task or {})}
    known = settled.keys() & {"channels", "half"} if use.args.get("config") else list(settled)
    fitting = registry.accepted("net", use.name, {key: settled[key] for key in known})
    use = Spec(name=use.name, args={**fitting, **use.args})
    made, spelled = registry.build("net", use), registry.spelled_out("net", use)
    by_size = task_class(task or {}).draws == "noise" and not isinstance(made, Sizable)
    check_settled(spelled, settled, by_size=by_size)
    draw_as_told(made, task or {})
    return made, spelled
