"""What a finished run says to a colleague, and the charts drawn for the page."""

import json
import re
import shutil
import time

import pytest

from kdgen.report.compare import compare
from kdgen.report.report import Report, Row
from kdgen.ui import watch
from kdgen.ui.charts import figures, loss_chart, quality_chart
from kdgen.ui.disk import size_of
from kdgen.ui.job import new_session, owner_of
from kdgen.ui.limits import Limits
from kdgen.ui.plot import COLOURS, Axis, Series, plot
from kdgen.ui.progress import follow
from kdgen.ui.result import five_rows, headline, numbers, result
from kdgen.ui.runs import Runs
from kdgen.ui.showcase import EXAMPLE, FOLDER
from kdgen.ui.words import CHINESE, ENGLISH


def row(role: str, figure: float, metric: str = "psnr", **costs: float) -> Row:
    given = {"num_params": 100, "macs": 1000, "latency_ms": 2.0, "size_bytes": 4000, **costs}
    return Row(role=role, name=role, metrics={metric: figure}, **given)  # type: ignore[arg-type]


def few_steps() -> Report:
    """A student that draws in one step what its teacher draws in 49: the same net."""
    rows = [row("teacher", 0.1, "fd_features32", calls=49), row("student", 2.0, "fd_features32")]
    return compare(rows, task="few_steps", primary_metric="fd_features32")


def denoiser() -> Report:
    rows = [row("input", 20.0, num_params=0, macs=0), row("teacher", 30.0, macs=14_000, latency_ms=24.0),
            row("student", 29.94), row("control_steps", 29.5), row("control_seconds", 29.0)]  # fmt: skip
    return compare(rows, task="denoise")


def test_the_numbers_of_a_result_are_those_of_its_table() -> None:
    found, report = numbers(denoiser(), ENGLISH), denoiser()
    assert found is not None
    assert (found.kept[0], found.cheaper, found.faster, found.lost) == ("99 %", "14.0x", "12.0x", "0.06 dB")
    assert (found.gain, found.helped) == ("+0.44 dB", True), "against the better control"
    assert (
        headline(found, report, ENGLISH)
        == "Keeps 99 % of what its teacher does, and is 14.0x cheaper and 12.0x faster."
    )
    assert "14.0x" in report.to_markdown()
    few = numbers(few_steps(), ENGLISH)
    assert few is not None
    assert (few.cheaper, few.faster) == ("49x", "49x")
    assert "49.0x" in few_steps().to_markdown()
    assert "distance" in headline(few, few_steps(), ENGLISH) or "lie 2 from" in headline(few, few_steps(), ENGLISH)


@pytest.mark.parametrize("words", [ENGLISH, CHINESE])
def test_a_result_opens_with_three_numbers_and_five_rows_the_student_first(words: dict[str, str]) -> None:
    text = result(denoiser(), words, place="here")
    opening, folded = text.split("<details")
    assert [re.sub("<.*?>", "", each) for each in re.findall(r"<dd>(.*?)</dd>", opening)] == ["99 %", "14.0x", "12.0x"]
    assert opening.count("<tr>") == 6
    assert re.findall(r"<th scope=col>(.*?)</th>", five_rows(denoiser(), words))[0] == words["student"]
    assert words.get("core_role_control_seconds", "control, equal seconds") in folded
    own = words.get("core_role_student", "student")
    assert re.search(f"<th scope=col class=kd-own>{own}", folded)


def test_a_broken_student_has_no_numbers() -> None:
    broken = row("student", 29.0).model_copy(update={"not_finite": 3, "answers": 5})
    report = compare([row("teacher", 30.0), broken], task="denoise")
    assert numbers(report, ENGLISH) is None
    assert "BROKEN" in result(report, ENGLISH, place="here")


def test_the_example_is_small_and_whole() -> None:
    assert size_of(EXAMPLE) < 300_000
    shown = watch.example(ENGLISH)
    for words in ("kd-numbers", "kd-stage", "kd-chart", "13.5x cheaper", "dB lost", 'class="kd-level"'):
        assert words in shown
    assert watch.example(CHINESE) != shown
    assert (EXAMPLE / FOLDER / "chelsea-student.webp").is_file()


