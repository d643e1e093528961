"""Teacher, student and controls as a table, as data, and in words."""

import math
from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, ValidationError

from kdgen.types import Task, UserError
from kdgen.utils.schema import Strict, explain_error

Role = Literal["input", "teacher", "assistant", "student", "control_steps", "control_seconds", "model"]

ROLES: dict[Role, str] = {
    "input": "input",
    "teacher": "teacher",
    "assistant": "assistant",
    "student": "student",
    "control_steps": "control, equal steps",
    "control_seconds": "control, equal seconds",
    "model": "model",
}
"""What a role is called in tables and pictures, in the order in which rows stand."""

_COLUMNS = {
    "psnr": ("PSNR (dB)", "{:.2f}"),
    "ssim": ("SSIM", "{:.4f}"),
    "sharpness": ("sharpness (gradient energy, 1 = reference's)", "{:.3f}"),
    "perceptual": ("perceptual distance (features32)", "{:.4f}"),
    "saturation": ("saturation (share of black and white values, less the reference's)", "{:+.3f}"),
    "contrast": ("contrast (1 = reference's)", "{:.3f}"),
    "diversity_ratio": ("diversity, 1 = reference's", "{:.3f}"),
    "diversity": ("diversity", "{:.4f}"),
    "vendi": ("Vendi score", "{:.2f}"),
    "fid": ("FID", "{:.2f}"),
    "kid": ("KID", "{:.5f}"),
    "latent_error": ("error of the latents, share of the teacher's variance", "{:.2%}"),
    "psnr_teacher_decoder": ("PSNR (dB) of the teacher's decoder on its latents, to the teacher", "{:.2f}"),
    "psnr_student_decoder": ("PSNR (dB) of its decoder on the teacher's latents, to the teacher", "{:.2f}"),
}

LOWER_IS_BETTER = ("fd_", "kd_", "fid", "kid", "perceptual", "latent_error")
"""How the names of metrics begin that are distances."""


class Row(Strict):
    """One net of a report. Figures that are not finite are kept, as the strings ``NaN`` and ``Infinity`` in JSON."""

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="strings")

    role: Role = Field(description="what the net is to the others")
    name: str = Field(description="what it is called")
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
    def fault(self) -> str:
        """What is wrong with its answers or figures, in words; empty where all of them are finite."""
        if self.not_finite:
            return f"gave NaN or infinite values in {self.not_finite:,} of {self.answers:,} answers"
        names = [key for key, value in self.metrics.items() if not math.isfinite(value)]
        return f"has figures that are no numbers: {', '.join(names)}" if names else ""


def deciding(task: Task, *, taught: bool) -> str:
    """The metric by which nets of a task are judged, in reports and while they train; ``taught`` where by a teacher."""
    return task.taught_primary_metric if taught else task.primary_metric


def outdoes(metric: str, value: float, other: float) -> bool:
    """Whether a figure is better than another of the same metric."""
    return value < other if metric.startswith(LOWER_IS_BETTER) else value > other


class Seconds(Strict):
    """Where the seconds of the student's run went."""

    answers: float = Field(0.0, ge=0, description="seconds for the teacher's cached answers")
    training: float = Field(0.0, ge=0, description="seconds for training the student")
    answers_from_disk: bool = Field(False, description="whether the answers lay on disk already")
    drawing: float | None = Field(
        None, ge=0, description="seconds for drawing the images to train on; 0 where they lay on disk, null for none"
    )
    assistants: float = Field(0.0, ge=0, description="seconds for all assistants, their teachers' answers included")


