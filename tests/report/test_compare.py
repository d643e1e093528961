import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kdgen.data import Arrays
from kdgen.metrics import psnr
from kdgen.recipe import Recipe
from kdgen.registry import Spec
from kdgen.report.compare import (
    Contender,
    Report,
    Row,
    Seconds,
    assess,
    compare,
    measure,
    merge,
    of_one_recipe,
    verdict,
)
from kdgen.report.report import deciding, worded
from kdgen.tasks.autoencode import Autoencode
from kdgen.tasks.denoise import Denoise
from kdgen.types import Batch, Task, UserError


def row(role: str, psnr: float, **more: object) -> Row:
    costs = {"num_params": 100, "macs": 1000, "latency_ms": 2.0, "size_bytes": 4000}
    return Row(role=role, name=role, metrics={"psnr": psnr, "ssim": 0.8}, **{**costs, **more})  # type: ignore[arg-type]


def report(student: float, at_steps: float | None, at_seconds: float | None, **more: object) -> Report:
    rows = [row("student", student), row("teacher", 31.0, num_params=2000, macs=21400, latency_ms=9.0)]
    rows += [row("control_steps", at_steps)] if at_steps is not None else []
    rows += [row("control_seconds", at_seconds)] if at_seconds is not None else []
    return compare([*rows, row("input", 20.2, num_params=0, macs=0)], task="denoise(sigma=25)", **more)  # type: ignore[arg-type]


class Fixed(Task):
    channels = 1

    def __init__(self, **metrics: float) -> None:
        self.metrics = metrics

    def evaluate(
        self, net: nn.Module, *, reference: nn.Module | None = None, seed: int = 0, limit: int | None = None
    ) -> dict[str, float]:
        assert net(torch.ones(1, 1, 4, 4)).shape == (1, 1, 4, 4)
        return self.metrics

    def example(self) -> Batch:
        return Batch(x=torch.zeros(1, 1, 256, 256))

    def answer_shape(self, batch: Batch) -> tuple[int, ...]:
        return tuple(batch.x.shape[1:])


def test_rows_stand_in_the_order_of_roles() -> None:
    roles = [each.role for each in report(28.0, 27.0, 26.0).rows]
    assert roles == ["input", "teacher", "student", "control_steps", "control_seconds"]


@pytest.mark.parametrize(
    ("student", "steps", "seconds", "words"),
    [
        (28.0, 27.0, 26.0, "The teacher helped: +1.00 dB at equal steps and +2.00 dB at equal seconds"),
        (28.0, 27.96, 28.04, "The teacher made no difference: +0.04 dB"),
        (28.0, 28.5, 29.0, "The teacher did NOT help: -0.50 dB"),
        (28.0, 27.0, 28.5, "at equal steps it helped (+1.00 dB); at equal seconds it did NOT help (-0.50 dB)"),
        (28.0, None, 27.0, "The teacher helped: +1.00 dB at equal seconds,"),
        (28.0, None, None, "can't be told: no control"),
    ],
)
def test_verdict(student: float, steps: float | None, seconds: float | None, words: str) -> None:
    made = report(student, steps, seconds)
    assert words in made.verdict
    assert made.verdict == verdict(made)


def test_an_autoencoder_with_a_teacher_is_judged_by_nearness_to_it() -> None:
    task = Autoencode(images={"name": "photographs"})
    assert (deciding(task, taught=True), deciding(task, taught=False)) == ("psnr@teacher", "psnr")
    figures = {"student": (25.0, 30.0), "control_seconds": (26.0, 28.0), "teacher": (31.0, None)}
    rows = [
        row(role, data).model_copy(update={"metrics": {"psnr": data} | ({"psnr@teacher": near} if near else {})})
        for role, (data, near) in figures.items()
    ]
    made = compare(rows, task="autoencode", primary_metric=deciding(task, taught=True))
    assert "The teacher helped: +2.00 dB to the teacher at equal seconds" in made.verdict
    assert "did NOT help: -1.00 dB at" in compare(rows, task="autoencode", primary_metric="psnr").verdict


def test_figures_in_words() -> None:
    assert [worded(key, 29.7) for key in ("psnr", "psnr@teacher", "fd_features32")] == [
        "29.70 dB", "29.70 dB", "fd_features32 29.7",
    ]  # fmt: skip


def test_verdict_threshold_is_a_twentieth_of_a_decibel() -> None:
    assert "made no difference" in report(0.05, 0.0, 0.0).verdict
    assert "helped" in report(0.0501, 0.0, 0.0).verdict


