"""A model's own images as data: drawn once, kept, and the same for every run."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import call
from torch import nn

from kdgen.data import Gallery, derive, make_images
from kdgen.models.model import Model
from kdgen.models.parts import telling
from kdgen.registry import Spec, register
from kdgen.tasks import Samples
from kdgen.tasks.samples import drawing_seconds
from kdgen.types import UserError


@register("net")
class TinyGenerator(nn.Module):
    """Latents of four numbers to 12x12 images."""

    def __init__(self, channels=1):
        super().__init__()
        self.channels = channels
        self.layer = nn.Linear(4, channels * 144)

    def forward(self, x, **cond):
        return self.layer(x).view(-1, self.channels, 12, 12).tanh()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "samples"


def generator(folder, channels=1, seed=0):
    torch.manual_seed(seed)
    task = {"name": "generate", "latent": [4], "size": 12, "channels": channels}
    use = Spec(name="tiny_generator", args={"channels": channels})
    model = Model(TinyGenerator(channels), name="tiny", channels=channels, task=task, use=use).eval()
    model.save(folder)
    return model


def test_a_run_says_how_many_images_are_drawn_for_it(cache, tmp_path, make, capsys):
    generator(tmp_path / "gan")
    images = {"name": "samples", "args": {"model": str(tmp_path / "gan"), "num_images": 230}}
    recipe = make(f"task.args.images={json.dumps(images)}", "steps=1", "controls=false")
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    for number, lines in enumerate((2, 0)):
        assert call("distill", str(tmp_path / "recipe.json"), "--out", str(tmp_path / f"run{number}")) == 0
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("images of a model")]
        assert len(said) == lines
        assert said[-1:] == ["images of a model: 100%, 230 of 230"] * (lines > 0)


def test_rollouts_tell_how_many_are_drawn(cache):
    source = make_images({"name": "rollouts", "args": {"model": "diffusion", "num_images": 3, "num_steps": 2}})
    told = []
    with telling(lambda done, total: told.append((done, total))):
        source.patches(1, source.shape[-1], channels=source.shape[0], seed=0)
    assert told == [(3, 3)]


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_are_what_the_model_draws(cache, tmp_path, channels):
    model = generator(tmp_path / "gan", channels)
    source = make_images({"name": "samples", "args": {"model": str(tmp_path / "gan"), "num_images": 30}})
    assert isinstance(source, Gallery)
    assert not cache.exists()
    drawn = model.draw(30, seed=derive(0, "samples"))
    images = torch.cat([x for _, x in source.images(channels)])
    assert torch.allclose(images, drawn, atol=0.5 / 127.5 + 1e-6)
    assert source.names == [str(i) for i in range(30)]
    x = source.patches(9, 12, channels=channels, seed=5)
    assert all(any(torch.equal(each, image) for image in images) for each in x)
    assert torch.equal(x, source.patches(9, 12, channels=channels, seed=5))
    assert not torch.equal(x, source.patches(9, 12, channels=channels, seed=6))
    assert source.patches(2, 16, channels=3, seed=0).shape == (2, 3, 16, 16)
    assert source.patches(2, 6, channels=1, seed=0).shape == (2, 1, 6, 6)


def test_samples_are_drawn_once_and_again_where_damaged(cache, tmp_path, monkeypatch):
    generator(tmp_path / "gan")
    args = {"model": str(tmp_path / "gan"), "num_images": 20}
    x = Samples(**args).patches(5, 12, channels=1, seed=0)
    (file,) = cache.glob("*.npy")
    assert np.load(file).shape == (20, 1, 12, 12)
    file.write_bytes(file.read_bytes()[:500])
    assert torch.equal(Samples(**args).patches(5, 12, channels=1, seed=0), x)
    assert not list(cache.glob("*.partial"))
    monkeypatch.setattr(Model, "draw", lambda *args, **more: pytest.fail("drawn twice"))
    assert torch.equal(Samples(**args).patches(5, 12, channels=1, seed=0), x)


def test_the_fingerprint_tells_models_and_arguments_apart(cache, tmp_path):
    generator(tmp_path / "a")
    generator(tmp_path / "b", seed=1)
    args = {"model": str(tmp_path / "a"), "num_images": 20}
    others = [{"model": str(tmp_path / "b")}, {"seed": 1}, {"num_images": 21}, {"num_steps": 3}, {"size": 8}]
    prints = {Samples(**{**args, **more}).fingerprint() for more in [{}, *others]}
    assert len(prints) == 6
    assert Samples(**args).fingerprint() in prints
    assert not cache.exists()


def test_unfit_arguments_are_refused(cache, tmp_path):
    generator(tmp_path / "gan")
    for wrong in ({"num_images": 0}, {"size": 0}, {"num_steps": 1.5}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            Samples(str(tmp_path / "gan"), **wrong)
    with pytest.raises(UserError, match="no model at"):
        Samples(str(tmp_path / "absent"))
    with pytest.raises(UserError, match="draws no images"):
        Samples("denoiser").patches(1, 8, channels=1, seed=0)


def test_drawing_is_timed_once(cache, tmp_path, monkeypatch):
    generator(tmp_path / "gan")
    args = {"name": "samples", "args": {"model": str(tmp_path / "gan"), "num_images": 20}}
    source = make_images(args)
    mixed = make_images({"name": "mixture", "args": {"sources": [args, {"name": "dead_leaves"}]}})
    assert drawing_seconds(source, mixed, None) is None
    seconds = iter([10.0, 17.5])
    monkeypatch.setattr("kdgen.tasks.samples.time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    source.patches(1, 12, channels=1, seed=0)
    assert source.seconds == 7.5
    mixed.patches(8, 12, channels=1, seed=0)
    assert drawing_seconds(mixed) == 0
    assert drawing_seconds(source, source, mixed, object()) == 7.5
