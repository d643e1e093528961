"""Teacher, student and controls as a table, as data, and in words."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, ValidationError

from kdgen.metrics.columns import column_of, lower_is_better
from kdgen.report.seconds import Seconds
from kdgen.types import Task, Text, UserError, text
from kdgen.utils.schema import Spoken, Strict, explain_error

Role = Literal[
    "input", "teacher", "further_teacher", "assistant", "student", "control_steps", "control_seconds", "model"
]

ROLES: dict[Role, Text] = {
    "input": text("role_input", "input"),
    "teacher": text("role_teacher", "teacher"),
    "further_teacher": text("role_further_teacher", "further teacher"),
    "assistant": text("role_assistant", "assistant"),
    "student": text("role_student", "student"),
    "control_steps": text("role_control_steps", "control, equal steps"),
    "control_seconds": text("role_control_seconds", "control, equal seconds"),
    "model": text("role_model", "model"),
}
"""What a role is called in tables and pictures, in the order in which rows stand."""


class Row(Strict):
    """One net of a report. Figures that are not finite are kept, as the strings ``NaN`` and ``Infinity`` in JSON."""

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="strings")

    role: Role = Field(description="what the net is to the others")
    name: Text = Field(description="what it is called")
    num_params: int = Field(0, ge=0, description="number of parameters")
    macs: int = Field(0, ge=0, description="multiply-accumulates of one call")
    latency_ms: float = Field(0.0, ge=0, description="milliseconds of one call, the fastest of several")
    calls: int = Field(1, ge=1, description="calls of the net that make an image")
    size_bytes: int = Field(0, ge=0, description="bytes of its weights")
    metrics: dict[str, float] = Field(description="figures by name: psnr in dB, ssim in [-1, 1], and so on")
    spread: dict[str, float] = Field({}, description="sample standard deviations of the metrics over seeds")
    num_seeds: int = Field(1, ge=1, description="number of seeds that the metrics are means of")
    seconds: float | None = Field(None, ge=0, description="seconds its training took, the teacher's answers included")
    steps: int | None = Field(None, ge=0, description="optimiser steps of its training")
    kept: int | None = Field(None, ge=0, description="the step whose state this is, where that is not the last")
    answers: int = Field(0, ge=0, description="answers that it gave while it was measured")
    not_finite: int = Field(0, ge=0, description="how many of these held values that are not finite")

    @property
    def image_macs(self) -> int:
        """Multiply-accumulates of an image."""
        return self.macs * self.calls

    @property
    def image_ms(self) -> float:
        """Milliseconds of an image."""
        return self.latency_ms * self.calls

    @property
    def fault(self) -> Text:
        """What is wrong with its answers or figures, in words; empty where all of them are finite."""
        if self.not_finite:
            return text("not_finite", "gave NaN or infinite values in {count:,} of {answers:,} answers",
                        count=self.not_finite, answers=self.answers)  # fmt: skip
        names = [key for key, value in self.metrics.items() if not math.isfinite(value)]
        return text("no_numbers", "has figures that are no numbers: {names:, }", names=names) if names else Text("")


def deciding(task: Task, *, taught: bool) -> str:
    """The metric by which nets of a task are judged, in reports and while they train; ``taught`` where by a teacher."""
    return task.taught_primary_metric if taught else task.primary_metric


def outdoes(metric: str, value: float, other: float) -> bool:
    """Whether a figure is better than another of the same metric."""
    return value < other if lower_is_better(metric) else value > other


class Report(Spoken):
    """A comparison of nets, written as `report.json` and `report.md`."""

    task: str = Field(description="what was measured, in words")
    rows: tuple[Row, ...] = Field(description="the nets")
    verdict: Text = Field(Text(""), description="whether the teacher helped, in words")
    primary_metric: str = Field("psnr", description="the metric that decides which of two nets is better")
    per: Text = Field(Text("at 256x256"), description="what an image is, as cost is stated")
    ground_truth: bool = Field(True, description="whether there was anything but the teacher to train on")
    seconds: Seconds | None = Field(None, description="where the seconds of the student's run went")
    notes: tuple[Text, ...] = Field((), description="sentences on how it came about")
    machine: str = Field("", description="what the student was trained on")
    busy_cores: float = Field(0.0, ge=0, description="of the machine, kept by others while latencies were taken")

    def find(self, role: Role) -> Row | None:
        """The first row of a role, None if there is none."""
        return next((row for row in self.rows if row.role == role), None)

    @property
    def taught(self) -> list[Row]:
        """The rows of the teachers, the main one first."""
        return [row for row in self.rows if row.role in ("teacher", "further_teacher")]

    def table(self) -> tuple[list[Text], list[list[Text]]]:
        """The header and the cells as text, with units; costs are those of an image, savings against the teachers.

        Of several teachers it is what they take together, each for its part of what the student does.
        """
        teacher = self.find("teacher")
        trained = any(row.steps is not None for row in self.rows)
        broken = any(row.not_finite for row in self.rows)
        metrics = list(dict.fromkeys(key for row in self.rows for key in row.metrics))
        several = any(row.calls > 1 for row in self.rows)
        header = [Text(""), text("column_name", "name"), *(heading(key) for key in metrics)]
        header += [text("column_not_finite", "answers that are not finite")] if broken else []
        header.append(text("column_parameters", "parameters"))
        header += (
            [text("column_image_macs", "MACs an image"), text("column_image_ms", "latency an image (ms)")]
            if several
            else [text("column_macs", "MACs {per}", per=self.per), text("column_ms", "latency (ms)")]
        )
        header.append(text("column_bytes", "weights (kB)"))
        header += [text("column_calls", "calls an image")] if several else []
        header += [text("column_fewer_parameters", "fewer parameters"), text("column_fewer_macs", "fewer MACs"),
                   text("column_faster", "faster")] if teacher else []  # fmt: skip
        header += [text("column_steps", "steps"), text("column_seconds", "seconds")] if trained else []
        cells = []
        for row in self.rows:
            line: list[str] = [_figure(row, key) for key in metrics]
            if broken:
                counts = text("of", "{count:,} of {total:,}", count=row.not_finite, total=row.answers)
                line.append(counts if row.answers else "-")
            line += _costs(row)
            line += [str(row.calls) if row.num_params else "-"] if several else []
            line += _savings(row, self.taught) if teacher else []
            line += [_steps(row), _or_dash(row.seconds, "{:.0f}")] if trained else []
            cells.append([ROLES[row.role], row.name, *map(Text.of, line)])
        return header, cells

    def sentences(self) -> list[Text]:
        """Everything the report says in words: the verdict, the seconds and the notes."""
        lines = [self.verdict] if self.verdict else []
        if self.seconds is not None:
            lines.append(self.seconds.account(taught=self.find("teacher") is not None,
                                              controlled=self.find("control_seconds") is not None))  # fmt: skip
        seeds = max((row.num_seeds for row in self.rows), default=1)
        if seeds > 1:
            lines.append(text("seeds", "Figures are means over {seeds} seeds ± the sample standard deviation.",
                              seeds=seeds))  # fmt: skip
        if self.busy_cores:
            lines.append(text("busy", "The machine was busy while latencies were taken: other programs kept "
                              "{cores:.1f} of its cores. On an idle one they are lower.",
                              cores=self.busy_cores))  # fmt: skip
        return [*lines, *self.notes]

    def to_markdown(self) -> str:
        """The report as a page: the table, and in words whether the teacher helped."""
        header, cells = self.table()
        align = ["---", "---", *["---:"] * (len(header) - 2)]
        rows: list[Sequence[str]] = [header, align, *cells]
        lines = [f"| {' | '.join(line)} |" for line in rows]
        return "\n".join([f"# {self.task}", "", *lines, "", *(f"{line}\n" for line in self.sentences())])

    def save(self, folder: Path) -> None:
        """Write `report.json` and `report.md` into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (folder / "report.md").write_text(self.to_markdown(), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """A report from a `report.json`, or from the folder that holds one.

        Raises:
            UserError: if it is absent or damaged.
        """
        path = path / "report.json" if path.is_dir() else path
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(text("report_unreadable", "cannot read the report {path}: {error}", path=path,
                                 error=str(error))) from None  # fmt: skip
        except ValidationError as error:
            raise UserError(text("at_key", "{key}: {message}", key=path, message=explain_error(error, cls))) from None


def heading(key: str) -> Text:
    """What a metric is called in tables, with its unit, e.g. ``PSNR (dB) at 25``."""
    name, _, level = key.partition("@")
    shown = column_of(name)
    title = text("lower_is_better", "{title} (lower is better)", title=shown.title) if shown.lower else shown.title
    if level == "data":
        return text("to_data", "{title} to the data", title=title)
    if level == "teacher":
        return text("to_teacher", "{title} to the teacher", title=title)
    return text("at_level", "{title} at {level}", title=title, level=level) if level else title


def in_decibels(metric: str) -> bool:
    """Whether a metric is a peak signal-to-noise ratio, of luma or at a level or to the teacher too."""
    return metric.startswith("psnr")


def worded(metric: str, value: float) -> Text:
    """A figure in a few words, e.g. ``29.72 dB`` or ``fd_features32 0.91``."""
    if not math.isfinite(value):
        return text("no_number", "{metric} is not a number", metric=metric)
    return Text(f"{value:.2f} dB" if in_decibels(metric) else f"{metric} {value:.4g}")


def _figure(row: Row, key: str) -> str:
    if key not in row.metrics:
        return "-"
    text = column_of(key).shown
    spread = f" ± {text.format(row.spread[key])}" if key in row.spread else ""
    return text.format(row.metrics[key]) + spread


def _costs(row: Row) -> list[str]:
    if not row.num_params:
        return ["-"] * 4
    return [
        f"{row.num_params:,}",
        count(row.image_macs) if row.macs else "-",
        f"{row.image_ms:.1f}",
        f"{row.size_bytes / 1000:,.0f}",
    ]


def _savings(row: Row, teachers: Sequence[Row]) -> list[str]:
    pairs = [
        (sum(each.num_params for each in teachers), row.num_params),
        (sum(each.image_macs for each in teachers), row.image_macs),
        (sum(each.image_ms for each in teachers), row.image_ms),
    ]
    taught = any(row is each for each in teachers)
    return [f"{reference / own:.1f}x" if own and reference and not taught else "-" for reference, own in pairs]


def _steps(row: Row) -> str:
    steps = _or_dash(row.steps, "{:,}")
    return (
        steps if row.kept is None else text("steps_kept", "{steps}, that of {kept:,} kept", steps=steps, kept=row.kept)
    )


def _or_dash(value: float | None, text: str) -> str:
    return "-" if value is None else text.format(value)


def count(number: float) -> str:
    """A large number in short, e.g. ``36.4 G``."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:g}"
