"""Models of latents: the numbers of plain diffusers by many schedulers, and what each is told."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from latent_parts import XL, scheduler
from latent_pipelines import (
    FAMILIES,
    PIPELINES,
    WORDS,
    drawn,
    model,
    own_generators,
    read,
    through,
    told,
    whole,
)

import kdgen.tasks  # noqa: F401
from kdgen import registry
from kdgen.models.adapters.flux import Flux, packed, unpacked
from kdgen.models.adapters.latent_model import LatentModel, unscaled
from kdgen.types import UserError

TABLES = ("DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "PNDMScheduler", "LCMScheduler")
FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler")
STABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def adapted(pipe: Any, **more: Any) -> LatentModel:
    """The adapter around the model and the scheduler of a pipeline of plain diffusers."""
    kind: Any = registry.get("adapter", FAMILIES[type(pipe).__name__])
    net: LatentModel = kind(pipe.components[kind.part], pipe.scheduler, type(pipe).__name__, **more)
    return net.eval()


def parity(pipe: Any) -> float:
    """How far a pipeline's pictures are from those where its model answers through the adapter."""
    name = type(pipe).__name__
    net = adapted(pipe, **({"size": 8} if name == "FluxPipeline" else {}))
    plain = drawn(pipe)
    assert plain.std() > 0.01
    with through(name, net):
        return float((drawn(pipe) - plain).abs().max())


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_pipeline_draws_the_same_through_the_adapter(pipeline: str) -> None:
    assert parity(whole(pipeline, words=False)) < 1e-4


@WORDS
@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
def test_it_does_with_other_tables_and_predictions(kind: str, predicts: str) -> None:
    config = {**STABLE, "prediction_type": predicts, **({"clip_sample": False} if kind == "DDIMScheduler" else {})}
    pipe = whole("StableDiffusionPipeline", words=False, scheduler=getattr(diffusers, kind)(**config))
    assert parity(pipe) < 1e-4


@WORDS
@pytest.mark.parametrize("kind", FLOWS)
def test_it_does_with_other_steps_along_a_flow(kind: str) -> None:
    made = getattr(diffusers, kind)(shift=3.0)
    assert parity(whole("StableDiffusion3Pipeline", words=False, scheduler=made)) < 1e-4


