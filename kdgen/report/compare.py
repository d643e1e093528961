"""Measure teacher, student and controls: what was kept, what was saved, and whether the teacher helped."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from torch import nn

from kdgen.metrics import beyond, cost, watched
from kdgen.recipe import read
from kdgen.report.report import ROLES, Report, Role, Row, deciding, in_decibels
from kdgen.report.sample_grids import Pictured
from kdgen.report.seconds import Seconds
from kdgen.report.verdict import verdict
from kdgen.tasks.abilities import shown_by
from kdgen.tasks.baseline import Baseline
from kdgen.types import Task, Text, UserError, text
from kdgen.utils.devices import OtherWork

LARGEST_DB = 100.0
"""What a perfect result counts as, in dB."""


def measure(
    role: Role,
    net: nn.Module | None,
    task: Task,
    *,
    name: str,
    reference: nn.Module | None = None,
    seed: int = 0,
    limit: int | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    timed: bool = True,
) -> Row:
    """Measure quality and cost of one net.

    Args:
        role: what the net is to the others.
        net: the net; None for the task's baseline.
        task: measures quality on its evaluation images.
        name: what to call it.
        reference: the teacher, for tasks that measure how near a net comes to it.
        seed: seed of the evaluation's noise.
        limit: number of evaluation images; all by default.
        seconds: how long its training took, the teacher's answers included.
        steps: optimiser steps of its training.
        timed: whether to take its latency here; several nets are better timed in turn, by ``in_turn``.

    Returns:
        its row. A perfect result counts as 100 dB. Answers that are not finite are counted, and figures made from
            them are NaN.
    """
    judged = Baseline(task) if net is None else net
    with watched(judged) as answers:
        metrics = quality(judged, task, reference=reference, seed=seed, limit=limit)
    if net is None:
        return Row(role=role, name=Text.of(name), metrics=metrics, answers=answers.count, not_finite=answers.not_finite)
    example = shown_by(task, net, task.example(), teaches=net is reference)
    return Row(
        role=role,
        name=Text.of(name),
        num_params=cost.num_params(net),
        macs=cost.macs(net, example.x, example.cond),
        latency_ms=cost.latency_ms(net, example.x, example.cond) if timed else 0.0,
        calls=task.teacher_calls if net is reference else task.calls,
        size_bytes=cost.size_bytes(net),
        metrics=metrics,
        seconds=seconds,
        steps=steps,
        answers=answers.count,
        not_finite=answers.not_finite,
    )


def quality(
    net: nn.Module, task: Task, *, reference: nn.Module | None = None, seed: int = 0, limit: int | None = None
) -> dict[str, float]:
    """The figures of one net, as tables have them: a perfect result counts as 100 dB. Takes what ``measure`` does."""
    figures = task.evaluate(net, reference=reference, seed=seed, limit=limit)
    return {key: min(value, LARGEST_DB) if in_decibels(key) else value for key, value in figures.items()}


def compare(
    rows: Iterable[Row],
    *,
    task: str,
    primary_metric: str = "psnr",
    per: str = "at 256x256",
    ground_truth: bool = True,
    seconds: Seconds | None = None,
    notes: Sequence[str] = (),
    busy_cores: float = 0.0,
) -> Report:
    """A report of measured nets, in the order of their roles, with its verdict.

    Args:
        rows: what ``measure`` gave.
        task: what was measured, in words: the title of the report.
        primary_metric: the metric that decides.
        per: what an image is, see ``per_image``.
        ground_truth: whether there was anything but the teacher to train on; without it alpha was 1.
        seconds: where the seconds of the student's run went.
        notes: further sentences.
        busy_cores: of the machine, kept by other programs while latencies were taken.
    """
    order = list(ROLES)
    ranked = tuple(sorted(rows, key=lambda row: order.index(row.role)))
    report = Report(task=task, rows=ranked, primary_metric=primary_metric, per=Text.of(per), ground_truth=ground_truth,
                    seconds=seconds, notes=tuple(map(Text.of, notes)), busy_cores=busy_cores)  # fmt: skip
    return report.model_copy(update={"verdict": verdict(report)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A net to be measured beside others.

    Attributes:
        role: what it is to the others.
        name: what to call it in the table.
        net: the net.
        label: what to call it in pictures.
        seconds: how long it took to make, the teacher's images and answers included.
        steps: optimiser steps of its training.
        kept: the step of its state, where that is not the last.
        row: its figures but for latency, where they were measured before.
    """

    role: Role
    name: str
    net: nn.Module
    label: str
    seconds: float | None = None
    steps: int | None = None
    kept: int | None = None
    row: Row | None = None

    def measured(self, task: Task, *, reference: nn.Module | None = None, seed: int = 0) -> Row:
        """Its figures but for latency. Takes what ``measure`` does."""
        if self.row is not None:
            return self.row
        row = measure(self.role, self.net, task, name=self.name, reference=reference, seed=seed, seconds=self.seconds,
                      steps=self.steps, timed=False)  # fmt: skip
        return row.model_copy(update={"kept": self.kept})


