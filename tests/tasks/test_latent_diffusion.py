"""Distilling a pipeline of latents by the classes or the prompts that it is told: what is trained on, and what is kept."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from latent_pipelines import OF_WORDS, WORDS, reopened, whole
from PIL import Image

from kdgen.hub.gallery import gallery
from kdgen.models.adapters.pipeline_images import image_seeds
from kdgen.models.model import Model, build_net, load
from kdgen.recipe import Recipe, Stage
from kdgen.recipe.parts import Guidance
from kdgen.registry import Spec
from kdgen.report.captions import description
from kdgen.report.report import Report
from kdgen.report.step_curve import step_curve
from kdgen.report.usage_snippets import without_kdgen
from kdgen.tasks.infer_task import measuring_task
from kdgen.tasks.latent_diffusion import LatentDiffusion
from kdgen.training import run
from kdgen.types import UserError
from kdgen.ui import showcase
from kdgen.ui.result import slides
from kdgen.ui.words import ENGLISH

SMALL = {"num_latents": 12, "num_steps": 2, "num_images": 8, "picture": 8}


@pytest.fixture
def of_classes(tmp_path: Path) -> Path:
    """A pipeline that is told one of a thousand classes."""
    whole("DiTPipeline").save_pretrained(tmp_path / "dit")
    return tmp_path / "dit"


@pytest.fixture
def of_words(tmp_path: Path) -> Path:
    whole("StableDiffusionPipeline").save_pretrained(tmp_path / "sd")
    return tmp_path / "sd"


def recipe(teacher: Path, student: dict[str, Any], **task: Any) -> Recipe:
    args: Any = {"model": str(teacher), **SMALL, **task}
    return Recipe(
        name="small",
        task=Spec(name="latent_diffusion", args=args), teacher=str(teacher), student=Spec(**student), init="teacher",
        stages=(Stage(methods=(Guidance(name="output"),), ratio=Spec(name="fixed", args={"alpha": 0.9}), lr=1e-3),),
        steps=3, batch_size=4, cache={"inputs": 8}, controls=False,
    )  # fmt: skip


def test_batches_are_the_pipelines_own_latents_under_noise_and_what_it_was_told(of_classes: Path) -> None:
    task = LatentDiffusion(str(of_classes), **SMALL, guidance=3.0)
    first, second = islice(task.batches(batch_size=4, seed=0), 2)
    again = next(task.batches(batch_size=4, seed=0, start=1))
    assert torch.equal(second.x, again.x)
    assert first.x.shape == (4, *task.latent)
    assert first.y is not None
    assert first.cond.keys() == {"sigma", "label"}
    for y, label in zip(first.y, first.cond["label"], strict=True):
        assert torch.equal(y, task.latents[int(label)].float()), "the class that these latents were drawn for"
    plain = LatentDiffusion(str(of_classes), **SMALL)
    assert not torch.equal(plain.latents, task.latents)
    more = LatentDiffusion(str(of_classes), **{**SMALL, "num_latents": 14}, guidance=3.0)
    torch.testing.assert_close(more.latents[:12], task.latents)


def test_a_student_is_nearest_to_its_teacher_where_it_is_its_teacher(of_classes: Path) -> None:
    how = {"scale": 2.0, "distilled": False}
    task, teacher = LatentDiffusion(str(of_classes), **SMALL, guidance=how), load(of_classes).net
    same = task.evaluate(load(of_classes).net, reference=teacher)
    assert same["psnr"] > 60
    taught = LatentDiffusion(str(of_classes), **SMALL, guidance=2.0)
    assert taught.evaluate(teacher, reference=taught.guided(teacher))["psnr"] < 40, "a student is not guided there"
    assert taught.calls == taught.teacher_calls == 2
    assert task.calls == task.teacher_calls == 4
    other = load(of_classes).net
    torch.nn.init.normal_(other.get_submodule("transformer.proj_out_2").weight)
    assert task.evaluate(other, reference=teacher)["psnr"] < same["psnr"] - 10


def test_a_student_of_classes_is_distilled_and_plain_diffusers_draws_what_kdgen_does(
    of_classes: Path, tmp_path: Path
) -> None:
    config = {**load(of_classes).use.args["config"], "num_layers": 1}
    scheduler = load(of_classes).use.args["scheduler"]
    student = {"name": "dit", "args": {"config": config, "scheduler": scheduler}}
    list(run.distill(recipe(of_classes, student), tmp_path / "run"))
    report = Report.read(tmp_path / "run")
    rows = {row.role: row for row in report.rows}
    assert rows["student"].macs < rows["teacher"].macs
    assert rows["student"].calls == rows["teacher"].calls == 2
    model = load(tmp_path / "run")
    pipe = reopened("DiTPipeline", tmp_path / "run" / "student")
    ours = model.draw(2, seed=3, num_steps=2, label=[1, 7])
    generators = [torch.Generator().manual_seed(seed) for seed in image_seeds(3, 2)]
    theirs = pipe([1, 7], guidance_scale=1.0, generator=generators, num_inference_steps=2, output_type="np").images
    torch.testing.assert_close(ours, torch.from_numpy(theirs).movedim(-1, 1) * 2 - 1, atol=1e-4, rtol=0)


@pytest.mark.parametrize("pipeline", [
    pytest.param(*each.values, marks=[WORDS, *([] if "StableDiffusionPipeline" in each.values else [pytest.mark.slow])])
    for each in OF_WORDS
])  # fmt: skip
def test_every_pipeline_of_words_teaches_its_own_net(pipeline: str, tmp_path: Path) -> None:
    whole(pipeline).save_pretrained(tmp_path / "teacher")
    teacher = load(tmp_path / "teacher")
    assert teacher.use is not None
    student = {"name": teacher.use.name, "args": dict(teacher.use.args)}
    told: dict[str, Any] = {"prompts": ["red heart", "blue cat", "red cat"], "guidance": 2.0}
    if pipeline == "FluxPipeline":  # whose folders say no size: by itself it draws a thousand pixels a side
        told |= {"resolution": 16}
    list(run.distill(recipe(tmp_path / "teacher", student, **told), tmp_path / "run"))
    model = load(tmp_path / "run")
    assert not all(torch.equal(a, b) for a, b in zip(model.net.state_dict().values(),
                                                     teacher.net.state_dict().values(), strict=True))  # fmt: skip
    pipe = reopened(pipeline, tmp_path / "run" / "student")
    assert pipe.components.keys() == reopened(pipeline, tmp_path / "teacher").components.keys()
    assert model.draw(1, seed=0, num_steps=2, prompt="red heart").isfinite().all()


@WORDS
def test_a_student_is_taught_and_draws_at_the_resolution_of_its_task(of_words: Path, tmp_path: Path) -> None:
    student = load(of_words).use
    assert student is not None
    told = {"prompts": ["red heart", "blue cat"], "resolution": 8}
    assert LatentDiffusion(str(of_words), **SMALL, **told).latent == (4, 4, 4)
    assert LatentDiffusion(str(of_words), **SMALL, prompts=["red heart"]).latent == (4, 8, 8)
    list(run.distill(recipe(of_words, student.model_dump(), **told), tmp_path / "run"))
    model = load(tmp_path / "run")
    ours = model.draw(1, seed=3, num_steps=2, prompt="red heart", guidance=1.0)
    pipe = reopened("StableDiffusionPipeline", tmp_path / "run" / "student")
    (seed,) = image_seeds(3, 1)
    theirs = pipe("red heart", height=8, width=8, guidance_scale=1.0, num_inference_steps=2, output_type="np",
                  generator=[torch.Generator().manual_seed(seed)]).images  # fmt: skip
    torch.testing.assert_close(ours, torch.from_numpy(theirs).movedim(-1, 1) * 2 - 1, atol=1e-4, rtol=0)
    assert model.use is not None
    assert 'pipeline("a red heart", height=8, width=8)' in without_kdgen("a/b", model.use, model.task)[1]
    assert model.draw(1, num_steps=2, prompt="red heart", resolution=16).shape == (1, 3, 16, 16)
    assert model.draw(1, num_steps=2, prompt="red heart").shape == (1, 3, 8, 8)


def test_a_resolution_that_a_pipeline_does_not_draw_is_refused_in_a_line(of_classes: Path) -> None:
    with pytest.raises(UserError, match="at the size of its configuration alone, 8x8 latents: leave resolution out"):
        LatentDiffusion(str(of_classes), resolution=32)
    with pytest.raises(UserError, match=r"multiples of 8 pixels, not 100: make resolution 96, say"):
        LatentDiffusion(str(of_classes), resolution=100)
    with pytest.raises(UserError, match="denoiser draws images of one size: leave resolution out"):
        load("denoiser").draw(1, resolution=64)


@WORDS
def test_words_are_read_once_and_kept_in_half_precision(of_words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = LatentDiffusion(str(of_words), prompts=["a b", "c", "a b"], **SMALL)
    assert first.prompts == ["a b", "c"]
    assert {name: (len(rows), rows.dtype) for name, rows in first.told.items()} == {"words": (2, torch.float16)}
    again = LatentDiffusion(str(of_words), prompts=["a b", "c"], **SMALL)
    monkeypatch.setattr(type(again.pipeline), "embed", lambda *given: pytest.fail("read again"))
    assert torch.equal(again.told["words"], first.told["words"])


def test_what_cannot_be_is_refused_in_a_line(of_classes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is told classes, which come in turn: leave prompts out"):
        LatentDiffusion(str(of_classes), prompts=["red heart"])
    with pytest.raises(UserError, match="denoiser draws no latents under words or a class"):
        LatentDiffusion("denoiser")


@WORDS
def test_a_run_of_words_shows_its_pictures_with_their_prompts(
    of_words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for few in ("kdgen.ui.showcase.DRAWN", "kdgen.hub.gallery.DRAWN", "kdgen.report.step_curve.TIMED"):
        monkeypatch.setattr(few, 2)
    monkeypatch.setattr("kdgen.ui.showcase.SEEDS", (0,))
    teacher = load(of_words)
    assert teacher.use is not None
    prompts = ["red heart", "blue cat"]
    student = {"name": teacher.use.name, "args": dict(teacher.use.args)}
    list(run.distill(recipe(of_words, student, prompts=prompts), tmp_path / "run"))
    model = load(tmp_path / "run")
    assert model.task["prompts"] == prompts
    for picture in ("samples.png", "preview.png"):
        with Image.open(tmp_path / "run" / picture) as image:
            assert description(image) == "1: red heart; 2: blue cat", picture
    showcase.make(tmp_path / "run", tmp_path / "shown")
    told = slides(tmp_path / "shown", ENGLISH, place="here")
    assert 'alt="seed 0: student. 1: red heart; 2: blue cat"' in told
    gallery(model, tmp_path / "gallery.png")
    with Image.open(tmp_path / "gallery.png") as image:
        assert description(image) == "1: red heart; 2: blue cat"
    points = list(step_curve(teacher, {"student": model}, steps=(1, 2), num_images=8))
    assert [(point.steps, point.calls) for point in points] == [(1, 2), (2, 4), (1, 1), (2, 2), (4, 4)]
    with pytest.raises(UserError, match="sd draws what words ask for: give a prompt"):
        next(step_curve(teacher, {}, steps=(1, 2), num_images=8))
    title, task = measuring_task({"student": model}, None, teacher=teacher, num_images=8)
    assert "latent_diffusion" in title
    assert task.captions(3) == ["red heart", "blue cat", "red heart"]


@WORDS
def test_prompts_that_are_missing_are_asked_for(of_words: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set task\.args\.prompts to a text file"):
        LatentDiffusion(str(of_words))
    with pytest.raises(UserError, match=r"nowhere.txt is no text file: give one with a prompt a line"):
        LatentDiffusion(str(of_words), prompts=str(tmp_path / "nowhere.txt"))
    (tmp_path / "some.txt").write_text("red heart\n\n  blue cat \n")
    assert LatentDiffusion(str(of_words), prompts=str(tmp_path / "some.txt")).prompts == ["red heart", "blue cat"]


@pytest.fixture
def hearts(tmp_path: Path) -> dict[str, Any]:
    """A source of six pictures with captions."""
    folder = tmp_path / "hearts"
    folder.mkdir()
    colours = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
    lines = []
    for number in range(6):
        word, colour = [*colours.items()][number % 3]
        Image.new("RGB", (16, 16), colour).save(folder / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "text": f"{word} heart"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return {"name": "captioned", "args": {"path": str(folder)}}


@WORDS
def test_pictures_are_trained_on_as_latents_under_their_captions(of_words: Path, hearts: dict[str, Any]) -> None:
    task = LatentDiffusion(str(of_words), images=hearts, drop=0.5, **SMALL)
    assert task.prompts == ["red heart", "green heart", "blue heart"]
    (batch,) = islice(task.batches(batch_size=64, seed=0), 1)
    assert batch.y is not None
    told = {row.numpy().tobytes() for row in batch.cond["words"]}
    known = {row.float().numpy().tobytes() for row in (*task.told["words"], task.null["words"])}
    assert told == known
    nothing = torch.tensor([torch.equal(row, task.null["words"]) for row in batch.cond["words"]])
    assert 10 < nothing.sum() < 54, "about half are told nothing"
    for y, words in zip(batch.y[~nothing], batch.cond["words"][~nothing], strict=True):
        (place,) = [i for i, row in enumerate(task.told["words"]) if torch.equal(row.float(), words)]
        assert any(torch.equal(y, task.latents[i].float()) for i in (place, place + 3))
    other = LatentDiffusion(str(of_words), prompts=["a b"], images=hearts, drop=0.0, **SMALL)
    assert other.prompts == ["a b"]
    assert torch.equal(next(other.batches(batch_size=6, seed=0)).y, next(task.batches(batch_size=6, seed=0)).y)
    assert other.fingerprint() != task.fingerprint()


@WORDS
def test_a_net_is_trained_on_captioned_pictures_without_a_teacher(
    of_words: Path, hearts: dict[str, Any], tmp_path: Path
) -> None:
    teacher = load(of_words)
    assert teacher.use is not None
    made = Recipe(
        name="alone", task=Spec(name="latent_diffusion", args={"model": str(of_words), "images": hearts, **SMALL}),
        student=Spec(name=teacher.use.name, args=dict(teacher.use.args)), init=str(of_words),
        stages=(Stage(lr=1e-3),), steps=3, batch_size=4, cache={"inputs": 0}, controls=False,
    )  # fmt: skip
    list(run.distill(made, tmp_path / "run"))
    model, pipe = load(tmp_path / "run"), reopened("StableDiffusionPipeline", tmp_path / "run" / "student")
    assert pipe.components.keys() == reopened("StableDiffusionPipeline", of_words).components.keys()
    assert not torch.equal(pipe.unet.conv_in.weight, teacher.net.get_submodule("unet").conv_in.weight)
    assert model.draw(1, seed=0, num_steps=2, prompt="red heart").isfinite().all()


@WORDS
def test_images_without_captions_are_refused_in_a_line(
    of_words: Path, of_classes: Path, hearts: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=r"^DeadLeaves knows no captions: name images with them"):
        LatentDiffusion(str(of_words), images={"name": "dead_leaves"}, **SMALL)
    with pytest.raises(UserError, match="is told classes and reads no captions: leave images out"):
        LatentDiffusion(str(of_classes), images=hearts, **SMALL)


@WORDS
def test_a_classifier_tells_how_often_what_was_asked_for_is_seen(of_words: Path, tmp_path: Path) -> None:
    net, use = build_net(Spec(name="feature_net", args={"width": 4, "classes": 3}), 3, {})
    net.eval()
    words = {"name": "classify", "num_classes": 3, "size": 8, "channels": 3, "words": ["cat", "heart", "red"]}
    torch.nn.init.zeros_(net.head.weight)
    for likeliest, seen in (("cat", 0.0), ("heart", 1.0)):
        net.head.bias.data = torch.tensor([float(word == likeliest) for word in words["words"]])
        Model(net, name="seer", channels=3, task=words, use=use).save(tmp_path / "seer")
        task = LatentDiffusion(str(of_words), ["a heart"], **SMALL, recognise=str(tmp_path / "seer"))
        assert task.evaluate(task.pipeline, reference=task.pipeline, limit=4)["r_precision"] == seen


@WORDS
def test_who_says_no_words_recognises_nothing(of_words: Path) -> None:
    with pytest.raises(UserError, match="features32 says no words: recognise is for a classifier that does"):
        LatentDiffusion(str(of_words), ["a heart"], **SMALL, recognise="features32")