class Report(Strict):
    """A comparison of nets, written as `report.json` and `report.md`."""

    task: str = Field(description="what was measured, in words")
    rows: tuple[Row, ...] = Field(description="the nets")
    verdict: str = Field("", description="whether the teacher helped, in words")
    primary_metric: str = Field("psnr", description="the metric that decides which of two nets is better")
    per: str = Field("at 256x256", description="what an image is, as cost is stated")
    ground_truth: bool = Field(True, description="whether there was anything but the teacher to train on")
    seconds: Seconds | None = Field(None, description="where the seconds of the student's run went")
    notes: tuple[str, ...] = Field((), description="sentences on how it came about")
    machine: str = Field("", description="what the student was trained on")
    busy_cores: float = Field(0.0, ge=0, description="of the machine, kept by others while latencies were taken")

    def find(self, role: Role) -> Row | None:
        """The first row of a role, None if there is none."""
        return next((row for row in self.rows if row.role == role), None)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The header and the cells as text, with units; costs are those of an image, savings against the teacher."""
        teacher = self.find("teacher")
        trained = any(row.steps is not None for row in self.rows)
        broken = any(row.not_finite for row in self.rows)
        metrics = list(dict.fromkeys(key for row in self.rows for key in row.metrics))
        header = ["", "name", *(heading(key) for key in metrics)]
        header += ["answers that are not finite"] if broken else []
        several = any(row.calls > 1 for row in self.rows)
        header += ["parameters", "MACs an image" if several else f"MACs {self.per}"]
        header += ["latency an image (ms)" if several else "latency (ms)", "weights (kB)"]
        header += ["calls an image"] if several else []
        header += ["fewer parameters", "fewer MACs", "faster"] if teacher else []
        header += ["steps", "seconds"] if trained else []
        cells = []
        for row in self.rows:
            line = [ROLES[row.role], row.name, *(_figure(row, key) for key in metrics)]
            line += [f"{row.not_finite:,} of {row.answers:,}" if row.answers else "-"] if broken else []
            line += _costs(row)
            line += [str(row.calls) if row.num_params else "-"] if several else []
            line += _savings(row, teacher) if teacher else []
            line += [_steps(row), _or_dash(row.seconds, "{:.0f}")] if trained else []
            cells.append(line)
        return header, cells

    def sentences(self) -> list[str]:
        """Everything the report says in words: the verdict, the seconds and the notes."""
        lines = [self.verdict] if self.verdict else []
        if self.seconds is not None:
            lines.append(self._account(self.seconds))
        seeds = max((row.num_seeds for row in self.rows), default=1)
        if seeds > 1:
            lines.append(f"Figures are means over {seeds} seeds ± the sample standard deviation.")
        if self.busy_cores:
            lines.append("The machine was busy while latencies were taken: other programs kept "
                         f"{self.busy_cores:.1f} of its cores. On an idle one they are lower.")  # fmt: skip
        return [*lines, *self.notes]

    def _account(self, seconds: Seconds) -> str:
        training = f"The student trained for {seconds.training:.0f} s"
        if seconds.assistants:
            training += f", its assistants took {seconds.assistants:.0f} s"
        if self.find("teacher") is None:
            return f"{training}."
        answers = "already lay on disk" if seconds.answers_from_disk else f"took {seconds.answers:.0f} s"
        allowance = "was given no time for them" if seconds.answers_from_disk else "was given that time too"
        source = "cached answers of the net before it" if seconds.assistants else "teacher's cached answers"
        control = f", and the control at equal seconds {allowance}" if self.find("control_seconds") else ""
        also = " It had the assistants' seconds too." if control and seconds.assistants else ""
        return f"{training}; the {source} {answers}{control}.{also}{self._drawing(seconds)}"

    def _drawing(self, seconds: Seconds) -> str:
        """A sentence on the images that a model drew to train on, after a space; nothing where there are none."""
        if seconds.drawing is None:
            return ""
        if not seconds.drawing:
            return " The images to train on, drawn by a model, already lay on disk."
        control = ", and the control at equal seconds was given them too" if self.find("control_seconds") else ""
        return f" Drawing the images to train on took {seconds.drawing:.0f} s, which count as the student's{control}."

    def to_markdown(self) -> str:
        """The report as a page: the table, and in words whether the teacher helped."""
        header, cells = self.table()
        align = ["---", "---", *["---:"] * (len(header) - 2)]
        lines = [f"| {' | '.join(line)} |" for line in [header, align, *cells]]
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
            raise UserError(f"cannot read the report {path}: {error}") from None
        except ValidationError as error:
            raise UserError(f"{path}: {explain_error(error, cls)}") from None


def heading(key: str) -> str:
    """What a metric is called in tables, with its unit, e.g. ``PSNR (dB) at 25``."""
    name, _, level = key.partition("@")
    title = _COLUMNS.get(name, (name,))[0]
    title = f"{title} (lower is better)" if name.startswith(LOWER_IS_BETTER) else title
    return f"{title} {'to the' if level in ('data', 'teacher') else 'at'} {level}" if level else title


def worded(metric: str, value: float) -> str:
    """A figure in a few words, e.g. ``29.72 dB`` or ``fd_features32 0.91``."""
    if not math.isfinite(value):
        return f"{metric} is not a number"
    return f"{value:.2f} dB" if metric.partition("@")[0] == "psnr" else f"{metric} {value:.4g}"


def _figure(row: Row, key: str) -> str:
    if key not in row.metrics:
        return "-"
    text = _COLUMNS.get(key.partition("@")[0], ("", "{:.4g}"))[1]
    spread = f" ± {text.format(row.spread[key])}" if key in row.spread else ""
    return text.format(row.metrics[key]) + spread


def _costs(row: Row) -> list[str]:
    if not row.num_params:
        return ["-"] * 4
    return [f"{row.num_params:,}", count(row.image_macs), f"{row.image_ms:.1f}", f"{row.size_bytes / 1000:,.0f}"]


def _savings(row: Row, teacher: Row) -> list[str]:
    pairs = [
        (teacher.num_params, row.num_params),
        (teacher.image_macs, row.image_macs),
        (teacher.image_ms, row.image_ms),
    ]
    return [f"{reference / own:.1f}x" if own and row is not teacher else "-" for reference, own in pairs]


def _steps(row: Row) -> str:
    return _or_dash(row.steps, "{:,}") + (f", that of {row.kept:,} kept" if row.kept is not None else "")


def _or_dash(value: float | None, text: str) -> str:
    return "-" if value is None else text.format(value)


def count(number: float) -> str:
    """A large number in short, e.g. ``36.4 G``."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:g}"
