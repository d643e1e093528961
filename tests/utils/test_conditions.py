"""What nets are told: each declares what it reads, what it does not is an error, and what is only offered is left out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from latent_pipelines import OPTIONAL, saved
from support import SMALL_UNET, drain, small_diffusion, taught_by
from support import call as command
from torch import Tensor, nn

from kdgen import from_module, registry
from kdgen.diffusion.few_steps import sample_few, trailing_sigmas
from kdgen.models.model import build_net, load
from kdgen.recipe import parse
from kdgen.registry import Spec
from kdgen.training import run
from kdgen.types import Batch, UserError
from kdgen.utils.conditions import Conditioned, call, conditions_of, nets_reading

TINY = {**SMALL_UNET, "size": 8}
IMAGE, LATENT, FOUR = (2, 1, 8, 8), (2, 6), (2, 4, 8, 8)
HOLES = torch.zeros(2, 1, 8, 8)
HOLES[:, :, 2:5, 3:6] = 1
CONDITIONS = {"sigma": torch.tensor([0.2, 0.4]), "label": torch.tensor([0, 2]), "until": torch.tensor([0.1, 0.05]),
              "mask": HOLES, "stops": torch.tensor([1.0, 2.0]), "words": torch.arange(80.0).view(2, 5, 8) % 7,
              "words_mask": torch.ones(2, 5), "pooled": torch.arange(16.0).view(2, 8) % 3,
              "sizes": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2), "guidance": torch.tensor([3.0, 1.0])}  # fmt: skip
OTHERS = {"sigma": torch.tensor([0.6, 0.3]), "label": torch.tensor([1, 0]), "until": torch.tensor([0.0, 0.0]),
          "mask": 1 - HOLES, "stops": torch.tensor([0.0, 3.0]), "words": torch.arange(80.0).view(2, 5, 8) % 5,
          "words_mask": torch.tensor([[1.0, 1, 0, 0, 0], [1.0, 1, 1, 0, 0]]),
          "pooled": torch.arange(16.0).view(2, 8) % 5, "sizes": torch.tensor([[64.0, 32, 8, 8, 32, 64]] * 2),
          "guidance": torch.tensor([5.0, 2.0])}  # fmt: skip

NETS: list[tuple[str, dict[str, Any], tuple[int, ...], set[str]]] = [
    ("dncnn", {"depth": 3, "width": 4}, IMAGE, set()),
    ("ffdnet", {"depth": 3, "width": 4}, IMAGE, {"sigma"}),
    ("unet", {"channels": 1, "widths": [4, 6], "blocks": 1}, IMAGE, {"sigma"}),
    ("unet", {"channels": 1, "widths": [4, 6], "blocks": 1, "blind": True}, IMAGE, set()),
    ("unet", {"channels": 1, "widths": [4, 6], "blocks": 1, "blind": True, "mask": True}, IMAGE, {"mask"}),
    ("unet", {"channels": 1, "widths": [4, 6], "blocks": 1, "stops": True}, IMAGE, {"sigma", "stops"}),
    ("unet", {"widths": [4, 6], "mask": True, "stops": True, "first_guess": True}, IMAGE, {"sigma", "mask", "stops"}),
    ("half_res", {"width": 4, "blocks": 1}, IMAGE, set()),
    ("half_res", {"width": 4, "blocks": 1, "sigma_map": True}, IMAGE, {"sigma"}),
    ("two_headed", {"channels": 1, "classes": 3, "widths": [4, 8]}, IMAGE, set()),
    ("patch_mlp", {"width": 8, "patch": 4, "stride": 3}, IMAGE, set()),
    ("feature_net", {"channels": 1, "width": 4}, IMAGE, set()),
    ("cifar_resnet", {"channels": 1, "width": 4, "depth": 1}, IMAGE, set()),
    ("segmenter", {"channels": 1, "widths": [4, 8], "blocks": 1}, IMAGE, set()),
    ("espnet", {"classes": 5, "second": 1, "third": 1}, IMAGE, set()),
    ("espnet_c", {"classes": 5, "second": 1, "third": 1}, IMAGE, set()),
    ("sinet", {}, IMAGE, set()),
    ("wnet", {"channels": 1, "widths": [4, 8]}, IMAGE, set()),
    ("vae", {"channels": 1, "widths": [4, 8]}, IMAGE, set()),
    ("vae_encoder", {"channels": 1, "widths": [4, 8]}, IMAGE, set()),
    ("vae_decoder", {"channels": 1, "latent": 1, "widths": [4, 8]}, IMAGE, set()),
    ("mlp_vae", {"size": 8, "hidden": 8}, IMAGE, set()),
    ("conv_generator", {"latent": 6, "size": 8, "width": 4}, LATENT, set()),
    ("conv_generator", {"latent": 6, "size": 8, "width": 4, "num_classes": 3}, LATENT, {"label"}),
    ("mlp_generator", {"latent": 6, "size": 8, "hidden": [8]}, LATENT, set()),
    ("mlp_generator", {"latent": 6, "size": 8, "hidden": [8], "num_classes": 3}, LATENT, {"label"}),
    ("unet2d", TINY, IMAGE, {"sigma"}),
    ("unet2d", {**TINY, "num_class_embeds": 3}, IMAGE, {"sigma", "label"}),
    ("unet2d", {**TINY, "until": True}, IMAGE, {"sigma", "until"}),
    ("consistency_model", {**TINY, "num_class_embeds": 3}, IMAGE, {"sigma", "label"}),
    ("score_sde", TINY, (2, 3, 8, 8), {"sigma"}),
    ("compact", {"channels": 1, "width": 4, "depth": 1, "scale": 2}, IMAGE, set()),
    ("kuwahara", {"channels": 1, "radius": 2, "passes": 1}, IMAGE, set()),
    ("edsr", {"channels": 1, "width": 4, "blocks": 1, "scale": 2}, IMAGE, set()),
    ("span", {"channels": 1, "width": 4, "scale": 2}, IMAGE, set()),
    ("autoencoder_kl", {"size": 8, "block_out_channels": [8, 8]}, IMAGE, set()),
    ("autoencoder_tiny", {"channels": 1, "width": 8}, IMAGE, set()),
    ("autoencoder_tiny", {"channels": 1, "width": 8, "half": "encoder"}, IMAGE, set()),
    ("autoencoder_dc", {"channels": 1, "latent_channels": 4, "widths": [8, 8], "head_dim": 2}, IMAGE, set()),
    ("autoencoder_kl_flux2", {"channels": 1, "latent_channels": 4, "block_out_channels": [8, 8]}, IMAGE, set()),
    ("autoencoder_kl_qwen_image", {"channels": 1, "latent_channels": 4, "width": 8, "multiples": [1, 1]}, IMAGE, set()),
    ("stable_diffusion", {"size": 8, "block_out_channels": [8, 8], "words_dim": 8}, FOUR, {"sigma", "words"}),
    ("stable_diffusion", {"size": 8, "block_out_channels": [8, 8], "words_dim": 8, "pooled_dim": 8,
                          "pipeline": "StableDiffusionXLPipeline"}, FOUR, {"sigma", "words", "pooled", "sizes"}),
    ("dit", {"size": 8, "depth": 1, "num_classes": 3}, FOUR, {"sigma", "label"}),
    ("pixart", {"size": 8, "depth": 1, "words_dim": 8}, FOUR, {"sigma", "words", "words_mask"}),
    ("stable_diffusion3", {"size": 8, "latent_channels": 4, "depth": 2, "words_dim": 8, "pooled_dim": 8}, FOUR,
     {"sigma", "words", "pooled"}),
    ("flux", {"size": 8, "latent_channels": 4, "depth": 1, "single_depth": 1, "words_dim": 8, "pooled_dim": 8}, FOUR,
     {"sigma", "words", "pooled", "guidance"}),
    ("flux", {"size": 8, "latent_channels": 4, "depth": 1, "single_depth": 1, "words_dim": 8, "pooled_dim": 8,
              "guided": False}, FOUR, {"sigma", "words", "pooled"}),
    ("sana", {"size": 8, "latent_channels": 4, "depth": 1, "words_dim": 8}, FOUR, {"sigma", "words", "words_mask"}),
    ("efficientnet_lite", {"stride": 4}, IMAGE, set()),
    ("fault_detector", {}, IMAGE, set()),
    ("efficient_ad", {"channels": 1, "features": 6, "width": 4, "stride": 4}, IMAGE, set()),
    ("patch_features", {"channels": 1, "width": 4, "stride": 4}, IMAGE, set()),
    ("lora", {"rank": 2}, FOUR, {"sigma", "label"}),
    ("timm", {"architecture": "resnet10t", "channels": 1, "num_classes": 3}, IMAGE, set()),
]  # fmt: skip


def test_all_bundled_nets_are_here() -> None:
    bundled = {name for name in registry.names("net") if registry.get("net", name).__module__.startswith("kdgen.")}
    assert bundled == {name for name, *_ in NETS}


@pytest.mark.parametrize(
    ("name", "args", "shape", "reads"),
    [pytest.param(*case, marks=OPTIONAL.get(case[0], ())) for case in NETS],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_net_reads_what_it_declares_and_refuses_the_rest(
    name: str, args: dict[str, Any], shape: tuple[int, ...], reads: set[str]
) -> None:
    torch.manual_seed(0)
    of = {"model": str(saved("DiTPipeline"))} if registry.accepts("net", name, "model") else {}
    net: nn.Module = registry.build("net", Spec(name=name, args={**of, **args})).eval()
    for parameter in net.parameters():
        if not parameter.any():  # what starts at nothing
            nn.init.normal_(parameter, std=0.3)
    assert isinstance(net, Conditioned)
    assert conditions_of(net) == reads
    x = torch.randn(shape)
    told = {key: value for key, value in CONDITIONS.items() if key in reads}
    with torch.no_grad():
        answer = net(x, **told)
        assert torch.equal(call(net, x, CONDITIONS), answer)
        for key in reads:
            assert not torch.equal(net(x, **{**told, key: OTHERS[key]}), answer), key
        for key in CONDITIONS.keys() - reads:
            with pytest.raises((TypeError, UserError), match=key):
                net(x, **{**told, key: CONDITIONS[key]})


class Named(nn.Module):
    """A module that names a condition and knows nothing of kdgen."""

    def forward(self, image: Tensor, until: Tensor) -> Tensor:
        return image + until.view(-1, 1, 1, 1)


class Anything(nn.Module):
    """A module that takes whatever it is told."""

    def forward(self, image: Tensor, **cond: Tensor) -> Tensor:
        return image


def test_what_a_module_of_the_users_own_reads_is_told_by_its_signature() -> None:
    assert conditions_of(from_module(Named())) == {"until"}
    assert conditions_of(from_module(nn.Sequential(nn.Conv2d(1, 1, 3)))) == set()
    assert conditions_of(from_module(Anything())) is None
    with pytest.raises(UserError, match=r"Anything takes any condition.*declare `conditions"):
        sample_few(Anything(), torch.zeros(IMAGE), sigmas=trailing_sigmas(1), sampler="average")


def test_nets_that_read_until_are_named() -> None:
    assert nets_reading("until") == ["unet2d with until"]
    assert {"unet2d", "conv_generator", "mlp_generator"} <= {name.split()[0] for name in nets_reading("label")}


def test_mean_flow_refuses_a_student_that_does_not_read_until() -> None:
    net = registry.build("net", Spec(name="unet2d", args=TINY))
    x, sigma = torch.zeros(IMAGE), torch.ones(2)
    method = registry.build("method", Spec(name="mean_flow", args={"until": True}))
    with pytest.raises(UserError, match=r"mean_flow with until.*Unet2d.*unet2d with until"):
        method.attach(net, net, Batch(x=x, y=x, cond={"sigma": sigma}))


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A diffusion model of grey images of 8x8, saved."""
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path / "cache"))
    return small_diffusion(tmp_path / "t")


