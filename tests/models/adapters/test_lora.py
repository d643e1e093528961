"""LoRAs: they begin as the model they are for, are opened by plain diffusers or peft, and by no other model."""

import json
import sys
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from latent_pipelines import FAMILIES, LORA, WORDS, drawn, reopened, saved
from torch import Tensor, nn

import kdgen.tasks  # noqa: F401 - registers what models were made for
from kdgen import registry
from kdgen.hub.parcel import packed
from kdgen.models.adapters.lora import Lora
from kdgen.models.adapters.lora_base import lend
from kdgen.models.config import Config
from kdgen.models.hub_cache import publishable
from kdgen.models.loading import names_here
from kdgen.models.model import Model, build_net, load
from kdgen.registry import Spec
from kdgen.report.usage_snippets import without_kdgen
from kdgen.types import UserError

pytestmark = LORA
PIPELINES = [
    "DiTPipeline",
    *(pytest.param(name, marks=[WORDS, pytest.mark.slow]) for name in FAMILIES if name != "DiTPipeline"),
]


def made(pipeline: str, **args: Any) -> Model:
    """A LoRA for a tiny pipeline, as a student is built."""
    torch.manual_seed(1)
    net, use = build_net(Spec(name="lora", args={"model": str(saved(pipeline)), "rank": 2, **args}), channels=3)
    assert isinstance(net, Lora)
    return Model(net, name="small", channels=3, task=net.describe(), use=use).eval()


def shaken(model: Model) -> Model:
    """The same with matrices that change something."""
    with torch.no_grad():
        for parameter in model.net.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.3)
    return model


def answer(net: Any) -> Tensor:
    """What a net of latents says of the same noise, told the same."""
    random = torch.Generator().manual_seed(3)
    cond = {name: torch.rand(2, *value.shape[1:], generator=random).to(value) for name, value in net.example().items()}
    x = torch.randn(2, net.latent_channels, 8, 8, generator=random)
    with torch.no_grad():
        out: Tensor = net.eval()(x, sigma=torch.tensor([0.5, 2.0]), **cond)
    return out


