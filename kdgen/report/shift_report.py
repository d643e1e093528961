"""What shifted images do to nets: as tables, in words, and as a curve of what breaks first."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pydantic import ConfigDict, Field, computed_field

from kdgen.metrics.columns import column_of, lower_is_better
from kdgen.report.report import ROLES, Role, heading
from kdgen.types import Text, text
from kdgen.utils.schema import Spoken, Strict

BROKEN = 0.5
"""What is left at least of what a net can, where it is not broken."""

COLOURS: dict[Role, str] = {"teacher": "#000000", "student": "#0072b2", "model": "#0072b2", "control_steps": "#d55e00",
                            "control_seconds": "#e69f00"}  # fmt: skip

Figures = dict[str, float]
Table = tuple[list[Text], list[list[Text]]]


class ShiftRow(Strict):
    """One net on shifted images. Figures that are not finite are kept, as strings in JSON."""

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="strings")

    role: Role = Field(description="what the net is to the others; `input` is what it has to beat")
    name: Text = Field(description="what it is called")
    unshifted: Figures = Field(description="figures by name on the images as they are")
    shifted: dict[str, tuple[Figures, ...]] = Field(description="by shift, then from severity 1 on")
    other: Figures | None = Field(None, description="on the other images, where there were any")


class ShiftReport(Spoken):
    """Nets on shifted images, written as `shift.json`, `shift.md` and `shift.png`."""

    task: str = Field(description="what was measured, in words")
    metric: str = Field(description="the figure of the tables")
    rows: tuple[ShiftRow, ...] = Field(description="the nets, and before them what they have to beat")
    other: str = Field("", description="the other images")
    measured: Text = Field(Text(""), description="how the figures came about")

    @property
    def nets(self) -> list[ShiftRow]:
        """The rows of nets."""
        return [row for row in self.rows if row.role != "input"]

    @property
    def floor(self) -> ShiftRow | None:
        """What they have to beat, if there is any such."""
        return next((row for row in self.rows if row.role == "input"), None)

    def series(self, row: ShiftRow, shift: str) -> list[float]:
        """The figures of a net under a shift: on the images as they are, then from severity 1 on."""
        return [figures.get(self.metric, math.nan) for figures in (row.unshifted, *row.shifted[shift])]

    def left(self, row: ShiftRow, shift: str) -> list[float]:
        """What is left of what a net can, from severity 1 on: 1 is all.

        That is its gain over what ``floor`` has on the images as they are, as a share of its gain on these; without a
        floor its figure as a share of that on these, or the inverse where lower is better. Empty for a net that gains
        nothing on the images as they are, which has nothing to lose.
        """
        own, lower = self.series(row, shift), lower_is_better(self.metric)
        if self.floor is None:
            gains = [1 / value if value else math.nan for value in own] if lower else own
        else:
            sign, least = -1 if lower else 1, self.floor.unshifted[self.metric]
            gains = [sign * (value - least) for value in own]
        return [gain / gains[0] for gain in gains[1:]] if gains[0] > 0 else []

    def broken(self, row: ShiftRow) -> dict[str, int]:
        """The first severity at which less than ``BROKEN`` is left, by shift, the lowest and then the worst first."""
        found = {}
        for shift in row.shifted:
            left = self.left(row, shift)
            severity = next((number for number, share in enumerate(left, 1) if not share >= BROKEN), None)
            if severity is not None:
                found[shift] = (severity, left[severity - 1])
        return {shift: severity for shift, (severity, _) in sorted(found.items(), key=lambda item: item[1])}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def breaks(self) -> list[dict[str, int]]:
        """For each of ``nets`` what breaks it and at which severity, what does so first in front."""
        return [self.broken(row) for row in self.nets]

    def means(self) -> Table:
        """Header and cells: for each row its figure on the images as they are, and the mean over each shift."""
        shifts = list(self.rows[0].shifted)
        header = [Text(""), text("column_name", "name"), text("unshifted", "as they are"), *map(Text, shifts)]
        header += [text("on_other", "on {images}", images=self.other)] if self.other else []
        cells = []
        for row in self.rows:
            series = [self.series(row, shift) for shift in shifts]
            figures = [series[0][0], *(sum(each[1:]) / len(each[1:]) for each in series)]
            figures += [row.other.get(self.metric, math.nan)] if row.other is not None else []
            cells.append([ROLES[row.role], row.name, *map(self._shown, figures)])
        return header, cells

    def by_severity(self) -> Table:
        """Header and cells: for each net and shift its figure at each severity, and where it breaks."""
        most = max(len(figures) for row in self.nets for figures in row.shifted.values())
        header = [Text(""), text("shift", "shift"), *(Text(str(number)) for number in range(1, most + 1))]
        header.append(text("breaks_at", "breaks at"))
        cells = []
        for row in self.nets:
            broken = self.broken(row)
            for shift in row.shifted:
                figures = [self._shown(value) for value in self.series(row, shift)[1:]]
                figures += [Text("-")] * (most - len(figures))
                cells.append([row.name, Text(shift), *figures, Text(str(broken.get(shift, "-")))])
        return header, cells

    def tables(self) -> list[tuple[Text, Table]]:
        """Both tables, with what stands above them."""
        what = heading(self.metric)
        return [(text("shift_means", "{metric}, means over the severities of each shift", metric=what), self.means()),
                (text("shift_severities", "{metric} by severity", metric=what), self.by_severity())]  # fmt: skip

    def sentences(self) -> list[Text]:
        """How it was measured, what breaking means, and what breaks each net first."""
        if self.floor is not None:
            meaning = text("left_of_gain", "What is left is the gain over {floor} on the images as they are, {figure}, "
                           "as a share of the gain on these: where less than half of it is left, a net is broken.",
                           floor=self.floor.name, figure=self._shown(self.floor.unshifted[self.metric]))  # fmt: skip
        else:
            meaning = text("left_of_figure", "What is left is the figure as a share of that on the images as they are, "
                           "or the inverse where lower is better: where less than half of it is left, a net is "
                           "broken.")  # fmt: skip
        return [*filter(None, [self.measured]), meaning, *map(self._first, self.nets)]

    def _first(self, row: ShiftRow) -> Text:
        who: dict[str, Text] = {"role": ROLES[row.role], "name": row.name}
        if not self.left(row, next(iter(row.shifted))):
            return text("nothing_to_lose", "The {role} {name} gains nothing on the images as they are: it has nothing "
                        "to lose.", **who)  # fmt: skip
        broken = self.broken(row)
        if not broken:
            least, shift = min((min(self.left(row, shift)), shift) for shift in row.shifted)
            return text("unbroken", "Nothing breaks the {role} {name}: {left:.0%} is left where it loses most, by "
                        "{shift}.", shift=Text(shift), left=least, **who)  # fmt: skip
        shift, severity = next(iter(broken.items()))
        return text("breaks_first", "The {role} {name} is broken first by {shift}, at severity {severity}: {left:.0%} "
                    "is left.", shift=Text(shift), severity=severity, left=self.left(row, shift)[severity - 1],
                    **who)  # fmt: skip

    def to_markdown(self) -> str:
        """The report as a page."""
        lines = [f"# {self.task}", ""]
        for title, (header, cells) in self.tables():
            align = ["---", "---", *["---:"] * (len(header) - 2)]
            table: list[Sequence[str]] = [header, align, *cells]
            lines += [f"{title}:", "", *(f"| {' | '.join(line)} |" for line in table), ""]
        return "\n".join([*lines, *(f"{line}\n" for line in self.sentences())])

    def save(self, folder: Path) -> None:
        """Write `shift.json`, `shift.md` and `shift.png` into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "shift.json").write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (folder / "shift.md").write_text(self.to_markdown(), encoding="utf-8")
        self.draw(folder / "shift.png")

    def draw(self, path: Path) -> None:
        """Write a picture: what is left of each net by severity, a panel for each shift."""
        shifts = list(self.rows[0].shifted)
        figure = Figure(figsize=(3.4 * len(shifts), 4.2), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(shifts), sharey=True, squeeze=False)[0]
        for axes, shift in zip(panels, shifts, strict=True):
            for row in self.nets:
                left = [1.0, *self.left(row, shift)]
                axes.plot(range(len(left)), [100 * share for share in left], "o-" if row.role == "teacher" else "s--",
                          ms=4, lw=1.6, color=COLOURS.get(row.role), label=f"{ROLES[row.role]} {row.name}")  # fmt: skip
            axes.axhline(100 * BROKEN, color="#7f7f7f", lw=1, ls=":")
            axes.set(title=shift, xlabel="severity")
            axes.grid(visible=True, alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("left of what it can as they are (%)")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(path, format="png")

    def _shown(self, value: float) -> Text:
        return Text(column_of(self.metric).shown.format(value)) if math.isfinite(value) else Text("-")


__all__ = ["ShiftReport", "ShiftRow"]