@WORDS
@pytest.mark.parametrize("kind", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_it_does_with_schedulers_of_tables_that_step_along_a_flow(kind: str) -> None:
    made = getattr(diffusers, kind)(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    assert parity(whole("SanaPipeline", words=False, scheduler=made)) < 1e-4


@WORDS
@WORDS
@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
def test_one_that_edm_preconditions_draws_the_same_by_its_levels_and_denoised_latents(predicts: str) -> None:
    scheduler = diffusers.EDMEulerScheduler(prediction_type=predicts)
    pipe = whole("StableDiffusionXLPipeline", words=False, scheduler=scheduler)
    net = adapted(pipe)
    given = told("StableDiffusionXLPipeline")
    plain = pipe(**given, num_inference_steps=4, guidance_scale=1.0, output_type="latent",
                 generator=own_generators(1, 2)).images  # fmt: skip
    noise = torch.cat([torch.randn(1, *plain.shape[1:], generator=each) for each in own_generators(1, 2)])
    x = noise * (scheduler.config.sigma_max**2 + 1) ** 0.5  # as its pipeline begins
    sizes = torch.tensor([16.0, 16, 0, 0, 16, 16]).expand(2, -1)
    cond = {"words": given["prompt_embeds"], "pooled": given["pooled_prompt_embeds"], "sizes": sizes}
    levels = net.levels(4).float()
    with torch.no_grad():
        for high, low in pairwise(levels):
            x = x + (low - high) * (x - net(x, sigma=high.expand(2), **cond)) / high
    torch.testing.assert_close(x, plain, atol=1e-4, rtol=1e-4)


def test_it_does_where_guidance_is_not_among_the_inputs_of_flux() -> None:
    bare = model("FluxPipeline", guidance_embeds=False)
    assert "guidance" not in adapted(whole("FluxPipeline", words=False, transformer=bare)).conditions
    assert parity(whole("FluxPipeline", words=False, transformer=bare)) < 1e-4


def test_a_pixart_of_large_pictures_is_told_their_size() -> None:
    large = model("PixArtAlphaPipeline", use_additional_conditions=True, num_attention_heads=3, cross_attention_dim=12)
    kind: Any = registry.get("adapter", "pixart")
    net = kind(large, scheduler("PixArtAlphaPipeline"), "PixArtAlphaPipeline").eval()
    seen: list[Any] = []
    large.register_forward_pre_hook(lambda m, args, given: seen.append(given["added_cond_kwargs"]), with_kwargs=True)
    with torch.no_grad():
        net(torch.randn(2, 4, 8, 16), sigma=torch.ones(2), words=torch.randn(2, 5, 12), words_mask=torch.ones(2, 5))
    assert seen[0]["resolution"].tolist() == [[64.0, 128.0]] * 2
    assert seen[0]["aspect_ratio"].tolist() == [[0.5]] * 2


def test_latents_of_flux_are_packed_as_its_pipeline_does() -> None:
    pytest.importorskip("transformers", reason="diffusers has no FluxPipeline without: pip install 'kdgen[text]'")
    z = torch.randn(2, 4, 6, 10)
    assert torch.equal(packed(z), diffusers.FluxPipeline._pack_latents(z, 2, 4, 6, 10))
    assert torch.equal(unpacked(packed(z), 3, 5), z)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_levels_are_those_at_which_the_pipeline_steps(pipeline: str) -> None:
    pipe = whole(pipeline, words=False)
    net = adapted(pipe, **({"size": 8} if pipeline == "FluxPipeline" else {}))
    seen: list[Any] = []
    net.model.register_forward_pre_hook(
        lambda module, args, given: seen.append(read(pipeline, net, args, given)[1]), with_kwargs=True
    )
    drawn(pipe)
    times = torch.stack([torch.as_tensor(t).double().reshape(-1)[0] for t in seen])
    levels = net.levels(4)
    assert levels.shape == (5,)
    assert levels[-1] == 0
    at = levels[:-1] / (1 + levels[:-1]) * 1000 if net.timesteps is None else net.timesteps.timestep(levels[:-1])
    torch.testing.assert_close(at, times, atol=0.3, rtol=1e-4)  # a time of 1 counts as a little less


def test_dit_is_guided_from_no_class_and_drops_none_by_itself() -> None:
    dit: Any = registry.get("net", "dit")
    net = dit(size=4, depth=1).train()
    assert net.null()["label"] == 1000
    x, told = torch.randn(2, 4, 4, 4), {"sigma": torch.ones(2), "label": torch.tensor([1, 1000])}
    torch.testing.assert_close(net(x, **told), net(x, **told))
    with pytest.raises(UserError, match="plain diffusers guides a DiT of 1000 classes alone, not one of 10"):
        dit(size=4, depth=1, num_classes=10).called_with(None, 3.0)


def test_what_a_model_is_told_is_checked() -> None:
    net: Any = registry.get("net", "stable_diffusion")(size=8, block_out_channels=[8, 8], words_dim=8)
    x, sigma, words = torch.randn(1, 4, 8, 8), torch.ones(1), torch.zeros(1, 3, 8)
    with pytest.raises(UserError, match="is told sigma, words: call it with words"):
        net(x, sigma=sigma)
    with pytest.raises(UserError, match="does not read 'label'"):
        net(x, sigma=sigma, words=words, label=torch.zeros(1))
    with pytest.raises(UserError, match="the number of steps is from 1 to 1000, not 2000"):
        net.levels(2000)
    with pytest.raises(UserError, match="is told the timestep and words"):
        registry.get("net", "stable_diffusion")(config=model(XL).config)
    with pytest.raises(UserError, match="uses flow sigmas for a model of flows"):
        registry.get("net", "sana")(scheduler={"_class_name": "UniPCMultistepScheduler"})
    with pytest.raises(UserError, match="that gives 4 is not one that draws by itself"):
        registry.get("net", "stable_diffusion")(config={**model("StableDiffusionPipeline").config, "in_channels": 9})


def test_flux_draws_at_the_size_that_it_was_given() -> None:
    flux: Any = registry.get("net", "flux")
    net = flux(size=8, depth=1, single_depth=1)
    assert isinstance(net, Flux)
    assert (net.size, net.describe()["size"]) == (8, 8)


@pytest.mark.parametrize(
    "pipeline", [pytest.param("StableDiffusionPipeline", marks=WORDS), pytest.param(XL, marks=WORDS)]
)
def test_pictures_are_encoded_to_the_latents_that_are_decoded(pipeline: str, tmp_path: Path) -> None:
    """With a scale alone, and with means and deviations of channels."""
    pipe = whole(pipeline)
    pipe.save_pretrained(tmp_path / "pipe")
    net = adapted(pipe)
    net.remember(tmp_path / "pipe")
    assert net.picture_size() == 16
    x = torch.rand(3, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        plain = pipe.vae.encode(x).latent_dist.mode()
    torch.testing.assert_close(unscaled(net.to_latents(x), pipe.vae.config), plain)
    torch.testing.assert_close(net.pictures(net.to_latents(x)), pipe.vae.decode(plain).sample.detach().clamp(-1, 1))