@pytest.mark.parametrize(("student", "said"), [(24.9, True), (25.04, True), (25.1, False)])
def test_a_student_that_is_no_better_than_its_input_is_said_to_be(student: float, said: bool) -> None:
    rows = [row("input", 25.0), row("teacher", 30.0), row("student", student)]
    made = compare(rows, task="denoise")
    assert made.verdict.startswith("The student is NO BETTER than the input: ") == said


def test_verdict_without_truth_and_without_teacher() -> None:
    assert "alpha was 1" in report(28.0, None, None, ground_truth=False).verdict
    assert compare([row("student", 28.0)], task="denoise").verdict == ""


def test_merge_gives_mean_and_sample_deviation() -> None:
    merged = merge([report(28.0, 27.0, 26.0), report(28.2, 27.0, 26.5), report(28.4, 27.3, 26.0)])
    student = merged.find("student")
    assert student is not None
    assert student.metrics["psnr"] == pytest.approx(28.2)
    assert student.spread["psnr"] == pytest.approx(0.2)
    assert student.spread["ssim"] == pytest.approx(0.0, abs=1e-12)
    assert student.num_seeds == 3
    assert "+1.10 dB at equal steps" in merged.verdict
    assert "28.20 ± 0.20" in merged.to_markdown()
    assert "means over 3 seeds" in merged.to_markdown()


def test_merge_refuses_nothing_and_unlike_tasks() -> None:
    with pytest.raises(UserError, match="no reports"):
        merge([])
    with pytest.raises(UserError, match="different things"):
        merge([compare([], task="a"), compare([], task="b")])


def test_markdown_states_units_savings_and_seconds() -> None:
    text = report(28.0, 27.0, 26.0, seconds=Seconds(answers=12.4, training=88.0), notes=["A note."]).to_markdown()
    header, rule, *rows = [line for line in text.splitlines() if line.startswith("|")]
    for words in ("PSNR (dB)", "MACs at 256x256", "latency (ms)", "weights (kB)", "fewer parameters", "fewer MACs"):
        assert words in header
    assert {line.count("|") for line in (header, rule, *rows)} == {header.count("|")}
    student = next(line for line in rows if line.startswith("| student"))
    assert "20.0x" in student
    assert "21.4x" in student
    assert "took 12 s, and the control at equal seconds was given that time too" in text
    assert "A note." in text
    assert (
        "already lay on disk, and the control at equal seconds was given no time"
        in report(28, 27, 26, seconds=Seconds(answers_from_disk=True)).to_markdown()
    )


def test_savings_are_those_of_an_image_however_many_calls_it_takes() -> None:
    rows = [row("teacher", 31.0, calls=35, macs=1000, latency_ms=2.0), row("student", 28.0, macs=1000, latency_ms=2.0)]
    header, cells = compare(rows, task="few_steps", per="at 32x32").table()
    teacher, student = (dict(zip(header, line, strict=True)) for line in cells)
    assert (student["fewer MACs"], student["faster"]) == ("35.0x", "35.0x")
    assert (teacher["MACs an image"], student["MACs an image"]) == ("35 k", "1 k")
    assert (teacher["latency an image (ms)"], student["latency an image (ms)"]) == ("70.0", "2.0")


def test_a_report_says_that_the_machine_was_busy() -> None:
    quiet, busy = compare([row("student", 28.0)], task="a"), compare([row("student", 28.0)], task="a", busy_cores=1.4)
    assert "busy" not in quiet.to_markdown()
    assert "The machine was busy while latencies were taken: other programs kept 1.4 of its cores" in busy.to_markdown()
    assert merge([quiet, busy]).busy_cores == 1.4


def test_saved_report_reads_back(tmp_path: Path) -> None:
    made = report(28.0, 27.0, 26.0, seconds=Seconds(answers=1.0, training=2.0))
    made.save(tmp_path / "run")
    assert Report.read(tmp_path / "run") == made
    plain = json.loads((tmp_path / "run" / "report.json").read_text())
    assert set(plain["rows"][0]) >= {"role", "name", "num_params", "macs", "latency_ms", "size_bytes", "metrics"}
    with pytest.raises(UserError, match="cannot read the report"):
        Report.read(tmp_path / "absent.json")


def test_measure_counts_costs_and_caps_a_perfect_result() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False))
    net.forward = lambda x, **cond: nn.Sequential.forward(net, x)  # type: ignore[method-assign]
    measured = measure("student", net, Fixed(psnr=float("inf"), ssim=1.0), name="tiny", seconds=3.0, steps=7)  # type: ignore[arg-type]
    assert measured.num_params == 9
    assert measured.macs == 9 * 256 * 256
    assert measured.size_bytes >= 36
    assert measured.latency_ms > 0
    assert measured.metrics == {"psnr": 100.0, "ssim": 1.0}
    assert (measured.steps, measured.seconds) == (7, 3.0)


