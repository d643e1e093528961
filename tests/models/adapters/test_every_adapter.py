"""What every registered adapter keeps to, for each class of diffusers that it opens, on tiny models."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import documented
import pytest
import torch
from latent_pipelines import FAMILIES, WORDS, reopened, whole
from latent_pipelines import model as tiny
from PIL import Image
from torch import Tensor

import kdgen.training.registered  # noqa: F401
from kdgen import export_model, registry
from kdgen.models.abilities import Generating
from kdgen.models.adapters.adapter import Adapter
from kdgen.models.adapters.autoencoder import Autoencoder
from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.adapters.pipeline_images import image_seeds
from kdgen.models.hub_cache import publishable
from kdgen.models.model import Model, build_net, load
from kdgen.models.scaling import families
from kdgen.registry import Spec
from kdgen.report.propose import propose
from kdgen.report.usage_snippets import without_kdgen
from kdgen.tasks.infer_task import measuring_task
from kdgen.types import Batch, Task
from kdgen.utils.conditions import call
from kdgen.utils.hooks import capture_outputs, hookable_layers

CLASSES = [
    pytest.param(name, handle, marks=WORDS if handle in FAMILIES and name != "dit" else ())
    for name in documented.own("adapter")
    for handle in registry.handles_of("adapter", name)
]
OF_LATENTS = sorted(set(FAMILIES.values()))
X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
SIZES = {"PixArtAlphaPipeline": 32, "PixArtSigmaPipeline": 32}
"""Sides of latents below which a pipeline draws nothing without being told a size."""

COND = {"sigma": torch.full((2,), 0.2), "label": torch.tensor([0, 1])}


def made(name: str, **more: Any) -> tuple[Adapter, Spec]:
    """A tiny net of an adapter, of images of three channels."""
    torch.manual_seed(0)
    own = {"channels": 3} if registry.accepts("net", name, "channels") else {}
    net, use = build_net(Spec(name=name, args={**documented.shrunk("net", name), **own, **more}), channels=3)
    assert isinstance(net, Adapter)
    return net.eval(), use


def written(name: str, class_name: str, folder: Path) -> Adapter:
    """A tiny net whose model, of this class, or pipeline plain diffusers has written into a folder."""
    pipeline = class_name.endswith("Pipeline")
    if class_name in FAMILIES:
        size = {"transformer": tiny(class_name, sample_size=SIZES[class_name])} if class_name in SIZES else {}
        whole(class_name, **size).save_pretrained(folder)
        return made(name)[0]
    several = registry.accepts("net", name, "pipeline")
    net, _ = made(name, **({"pipeline": class_name} if pipeline and several else {}))
    model: Any = net.get_submodule(net.part)
    if pipeline:
        net.save_files(folder)
    else:
        assert type(model).__name__ == class_name
        model.save_pretrained(folder)
    return net


def plain(class_name: str, folder: Path) -> Any:
    """What diffusers itself makes of a folder."""
    import diffusers

    if class_name in FAMILIES:
        return reopened(class_name, folder)
    return getattr(diffusers, class_name).from_pretrained(folder)


def asked(net: torch.nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    """An input of a net, and what it may be told."""
    if not isinstance(net, LatentModel):
        return X, COND
    random = torch.Generator().manual_seed(1)
    told = {name: torch.rand(2, *value.shape[1:], generator=random).to(value) for name, value in net.example().items()}
    side = min(net.size, 16)
    return torch.randn(2, net.latent_channels, side, side, generator=random), {**told, "sigma": COND["sigma"]}


def output(net: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return call(net, *asked(net))


def same(first: Tensor, second: Tensor) -> None:
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", documented.own("adapter"))
def test_every_adapter_has_a_net_of_its_name_that_says_what_it_is_for(name: str) -> None:
    net, _ = made(name)
    assert isinstance(net, registry.get("adapter", name))  # type: ignore[arg-type]
    assert registry.handles_of("adapter", name)
    assert publishable(f"{net.part}/config.json")
    assert registry.summary("adapter", name).endswith(".")
    assert registry.accepts("net", name, "config")
    assert net.channels == net.describe()["channels"] == 3
    assert net.describe()["name"] in registry.names("task")


@pytest.mark.parametrize(("name", "class_name"), CLASSES)
def test_what_diffusers_wrote_is_opened_with_its_weights_saved_and_loaded(
    name: str, class_name: str, tmp_path: Path
) -> None:
    net = written(name, class_name, tmp_path / "folder")
    model = load(tmp_path / "folder")
    assert model.use is not None
    assert (model.use.name, model.channels) == (name, 3)
    foreign = plain(class_name, tmp_path / "folder")
    weights = (foreign if isinstance(foreign, torch.nn.Module) else getattr(foreign, net.part)).state_dict()
    opened = model.net.get_submodule(net.part).state_dict()
    assert opened.keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in opened.items())
    out = output(model.net)
    assert out.isfinite().all()
    with torch.no_grad(), capture_outputs(model.net, hookable_layers(model.net)) as features:
        same(call(model.net, *asked(model.net)), out)
    assert len(features) >= 2
    model.save(tmp_path / "student")
    same(output(load(tmp_path / "student").net), out)


@pytest.mark.parametrize(("name", "class_name"), CLASSES)
def test_the_lines_of_its_card_give_the_same_numbers_by_plain_diffusers(
    name: str, class_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(name, class_name, tmp_path / "folder")
    model = load(tmp_path / "folder")
    model.save(tmp_path / "student")
    assert model.use is not None
    how, code = without_kdgen("student", model.use, {**model.task, "steps": [2]})
    assert how == "by plain diffusers"
    assert "kdgen" not in code
    monkeypatch.chdir(tmp_path)
    lines: dict[str, Any] = {"x": X}
    with torch.no_grad():
        exec(code, lines)
    if isinstance(model.net, Autoencoder):
        with torch.no_grad():
            z = model.net.encode(X)[:, : model.net.latent_channels]
            mean, deviation = model.net.statistics(z)
            same(z * deviation + mean, lines["latents"])
        same(output(model.net), lines["images"])
    elif isinstance(model.net, LatentModel):
        with Image.open("image.png") as image:
            assert image.mode == "RGB"
        net, (generator,) = model.net, (torch.Generator().manual_seed(seed) for seed in image_seeds(3, 1))
        words = {"class_labels": [0]} if name == "dit" else {"prompt": ["a red heart"]}
        images = lines["pipeline"](**words, **net.called_with(lines["pipeline"], None), generator=[generator],
                                   num_inference_steps=2, output_type="np").images  # fmt: skip
        told = {"label": 0} if name == "dit" else {"prompt": "a red heart"}
        same(model.draw(1, seed=3, num_steps=2, **told), torch.from_numpy(images).movedim(-1, 1) * 2 - 1)
    else:
        assert isinstance(model.net, Generating)
        generators = [torch.Generator().manual_seed(seed) for seed in image_seeds(3, 2)]
        parts = [generators] if class_name != "ScoreSdeVePipeline" else [[each] for each in generators]
        drawn = [lines["pipeline"](len(part), generator=part, num_inference_steps=2, output_type="np").images
                 for part in parts]  # fmt: skip
        images = torch.cat([torch.from_numpy(each) for each in drawn]).movedim(-1, 1) * 2 - 1
        same(model.draw(2, seed=3, num_steps=2), images)
        with Image.open("image.png") as image:
            assert image.mode == "RGB"


class Latents(Task):
    """Latents and whatever else a net is told: the task of such nets takes a whole pipeline, which is not here."""

    reads = gives = "latents"

    def __init__(self, net: LatentModel) -> None:
        self.net = net

    def example(self) -> Batch:
        batch = next(self.batches(batch_size=1, seed=0))
        return Batch(x=batch.x[:1], cond={name: value[:1] for name, value in batch.cond.items()})

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        x, cond = asked(self.net)
        while True:
            yield Batch(x=x[:batch_size], cond={name: value[:batch_size] for name, value in cond.items()})


SLOW = ("autoencoder_dc", "autoencoder_kl_flux2", "autoencoder_kl_qwen_image", "consistency_model", "flux",
        "score_sde", "stable_diffusion", "stable_diffusion3")  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in documented.own("adapter")],
)
def test_every_adapter_is_exported(name: str, tmp_path: Path) -> None:
    net, use = made(name)
    model = Model(net, name=name, channels=3, task=net.describe(), use=use).eval()
    task = Latents(net) if isinstance(net, LatentModel) else None
    done = export_model(model, tmp_path / "net.pt2", format="torch-export", task=task)
    assert done.path.is_file()
    assert done.parity.max_abs_error < 1e-3


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW[1:] else ())
        for name in documented.own("adapter")
        if name in families() and name not in OF_LATENTS
    ],
)
def test_a_model_of_diffusers_has_a_smaller_student(name: str, tmp_path: Path) -> None:
    net, use = build_net(Spec(name=name), channels=3)
    assert isinstance(net, Adapter)
    model = Model(net, name=name, channels=3, task=net.describe(), use=use).eval()
    task = measuring_task({name: model}, None)[1]
    assert propose(model, task, fraction=0.9).use.name == name
    inner: Any = net.get_submodule(net.part)
    if type(inner).__name__ in registry.handles_of("adapter", name):
        inner.save_pretrained(tmp_path)
    else:
        net.save_files(tmp_path)
    opened = load(tmp_path)
    assert opened.use is not None
    assert opened.use.args["config"]
    found = propose(opened, task, fraction=0.9)
    assert found.use.name == name
    assert 0 < found.share <= 0.9
