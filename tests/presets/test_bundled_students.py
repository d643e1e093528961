"""The students that come with kdgen: small, made by presets, and as good as their cards say."""

import pytest

from kdgen import registry
from kdgen.models.loading import BUNDLED, bundled_names
from kdgen.models.model import load
from kdgen.presets import preset
from kdgen.report.compare import measure
from kdgen.report.report import Report

STUDENTS = [name for name in bundled_names() if name.endswith("-student")]


@pytest.mark.parametrize("name", STUDENTS)
def test_a_bundled_student_is_what_its_card_says(name: str) -> None:
    home, recipe = BUNDLED / name, preset(name.removesuffix("-student"))
    assert (home / "model.safetensors").stat().st_size <= 300_000
    report, model, task = Report.read(home), load(name), registry.build("task", recipe.task)
    row = report.find("student")
    assert row is not None
    assert report.find("control_seconds") or not report.ground_truth
    assert model.use is not None
    assert model.use.name == recipe.student.name
    assert recipe.student.args.items() <= model.use.args.items()
    assert isinstance(recipe.teacher, str)
    reference = load(recipe.teacher).net if "@teacher" in report.primary_metric else None
    again = measure("student", model.net, task, name=name, reference=reference, timed=False)
    assert again.metrics[report.primary_metric] == pytest.approx(row.metrics[report.primary_metric], abs=0.02)


def test_every_preset_of_a_restorer_that_knows_its_trade_has_its_student() -> None:
    made = {name.removesuffix("-student") for name in STUDENTS}
    assert {"denoise", "upscale-x4", "upscale-x2", "deblur", "dejpeg", "derain", "low-light", "inpaint",
            "stylize"} <= made  # fmt: skip