def test_terms_are_told_apart_and_the_teacher_is_a_line() -> None:
    steps = [{"seconds": float(n), "step": n, "data": {"loss": 3.0 / n, "output": 2.0 / n, "feature": 1.0 / n}}
             for n in range(1, 60)]  # fmt: skip
    chart = loss_chart({"student": {"step": steps, "evaluate": []}}, ENGLISH)
    looks = re.findall(r'fill="none" stroke="([^"]+)" stroke-width="[^"]+" stroke-dasharray="([^"]*)"', chart)
    assert len(looks) == 3
    assert len({colour for colour, _ in looks}) == len({dash for _, dash in looks}) == 3
    assert chart.count("<li>") == 3
    evaluations = [
        {"seconds": 5.0, "step": 5, "data": {"psnr": 27.0}},
        {"seconds": 9.0, "step": 9, "data": {"psnr": 28.0}},
    ]
    taught = [{"seconds": 0.0, "step": 0, "data": {"psnr": 30.0}}]
    curves = {"student": {"step": [], "evaluate": evaluations}, "teacher": {"step": [], "evaluate": taught}}
    drawn = quality_chart(curves, "psnr", ENGLISH)
    assert "Teacher 30" in drawn
    assert drawn.count("<polyline") == 1
    distances = {"student": {"step": [], "evaluate": [{"seconds": 5.0, "step": 5, "data": {"fid": 40.0}},
                                                      {"seconds": 9.0, "step": 9, "data": {"fid": 30.0}}]}}  # fmt: skip
    assert 'text-anchor="end">0<' in quality_chart(distances, "fid", ENGLISH), "from zero"


def test_a_log_tells_what_the_teacher_reaches() -> None:
    assert follow(EXAMPLE).curves["teacher"]["evaluate"][0]["data"]["psnr"] > 29


def test_the_label_of_a_point_keeps_off_the_level_and_the_sides() -> None:
    def label(figure: float, across: float) -> tuple[float, str]:
        others = [Series(str(place), [(place, 20.0)], COLOURS[1], width=0) for place in (1e6, 1e12)]
        points = [Series("1", [(across, figure)], COLOURS[0], width=0), *others]
        chart = plot(points, Axis("cost", log=True), Axis("quality"), "all", level=("Teacher", 30.0))
        found = re.search(r'dy="([-\d]+)" text-anchor="(\w+)">1<', chart)
        assert found is not None
        return float(found[1]), found[2]

    assert label(29.8, 1e9) == (24.0, "middle"), "below, for the level is just above"
    assert label(25.0, 1e9)[0] < 0
    assert label(30.2, 1e9)[0] < 0
    assert label(25.0, 1e6)[1] == "start"
    assert label(25.0, 1e12)[1] == "end"


@pytest.mark.parametrize("words", [ENGLISH, CHINESE])
def test_the_curve_says_that_its_figures_are_of_a_few_images(words: dict[str, str]) -> None:
    run = follow(EXAMPLE)
    note = words["quality_quick"].format(count=2)
    assert run.quick_images == 2
    assert note in watch.example(words)
    assert figures(run, words).count("kd-note") == 1


@pytest.mark.parametrize("words", [ENGLISH, CHINESE])
def test_a_preset_promises_no_more_than_its_example_keeps(words: dict[str, str]) -> None:
    report = follow(EXAMPLE).report()
    found = numbers(report, words) if report else None
    (promised,) = re.findall(r"([\d.]+) dB", words["preset_denoise"])
    assert found is not None
    assert float(found.lost.removesuffix(" dB")) <= float(promised) <= 0.2


def test_pictures_that_are_being_made_are_announced(tmp_path, monkeypatch) -> None:
    id, owner = "0123456789ab", new_session()
    home = tmp_path / "runs" / id
    shutil.copytree(EXAMPLE, home / "run", ignore=shutil.ignore_patterns(FOLDER))
    job = {"id": id, "owner": owner_of(owner), "name": "denoise", "task": "denoise", "created": 1.0,
           "ended": time.time(), "state": "done", "message": ""}  # fmt: skip
    (home / "job.json").write_text(json.dumps(job))
    runs = Runs(Limits(folder=tmp_path), lambda *_: 0)

    def seen(state):
        return dict(zip(("chosen", *watch.LOOKED), watch.look(runs, owner, id, state, None), strict=True))

    first = seen({})
    assert ENGLISH["pictures_coming"] in first["table"]
    assert first["timer"].active
    again = seen(first["state"])
    assert isinstance(again["table"], dict), "nothing new"
    shutil.copytree(EXAMPLE / FOLDER, home / FOLDER)
    there = seen(first["state"])
    assert "kd-stage" in there["table"]
    assert "kd-coming" not in there["table"]
    assert not there["timer"].active
    shutil.rmtree(home / FOLDER)
    monkeypatch.setattr(watch, "SHOWN_WITHIN", 0.0)
    late = seen(first["state"])
    assert "kd-coming" not in late["table"], "they never came"
    assert not late["timer"].active
    runs.close()
