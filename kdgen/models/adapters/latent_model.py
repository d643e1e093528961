"""Diffusion and flow models of latents, told words or a class, that read, draw and decode by their whole pipeline."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any, ClassVar

import torch
from torch import Tensor

from kdgen.models.adapters.latent_form import LatentForm
from kdgen.models.adapters.latent_scale import scaled, unscaled
from kdgen.models.adapters.pipeline_images import image_seeds
from kdgen.models.adapters.pipeline_parts import check_there, usual_value, whole_pipeline
from kdgen.models.parts import Drawn, at_once, in_parts
from kdgen.types import UserError, text
from kdgen.utils.conditions import check_conditions
from kdgen.utils.devices import device_of, evaluating

READ = 16
"""Prompts that are read at once."""

LONG = 2**20
"""Tokens of a prompt that no tokenizer takes: what one says that knows no end."""


class LatentModel(LatentForm):
    """A net of latents and the pipeline around it.

    A family says which parts its words take, in ``text_parts``, and what its pipeline's ``encode_prompt`` gives.

    Attributes:
        text_parts: the parts of the pipeline that read words; none of a model that is told a class.
        encoded: names of what ``encode_prompt`` returns, in order: conditions, and behind a minus what is told in their
            place where it is guided away from; an empty name is left out.
        options: what its pipeline is told in any call.
    """

    text_parts: tuple[str, ...] = ()
    encoded: tuple[str, ...] = ()
    options: ClassVar[Mapping[str, Any]] = {}

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """What words say, by the pipeline's own ``encode_prompt``: all that is told beside the noise level.

        Args:
            prompts: N of them; the empty one asks for nothing.

        Returns:
            by name, ``(N, ...)`` in float32 on the CPU, see ``shapes``.

        Raises:
            UserError: for a pipeline without tokenizers or text encoders, without transformers, and without prompts.
        """
        if not prompts or not self.text_parts:
            raise self._no_prompt() if self.text_parts else self._wordless()
        with self._whole(self.text_parts) as pipe:
            _warn_of_long(pipe, prompts)
            parts = [self._read(pipe, prompts[begin : begin + READ]) for begin in range(0, len(prompts), READ)]
            joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0] if name in self.conditions}
            rest = {name: value.expand(len(prompts), *value.shape) for name, value in self.told_always(pipe).items()}
        return {**joined, **rest}

    @torch.no_grad()
    def null(self, prompt: str = "") -> dict[str, Tensor]:
        """What is told in the place of words or a class where it is guided away from, by name, without a batch.

        Args:
            prompt: what it is guided away from, of a model of words: a negative prompt, as pipelines call it.

        Raises:
            UserError: as ``embed`` does.
        """
        if not self.text_parts:
            raise self._wordless()
        with self._whole(self.text_parts) as pipe:
            read = self._read(pipe, [prompt], away=prompt)
        away = {name: value[0] for name, value in read.items() if name.startswith("-")}
        return {name.removeprefix("-"): value for name, value in away.items()} or {
            name: value[0] for name, value in read.items()
        }

    def _read(self, pipe: Any, prompts: Sequence[str], away: str = "") -> dict[str, Tensor]:
        """What ``encode_prompt`` gives, told what the pipeline tells it by default, and what to be guided away from."""
        takes, defaults = signature(pipe.encode_prompt).parameters, _defaults(pipe)
        told = {**defaults, "prompt": [*prompts], "device": device_of(self), "num_images_per_prompt": 1,
                **({"negative_prompt": [away] * len(prompts)} if away else {}),
                "do_classifier_free_guidance": any(name.startswith("-") for name in self.encoded)}  # fmt: skip
        given = pipe.encode_prompt(**{name: value for name, value in told.items() if name in takes})
        named = zip(self.encoded, given, strict=True)
        return {name: value.float().cpu() for name, value in named if name}

    def told_always(self, pipe: Any) -> dict[str, Tensor]:
        """What its pipeline tells it beside the words, by name, for one image without a batch."""
        return {}

    def generate(
        self,
        num_images: int,
        *,
        seed: int = 0,
        num_steps: int | None = None,
        label: Tensor | None = None,
        prompts: Sequence[str] | None = None,
        guidance: float | None = None,
        progress: Drawn | None = None,
    ) -> Tensor:
        """Draw pictures with the pipeline of diffusers, the same as it draws by itself.

        The first pictures are the same however many are drawn, and up to rounding however many at once: each has a
        generator of its own, see ``image_seeds``.

        Args:
            num_images: N.
            seed: of the noise.
            num_steps: of the scheduler; by default the pipeline's own number.
            label: classes ``(N,)`` of a model that is told one; by default all in turn.
            prompts: what a model of words is asked for, in turn.
            guidance: how far from nothing towards what it is told, and past it; by default the pipeline's own.
            progress: told how many are drawn.

        Returns:
            ``(N, 3, H, W)`` in [-1, 1] on the CPU.

        Raises:
            UserError: without prompts, for a label or prompts that it is not told, for more steps than the scheduler
                has, and for a pipeline that lacks a part.
        """

        def call(pipe: Any, told: Mapping[str, Any]) -> Tensor:
            images = torch.from_numpy(pipe(**told, output_type="np").images)
            return images.movedim(-1, 1).contiguous() * 2 - 1

        return self._each(call, num_images, seed, num_steps, label, prompts, guidance, progress)

    def draw_latents(
        self,
        num_images: int,
        *,
        seed: int = 0,
        num_steps: int | None = None,
        label: Tensor | None = None,
        prompts: Sequence[str] | None = None,
        guidance: float | None = None,
        progress: Drawn | None = None,
    ) -> Tensor:
        """Draw the latents of ``generate``, ``(N, Z, h, w)`` on the CPU, as the model is trained on them."""

        def call(pipe: Any, told: Mapping[str, Any]) -> Tensor:
            return self.latents_of(pipe, told).float().cpu()

        return self._each(call, num_images, seed, num_steps, label, prompts, guidance, progress)

    def latents_of(self, pipe: Any, told: Mapping[str, Any]) -> Tensor:
        """The latents ``(B, Z, h, w)`` that a call of its pipeline draws."""
        latents: Tensor = pipe(**told, output_type="latent").images
        return latents

    def pictures(self, latents: Tensor, progress: Drawn | None = None) -> Tensor:
        """Decode latents ``(N, Z, h, w)``, scaled as the model is trained on them, to ``(N, 3, H, W)`` in [-1, 1].

        Raises:
            UserError: for a pipeline without an autoencoder.
        """
        with self._whole(("vae",)) as pipe, torch.no_grad():
            vae, where = pipe.vae, device_of(self)

            def make(begin: int, end: int) -> Tensor:
                z = unscaled(latents[begin:end].to(where, self.model.dtype), vae.config)
                return vae.decode(z).sample.float().clamp(-1, 1).cpu()  # type: ignore[no-any-return]

            most = at_once(latents[0, 0].numel() * self.reduction(pipe) ** 2)
            return torch.cat(list(in_parts(len(latents), most, make, progress)))

    def to_latents(self, pictures: Tensor) -> Tensor:
        """Encode pictures ``(N, 3, H, W)`` in [-1, 1] to latents ``(N, Z, h, w)``, the inverse of ``pictures``.

        Of what the autoencoder says the means are taken.

        Raises:
            UserError: for a pipeline without an autoencoder.
        """
        with self._whole(("vae",)) as pipe, torch.no_grad():
            vae, where = pipe.vae, device_of(self)

            def make(begin: int, end: int) -> Tensor:
                (said,) = vae.encode(pictures[begin:end].to(where, self.model.dtype), return_dict=False)
                z = said if isinstance(said, Tensor) else said.mode()
                return scaled(z, vae.config).float().cpu()

            return torch.cat(list(in_parts(len(pictures), at_once(pictures[0, 0].numel()), make)))

    def picture_size(self) -> int:
        """Height and width in pixels of what it draws. Raises UserError for a pipeline without an autoencoder."""
        return self.size * self.reduction_of_folder()

    def reduction_of_folder(self) -> int:
        """How many times higher and wider its pictures are than its latents, by the autoencoder of its folder."""
        with self._whole(("vae",)) as pipe:
            return self.reduction(pipe)

    def reduction(self, pipe: Any) -> int:
        """How many times higher and wider its pictures are than its latents."""
        return int(pipe.vae_scale_factor)

    def told(self, num_images: int, label: Tensor | None, prompts: Sequence[str] | None) -> dict[str, list[Any]]:
        """What its pipeline is told, by argument, one an image: here the prompts in turn.

        Raises:
            UserError: without prompts, and for a label that it is not told.
        """
        check_conditions(self, label=label)
        if not prompts:
            raise self._no_prompt()
        return {"prompt": [prompts[i % len(prompts)] for i in range(num_images)]}

    def called_with(self, pipe: Any, guidance: float | None) -> dict[str, Any]:
        """What its pipeline is told of all images: their size, and the guidance if any is given."""
        side = self.size * self.reduction(pipe)
        scale = {} if guidance is None else {"guidance_scale": float(guidance)}
        return {"height": side, "width": side, **self.options, **scale}

    def usual_guidance(self) -> float | None:
        """The scale at which its pipeline guides unless it is told one; None for one that guides by no second call."""
        usual: float = usual_value(self.pipeline, "guidance_scale")
        return None if "guidance" in self.conditions or usual <= 1 else float(usual)

    def _each(
        self, call: Any, num_images: int, seed: int, num_steps: int | None, label: Tensor | None,
        prompts: Sequence[str] | None, guidance: float | None, progress: Drawn | None,
    ) -> Tensor:  # fmt: skip
        """What a call of the pipeline gives for each image, as many at once as fit."""
        if num_steps is not None:
            self.check_steps(num_steps)
        told, seeds = self.told(num_images, label, prompts), image_seeds(seed, num_images)
        with self._whole(("vae", *self.text_parts)) as pipe, evaluating(self, inference=False):
            if prompts and self.text_parts:
                _warn_of_long(pipe, prompts)
            steps = {} if num_steps is None else {"num_inference_steps": num_steps}
            always = {**self.called_with(pipe, guidance), **steps}

            def make(begin: int, end: int) -> Tensor:
                own = {name: values[begin:end] for name, values in told.items()}
                generators = [torch.Generator().manual_seed(each) for each in seeds[begin:end]]
                part: Tensor = call(pipe, {**own, **always, "generator": generators})
                return part

            most = at_once((self.size * self.reduction(pipe)) ** 2)
            return torch.cat(list(in_parts(num_images, most, make, progress)))

    @contextmanager
    def _whole(self, needed: tuple[str, ...]) -> Iterator[Any]:
        """Its pipeline, with a scheduler of its own, while it is open. Raises UserError for parts that are missing."""
        folder = check_there(self.folder, needed, self.inseparable)
        own = {self.part: self.model, "scheduler": type(self.scheduler).from_config(self.scheduler.config)}
        with whole_pipeline(self.pipeline, folder, own, device_of(self), self.model.dtype) as pipe:
            yield pipe

    def _no_prompt(self) -> UserError:
        return UserError(text("needs_prompt", "a {name} draws what words ask for: give a prompt, as by --prompt 'red "
                              "heart'", name=self.inseparable))  # fmt: skip

    def _wordless(self) -> UserError:
        return UserError(text("reads_no_words", "a {name} is told a class and reads no words: leave prompts out",
                              name=self.inseparable))  # fmt: skip


def _defaults(pipe: Any) -> dict[str, Any]:
    """The arguments of a pipeline's call and what they are by default."""
    parameters = signature(type(pipe).__call__).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not Parameter.empty}


def _warn_of_long(pipe: Any, prompts: Sequence[str]) -> None:
    """Say once that prompts are longer than the pipeline reads: the longest-reading tokenizer counts, its last."""
    tokenizers = [part for name, part in sorted(pipe.components.items()) if name.startswith("tokenizer") and part]
    most = min(tokenizers[-1].model_max_length, _defaults(pipe).get("max_sequence_length") or LONG)
    long = [each for each in dict.fromkeys(prompts) if len(tokenizers[-1](each, verbose=False).input_ids) > most]
    if long:
        warnings.warn(text("prompt_cut", "the pipeline reads {most} tokens of a prompt: the end of {count} of the "
                           "prompts, {begin!r}, is left out", most=most, count=len(long),
                           begin=f"{long[0][:20]}..."), stacklevel=2)  # fmt: skip


__all__ = ["LatentModel"]
