"""The card as it is published: its metadata, its figures, what it says of cost, licences and use."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, snapshot_download

from kdgen.hub import published, push_to_hub
from kdgen.models.model import Model
from kdgen.recipe import read
from kdgen.report.model_card import card
from kdgen.report.report import Report
from kdgen.training.run import distill

from .conftest import RunContext, call
from .server import Hub


def test_the_metadata_is_valid_and_every_figure_is_the_reports(place: RunContext, trained: Path) -> None:
    name = place.name("carded")
    push_to_hub(trained, name, license="apache-2.0")
    page = ModelCard.load(Path(snapshot_download(name)) / "README.md")
    page.validate()
    data = page.data
    assert (data.library_name, data.license, data.pipeline_tag) == ("kdgen", "apache-2.0", "image-to-image")
    assert data.tags == ["kdgen", "denoise", "output"]
    report = json.loads((trained / "report.json").read_text())
    row = next(row for row in report["rows"] if row["role"] == "student")
    assert {
        "@".join(filter(None, (result.metric_type, result.metric_config))): result.metric_value
        for result in data.eval_results or ()
    } == row["metrics"]
    for result in data.eval_results or ():
        assert result.verified is False
        assert result.dataset_name == "pictures"
        assert report["notes"][0] in result.metric_args["measured"]
    assert f"Training took {row['seconds']:.0f} s on {report['machine']}" in page.text
    assert " of a CPU, " in report["machine"]
    for line in Report.read(trained).to_markdown().splitlines():
        if line.startswith("| student") or line.startswith("| control") or line.startswith("| teacher"):
            assert line in page.text
    for words in (
        "![samples](samples.png)",
        f'kdgen.load("{name}")',
        "load_file(hf_hub_download(",
        "## Limits",
        "## Licences",
    ):
        assert words in page.text


def test_a_teacher_from_the_hub_is_the_base_and_is_bound_to_its_commit(
    place: RunContext, student: Callable[..., Model], trained: Path, tmp_path: Path
) -> None:
    teacher = place.name("teacher")
    pushed = push_to_hub(student(depth=3, width=7), teacher, license="mit")
    recipe = json.loads((trained / "recipe.json").read_text())
    from kdgen.recipe import parse

    mine = parse({**recipe, "teacher": teacher, "controls": False})
    for _ in distill(mine, tmp_path / "taught"):
        pass
    assert json.loads((tmp_path / "taught" / "recipe.json").read_text())["teacher"] == f"hub:{teacher}@{pushed.commit}"
    text = (tmp_path / "taught" / "student" / "README.md").read_text()
    data = ModelCard(text).data
    assert data.base_model == teacher
    assert data.get("base_model_relation") == "finetune"
    assert "its teacher: mit" in text


def test_a_teacher_of_this_machine_is_no_repository(trained: Path) -> None:
    recipe = read(trained / "recipe.json").model_copy(update={"teacher": "runs/big"})
    text = card(Report.read(trained), recipe, repo="acme/x")
    assert ModelCard(text).data.base_model is None
    assert "the teacher `runs/big`" in text


def test_what_was_not_measured_is_not_on_the_card(student: Callable[..., Model], tmp_path: Path) -> None:
    from kdgen.models.config import read_config

    student().save(tmp_path)
    text = card(None, None, config=read_config(tmp_path), repo="acme/x")
    assert "model-index" not in text
    assert "## Figures" not in text
    assert "## Cost" not in text
    assert ModelCard(text).data.license == "unknown"


@pytest.mark.parametrize(
    ("name", "args", "task", "use"),
    [
        ("mlp_generator", {"latent": 4, "hidden": [8], "size": 8}, {"name": "generate", "latent": [4], "size": 8, "channels": 1},
         "student.generate("),
        ("unet2d", {"size": 8, "block_out_channels": [8, 8], "attention_levels": 0, "norm_num_groups": 4},
         {"name": "diffuse", "size": 8, "channels": 1}, "DDIMPipeline.from_pretrained("),
    ],
)  # fmt: skip
def test_the_card_of_a_net_that_draws(
    student: Callable[..., Model], tmp_path: Path, name: str, args: dict[str, object], task: dict[str, object], use: str
) -> None:
    from kdgen.models.config import read_config

    student(name, task, **args).save(tmp_path)
    text = card(None, None, config=read_config(tmp_path), repo="acme/x")
    assert use in text
    assert "student.generate(num_images=1" in text
    assert ModelCard(text).data.pipeline_tag == "unconditional-image-generation"


def test_cards_of_others_making_harm_nobody(hub: Hub, place: RunContext, capsys: pytest.CaptureFixture[str]) -> None:
    card = """---
tags: [kdgen, "[/red] \\e[2J", 7]
license: [mit, 7]
base_model: {a: b}
model-index: [{name: x, results: 5}]
---
"""
    hub.store.plant(name := place.name("odd"), {"README.md": card.encode()})
    found = {each.id: each for each in published(author=place.org)}
    assert (found[name].license, found[name].teacher, found[name].figures) == ("mit", "", {})
    assert call("list", "hub") == 0
    shown = capsys.readouterr().out
    assert "[/red]" in shown
    assert "\x1b" not in shown


def test_published_students_are_listed_with_their_figures(
    place: RunContext, trained: Path, student: Callable[..., Model], capsys: pytest.CaptureFixture[str]
) -> None:
    name, other = place.name("listed"), place.name("plain")
    push_to_hub(trained, name)
    push_to_hub(student(), other)
    psnr = next(row.metrics["psnr"] for row in Report.read(trained).rows if row.role == "student")
    found = {each.id: each for each in published(author=place.org, task="denoise")}
    assert found[name].figures["psnr"] == psnr
    assert found[other].figures == {}
    assert call("list", "hub", "--author", place.org) == 0
    shown = capsys.readouterr().out
    assert name in shown
    assert f"psnr {psnr:.4g}" in shown
    assert name not in {each.id for each in published(author=place.org, task="generate")}