def refused(pipeline: str = "DiTPipeline", **args: Any) -> str:
    with pytest.raises(UserError) as error:
        made(pipeline, **args)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_plain_diffusers_draws_what_a_saved_lora_does(
    pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = load(saved(pipeline)).net
    student = made(pipeline, alpha=4.0)
    torch.testing.assert_close(answer(student.net), answer(base), atol=1e-6, rtol=1e-6)
    shaken(student).save(Path("student"))
    assert not list(Path("student").rglob("diffusion_pytorch_model*"))
    assert all(publishable(str(file.relative_to("student"))) for file in Path("student").rglob("*") if file.is_file())
    again = load("student")
    assert torch.equal(answer(again.net), answer(student.net))
    assert not torch.allclose(answer(student.net), answer(base), atol=1e-2)
    torch.testing.assert_close(answer(load(saved(pipeline)).net), answer(base), atol=0, rtol=0)
    use = student.net.use
    assert isinstance(use, Spec)
    lines = without_kdgen("student", use, student.task)[1]
    before, opening, _ = lines.partition(f'{pipeline}.from_pretrained("{saved(pipeline)}")\n')
    assert opening
    told: dict[str, Any] = {
        "pipeline": reopened(pipeline, saved(pipeline)),
        "plain": before.rpartition("pipeline = ")[0],
    }
    plain = drawn(told["pipeline"])
    exec(told["plain"] + lines.partition(opening)[2].rpartition("\n")[0], told)
    student.net.merged().save_files(Path("whole"))
    ours, whole = reopened(pipeline, saved(pipeline)), reopened(pipeline, Path("whole"))
    setattr(ours, student.net.part, student.net.model)
    pictures = drawn(ours)
    assert (pictures - plain).abs().max() > 1e-3
    torch.testing.assert_close(drawn(told["pipeline"]), pictures, atol=1e-4, rtol=0)
    torch.testing.assert_close(drawn(whole), pictures, atol=1e-4, rtol=0)


@WORDS
@pytest.mark.parametrize("pipeline", FAMILIES)
def test_files_are_diffusers_own_where_its_pipeline_opens_them(pipeline: str) -> None:
    family: Any = registry.get("adapter", FAMILIES[pipeline])
    assert family.opens_lora == hasattr(getattr(diffusers, pipeline), "load_lora_weights")


def test_it_can_have_another_scheduler_on_the_same_table(tmp_path: Path) -> None:
    few = {"_class_name": "LCMScheduler", "original_inference_steps": 50}
    student = made("DiTPipeline", scheduler=few, targets=["to_q", "transformer_blocks.0.ff.net.2"], rank=3)
    student.save(tmp_path / "student")
    net: Any = load(tmp_path / "student").net
    base: Any = load(saved("DiTPipeline")).net
    assert type(net.scheduler).__name__ == "LCMScheduler"
    assert net.scheduler.config.original_inference_steps == 50
    assert torch.equal(net.timesteps.sigma(torch.arange(1000)), base.timesteps.sigma(torch.arange(1000)))
    assert sum("lora_A" in key for key in net.state_dict()) == 3
    lines = without_kdgen("ORG/student", Spec(name="lora", args={**net.use.args, "model": "hub:ORG/dit@abc"}), {})[1]
    assert 'DiTPipeline.from_pretrained("ORG/dit", revision="abc")' in lines
    bare = without_kdgen("ORG/student", Spec(name="lora", args={"model": "hub:ORG/dit"}), {})[1]
    assert 'DiffusionPipeline.from_pretrained("ORG/dit")\npipeline.load_lora_weights("ORG/student")\n' in bare
    assert 'pipeline.scheduler = LCMScheduler.from_pretrained("ORG/student", subfolder="scheduler")' in lines


def test_it_starts_from_the_model_it_is_for_or_another_lora_of_it() -> None:
    base, other = load(saved("DiTPipeline")).net, shaken(made("DiTPipeline"))
    student: Any = made("DiTPipeline").net
    student.inherit(base)
    assert torch.equal(answer(student), answer(base))
    student.inherit(other.net)
    assert torch.equal(answer(student), answer(other.net))
    larger: Any = made("DiTPipeline", rank=3).net
    with pytest.raises(UserError, match="a LoRA begins as the model it is for"):
        larger.inherit(other.net)
    with torch.no_grad():
        next(base.parameters()).add_(1)
    with pytest.raises(UserError, match="a LoRA begins as the model it is for"):
        larger.inherit(base)


def test_models_that_are_lent_are_not_opened_again() -> None:
    base: Any = load(saved("DiTPipeline")).net
    lend(str(saved("DiTPipeline")), base)
    lent, own = made("DiTPipeline").net, {p.data_ptr() for p in base.parameters()}
    matrices = {p.data_ptr() for p in lent.parameters() if p.requires_grad}
    assert {p.data_ptr() for p in lent.parameters()} == own | matrices
    for parameter in base.parameters():
        parameter.data = parameter.data.clone()
    lent.adopt(base)
    assert {p.data_ptr() for p in lent.parameters()} == {p.data_ptr() for p in base.parameters()} | matrices
    lent.double()
    assert all(p.dtype == torch.float32 for p in base.parameters())
    del base, lent
    two = [made("DiTPipeline").net for _ in range(2)]
    first, second = ({p.data_ptr() for p in net.parameters()} for net in two)
    assert first.isdisjoint(second)


def test_what_cannot_be_is_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = made("DiTPipeline")
    student.save(tmp_path / "student")
    config = tmp_path / "student" / "config.json"
    written = json.loads(config.read_text())
    assert not Path(written["net"]["args"]["model"]).is_absolute()
    assert (tmp_path / "student" / written["net"]["args"]["model"]).resolve() == saved("DiTPipeline").resolve()
    assert refused(fingerprint="0123").startswith("this LoRA is for another net than ")
    assert "has no layer 'to_x' that a LoRA can stand beside; the nearest: " in refused(targets=["to_x"])
    assert "and denoiser is none by itself" in refused(model="denoiser")
    assert f"{tmp_path}/student is none by itself" in refused(model=str(tmp_path / "student"))
    assert "and nowhere is not to be had: no model at 'nowhere'" in refused(model="nowhere")
    assert "has one of the schedulers" in refused(scheduler={"_class_name": "FlowMatchEulerDiscreteScheduler"})
    with pytest.raises(UserError, match=r"nothing was sent: .*student is opened with .* of this machine"):
        packed(tmp_path / "student", tmp_path / "parcel", repo="ORG/small")
    for name, here in (("hub:ORG/dit@abc", None), ("diffusion", None), ("/dit", "/dit"), ("../dit", "../dit")):
        written["net"]["args"]["model"] = name
        assert names_here(Config.model_validate(written)) == here
    written["net"]["args"] |= {"model": str(saved("DiTPipeline")), "rank": 3}
    config.write_text(json.dumps(written))
    with pytest.raises(UserError, match=r"adapter_model.safetensors does not hold the matrices that the config.json"):
        load(tmp_path / "student")
    monkeypatch.setitem(sys.modules, "peft", None)
    assert refused() == "a LoRA is made by peft, which is not installed: pip install 'kdgen[lora]'"