def test_measure_of_the_input_costs_nothing() -> None:
    measured = measure("input", None, Fixed(psnr=20.2), name="noisy input")  # type: ignore[arg-type]
    assert (measured.num_params, measured.macs, measured.metrics) == (0, 0, {"psnr": 20.2})


class Doubling(Task):
    """Images of half the height and width of their truth."""

    channels, primary_metric, taught_primary_metric = 1, "psnr", "psnr"

    def evaluation_images(self, *, seed: int = 0, limit: int | None = None) -> Iterator[tuple[str, Batch]]:
        y = torch.linspace(-1, 1, 64).expand(1, 1, 64, 64)
        yield "ramp", Batch(x=nn.functional.avg_pool2d(y, 2), y=y)

    def evaluate(
        self, net: nn.Module, *, reference: nn.Module | None = None, seed: int = 0, limit: int | None = None
    ) -> dict[str, float]:
        _, batch = next(self.evaluation_images())
        return {"psnr": psnr(net(batch.x), batch.y).item()}  # type: ignore[arg-type]

    def example(self) -> Batch:
        return Batch(x=torch.zeros(1, 1, 32, 32))

    def answer_shape(self, batch: Batch) -> tuple[int, ...]:
        return 1, 2 * batch.x.shape[-2], 2 * batch.x.shape[-1]

    def describe_evaluation(self, *, reference: nn.Module | None = None, seed: int = 0) -> str:
        return "one ramp"


class Coding(Doubling):
    """What images of half the height and width are to a net that gives something else."""

    gives = "latents"


def test_inputs_are_measured_enlarged_and_where_they_are_no_answers_not_at_all() -> None:
    net = Contender(role="student", name="up", net=nn.Upsample(scale_factor=2), label="student")
    assert [(row.role, row.name) for row in assess(Doubling(), [net], title="doubling").rows] == [
        ("input", "input"),
        ("student", "up"),
    ]
    assert [row.role for row in assess(Coding(), [net], title="coding").rows] == ["student"]


class Broken(nn.Module):
    """Gives some value at the first pixel."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
        out = x.clone()
        out[:1, :, 0, 0] = self.value
        return out


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("role", ["student", "control_steps", "teacher"])
def test_answers_that_are_not_finite_are_printed_and_judged(role: str, value: float, tmp_path: Path) -> None:
    task = Denoise()
    values = {"teacher": 0.5, "student": 0.5, "control_steps": 0.4, role: value}
    rows = [measure(each, Broken(v), task, name=f"my {each}", limit=2) for each, v in values.items()]  # type: ignore[arg-type]
    made = compare(rows, task="denoise")
    row = made.find(role)  # type: ignore[arg-type]
    assert row is not None
    assert (row.not_finite, row.answers) == (2, 2)
    assert f"my {role} gave NaN or infinite values in 2 of 2 answers." in made.verdict
    assert ("can't be told" in made.verdict) == (role != "teacher")
    header, cells = made.table()
    line = next(line for line in cells if line[1] == f"my {role}")
    assert line[header.index("PSNR (dB)")] == "nan"
    assert line[header.index("answers that are not finite")] == "2 of 2"
    made.save(tmp_path)
    again = Report.read(tmp_path)
    assert again.verdict == made.verdict
    assert str(again.rows) == str(made.rows)
    json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_one_broken_image_of_many_is_not_averaged_away() -> None:
    class Sometimes(Broken):
        def forward(self, x: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if x.shape[-1] < x.shape[-2] else x

    task = Denoise(evaluate=Arrays([np.full((8, 8), 0.5), np.full((9, 8), 0.5), np.full((8, 8), 0.2)]))
    row = measure("student", Sometimes(float("inf")), task, name="s")
    assert (row.not_finite, row.answers) == (1, 3)
    assert math.isnan(row.metrics["psnr"])
    merged = merge([compare([row], task="denoise")] * 2)
    assert "2 of 6 answers" in merged.verdict


def test_runs_are_of_one_recipe_if_only_the_seed_differs(tmp_path: Path) -> None:
    recipe = Recipe(name="r", task=Spec(name="denoise"), student=Spec(name="dncnn"), steps=1)
    for name, change in (("a", {"seed": 0}), ("b", {"seed": 1}), ("c", {"seed": 2, "batch_size": 4})):
        report(28.0, 27.0, 26.0).save(tmp_path / name)
        (tmp_path / name / "recipe.json").write_text(recipe.model_copy(update=change).to_json())
    a, b, c = (tmp_path / name for name in "abc")
    assert len(of_one_recipe([a, b]) or []) == 2
    assert of_one_recipe([a, c]) is None
    assert of_one_recipe([a, a]) is None
    assert of_one_recipe([a]) is None
