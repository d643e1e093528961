"""From the folder of a pipeline, and prompts where it draws by words, to a smaller pipeline by one command."""

import json
from pathlib import Path

import pytest
from latent_pipelines import WORDS, adapted, reopened, whole
from support import call

from kdgen.models.model import load
from kdgen.recipe import parse, read
from kdgen.registry import Spec
from kdgen.report import inferred, inferred_pipeline

FEW = ["--set", "task.args.num_latents=8", "--set", "task.args.num_steps=2", "--set", "task.args.num_images=4",
       "--set", "task.args.picture=8", "--set", "batch_size=4", "--set", "cache.inputs=8", "--no-controls",
       "--steps", "3"]  # fmt: skip


@pytest.fixture
def of_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a pipeline of classes is, ``dit``."""
    monkeypatch.chdir(tmp_path)
    net = adapted("DiTPipeline", num_layers=4, num_attention_heads=4)
    whole("DiTPipeline", transformer=net.model).save_pretrained("dit")
    return tmp_path


@pytest.fixture
def of_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a pipeline of words is, ``sd``, and two prompts."""
    monkeypatch.chdir(tmp_path)
    net = adapted("StableDiffusionPipeline", layers_per_block=2)
    whole("StableDiffusionPipeline", unet=net.model).save_pretrained("sd")
    (tmp_path / "prompts.txt").write_text("red heart\nblue cat\n")
    return tmp_path


def test_a_pipeline_of_classes_is_distilled_into_a_smaller_one(
    of_classes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("distill", "dit", "--cheaper", "3", *FEW, "--out", "run") == 0
    recipe = read(of_classes / "run" / "recipe.json")
    assert (recipe.name, recipe.teacher, recipe.init) == ("dit-student", str(of_classes / "dit"), "teacher")
    report = json.loads((of_classes / "run" / "report.json").read_text())
    teacher, student = (next(row for row in report["rows"] if row["role"] == role) for role in ("teacher", "student"))
    assert teacher["macs"] >= 3 * student["macs"] > 0
    assert reopened("DiTPipeline", of_classes / "run" / "student")([1], num_inference_steps=1).images
    said = " ".join(capsys.readouterr().err.split())
    assert "dit: latent_diffusion(" in said
    assert "; student dit of num_" in said


@WORDS
def test_a_pipeline_of_words_is_shown_with_its_prompts_and_a_student(
    of_words: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inferred, "step_seconds", lambda *rest: 0.01)
    monkeypatch.setattr(inferred_pipeline, "fastest_seconds", lambda *rest: 1.0)
    assert call("show", "sd", "--prompts", "prompts.txt") == 0
    recipe = parse(capsys.readouterr().out)
    assert [method.name for method in recipe.stages[0].methods] == ["output", "blocks"]
    told = recipe.task.args
    assert told["prompts"] == str(of_words / "prompts.txt")
    assert told["guidance"] == 7.5, "as plain diffusers guides it"
    assert (told["num_latents"], told["num_images"]) == (16, 16), "those of a teacher that takes long to draw them"
    assert call("propose", "sd", "--cheaper", "4") == 0
    use = load("sd").use
    assert use is not None
    assert recipe.student == Spec.model_validate(json.loads(capsys.readouterr().out)) != use


@WORDS
def test_what_cannot_be_is_said_in_a_line(of_words: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, line in (
        ("sd", "sd draws what words ask for: give prompts to learn from"),
        ("sd --prompts nowhere.txt", "nowhere.txt is no text file"),
        ("sd --prompts prompts.txt --images .", "students of sd learn from what it draws itself"),
        ("sd --prompts prompts.txt --cheaper 100000", "ask for that or more"),
        ("denoise --prompts prompts.txt", "--cheaper, --images and --prompts are for"),
    ):
        assert call("distill", *arguments.split()) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert line in error
        assert "Traceback" not in error