def assess(
    task: Task,
    nets: Iterable[Contender],
    *,
    title: str,
    reference: nn.Module | None = None,
    seed: int = 0,
    ground_truth: bool = True,
    seconds: Seconds | None = None,
    notes: Sequence[str] = (),
    machine: str = "",
) -> Report:
    """Measure nets on a task, its baseline too where it shows pictures and has one, and report.

    Args:
        task: measures them.
        nets: what is measured.
        title: what is measured, in words.
        reference: the teacher, for tasks that measure how near a net comes to it.
        seed: of the evaluation.
        ground_truth: as for ``compare``.
        seconds: as for ``compare``.
        notes: further sentences, after the task's own on its figures.
        machine: what the nets were trained on.
    """
    rows = []
    if isinstance(task, Pictured) and task.baseline(task.example()) is not None:
        rows.append(measure("input", None, task, name=task.baseline_name, reference=reference, seed=seed))
    timed, busy_cores = in_turn(
        [(each.measured(task, reference=reference, seed=seed), each.net) for each in nets], task
    )
    rows += timed
    primary_metric = deciding(task, taught=reference is not None)
    spoilt = [text("beware", "Beware, {fault}.", fault=line)
              for row in rows if row.role == "student" for line in beyond(row.metrics).values()]  # fmt: skip
    sentences = [task.describe_evaluation(reference=reference, seed=seed), *spoilt, *notes]
    report = compare(rows, task=title, primary_metric=primary_metric, per=per_image(task), ground_truth=ground_truth,
                     seconds=seconds, notes=sentences, busy_cores=busy_cores)  # fmt: skip
    return report.model_copy(update={"machine": machine})


def in_turn(measured: Sequence[tuple[Row, nn.Module]], task: Task) -> tuple[list[Row], float]:
    """Rows of nets with their latencies, for which the nets are called in turn.

    Returns:
        the rows; and how many cores of the machine other programs kept meanwhile, 0 where enough of them were left.
    """
    example, others = task.example(), OtherWork()
    shown = [shown_by(task, net, example, teaches=row.role == "teacher") for row, net in measured]
    own = {number: each for number, each in enumerate(shown) if each.x is not example.x}
    times = cost.latencies_ms([net for _, net in measured], example.x, example.cond, own=own)
    cores = others.cores()
    rows = [row.model_copy(update={"latency_ms": ms}) for (row, _), ms in zip(measured, times, strict=True)]
    return rows, cores if others.crowds(cores) else 0.0


def per_image(task: Task) -> Text:
    """What an image of the task is, in words: ``at 256x256`` for images, ``an image`` for latents."""
    shape = task.example().x.shape
    if len(shape) == 4 and shape[1] in (1, 3):
        return text("at_size", "at {height}x{width}", height=shape[-2], width=shape[-1])
    return text("an_image", "an image")


def merge(reports: Sequence[Report]) -> Report:
    """Reports of the same recipe at several seeds as one: the mean of each figure and the spread of each metric.

    Rows are the same where role and name are. Spread is the sample standard deviation (with n - 1).

    Raises:
        UserError: without reports, or where they are of different tasks.
    """
    if not reports:
        raise UserError(text("no_reports", "there are no reports to merge"))
    tasks = list(dict.fromkeys(report.task for report in reports))
    if len(tasks) > 1:
        raise UserError(text("different_reports", "these runs measured different things: {names:; }", names=tasks))
    groups: dict[tuple[str, str], list[Row]] = {}
    for report in reports:
        for row in report.rows:
            groups.setdefault((row.role, row.name), []).append(row)
    timed = [report.seconds for report in reports if report.seconds is not None]
    seconds = Seconds(
        answers=fmean(each.answers for each in timed),
        training=fmean(each.training for each in timed),
        answers_from_disk=all(each.answers_from_disk for each in timed),
        drawing=fmean(drawn) if (drawn := [each.drawing for each in timed if each.drawing is not None]) else None,
        assistants=fmean(each.assistants for each in timed),
    ) if timed else None  # fmt: skip
    return compare(
        [_merge_rows(rows) for rows in groups.values()],
        task=tasks[0],
        primary_metric=reports[0].primary_metric,
        per=reports[0].per,
        ground_truth=all(report.ground_truth for report in reports),
        seconds=seconds,
        notes=list(dict.fromkeys(note for report in reports for note in report.notes)),
        busy_cores=max(report.busy_cores for report in reports),
    )


def of_one_recipe(folders: Sequence[Path]) -> list[Report] | None:
    """The reports of several runs of one recipe with different seeds; None if the folders are anything else."""
    if len(folders) < 2 or not all((f / "report.json").is_file() and (f / "recipe.json").is_file() for f in folders):
        return None
    recipes = [read(folder / "recipe.json") for folder in folders]
    distinct = {recipe.model_copy(update={"seed": 0, "device": "auto"}).to_json() for recipe in recipes}
    if len(distinct) > 1 or len({recipe.seed for recipe in recipes}) < len(recipes):
        return None
    return [Report.read(folder) for folder in folders]


def _merge_rows(rows: Sequence[Row]) -> Row:
    first, count = rows[0], len(rows)
    keys = [key for key in first.metrics if all(key in row.metrics for row in rows)]
    columns = {key: [row.metrics[key] for row in rows] for key in keys}
    seconds = [row.seconds for row in rows if row.seconds is not None]
    steps = [row.steps for row in rows if row.steps is not None]
    return first.model_copy(
        update={
            "metrics": {key: fmean(values) for key, values in columns.items()},
            "spread": {key: _spread(values) for key, values in columns.items()} if count > 1 else {},
            "num_seeds": count,
            "latency_ms": fmean(row.latency_ms for row in rows),
            "seconds": fmean(seconds) if seconds else None,
            "steps": round(fmean(steps)) if steps else None,
            "answers": sum(row.answers for row in rows),
            "not_finite": sum(row.not_finite for row in rows),
        }
    )


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if all(map(math.isfinite, values)) else math.nan


__all__ = ["Contender", "Report", "Role", "Row", "Seconds", "assess", "compare", "in_turn", "measure", "merge",
           "of_one_recipe", "per_image", "quality", "verdict"]  # fmt: skip