def recipe(teacher: str, student: dict[str, Any], sampler: str, method: dict[str, Any]) -> dict[str, Any]:
    net, by = {"name": "unet2d", "args": {**TINY, **student}}, {"name": "mean_flow", "args": method}
    return {**taught_by(teacher, net, by, "few_steps", sampler=sampler, steps=[2, 1]), "init": "teacher"}


@pytest.mark.parametrize(
    ("sampler", "method", "who"),
    [("average", {}, "the task few_steps"), ("consistency", {"until": True}, "mean_flow with until")],
)
def test_a_run_whose_student_does_not_read_until_is_refused_before_anything_is_written(
    teacher: str, sampler: str, method: dict[str, Any], who: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps(recipe(teacher, {}, sampler, method)))
    assert command("distill", str(file), "--out", str(tmp_path / "run"), "--quiet") == 2
    said = capsys.readouterr().err
    assert f"{who} tells a net 'until', which this Unet2d does not read" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run" / "student").exists()


def test_average_velocities_are_learnt_drawn_and_published_by_a_net_that_is_told_until(
    teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdgen.models.adapters.unet2d import Unet2d

    told: list[Tensor | None] = []
    forward = Unet2d.forward

    def watched(self: Unet2d, x: Tensor, **cond: Tensor) -> Tensor:
        if self.until:
            told.append(cond.get("until"))
        return forward(self, x, **cond)

    student = {"until": True, "prediction_type": "v_prediction"}
    data = recipe(teacher, student, "average", {"until": True, "instant": 0.25})
    monkeypatch.setattr(Unet2d, "forward", watched)
    drain(run.distill(parse(data), tmp_path / "run"))
    monkeypatch.undo()
    ends = [until for until in told if until is not None]
    assert any((until > 0).any() for until in ends)
    assert any((until == 0).any() for until in ends)
    made = load(tmp_path / "run")
    start: Any = load(teacher).net
    x, sigma = torch.randn(IMAGE), torch.tensor([1.0, 2.0])
    fresh: Any = build_net(Spec(name="unet2d", args={**TINY, "until": True}), 1)[0]
    fresh.inherit(start)
    with torch.no_grad():
        assert torch.equal(fresh(x, sigma=sigma, until=torch.zeros(2)), start(x, sigma=sigma))
    assert made.draw(3, num_steps=2).isfinite().all()


def test_a_pipeline_tells_a_net_of_average_velocities_where_each_step_ends() -> None:
    net: Any = registry.build("net", Spec(name="unet2d", args={**TINY, "until": True}))
    seen: list[tuple[float, list[float]]] = []
    net.unet.register_forward_hook(
        lambda unet, args, told, out: seen.append((float(args[1]), told["class_labels"].tolist())), with_kwargs=True
    )
    net.generate(2, num_steps=4)
    assert seen == [(999, [749, 749]), (749, [499, 499]), (499, [249, 249]), (249, [0, 0])]
