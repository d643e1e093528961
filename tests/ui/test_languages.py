"""What the package says, in the language of whoever reads it."""

import ast
import json
import re
import string
from collections import defaultdict
from pathlib import Path

import pytest
from plain_english import english_in, plain_english
from serving import advanced

import kdgen
from kdgen import registry
from kdgen.presets import preset
from kdgen.recipe import override
from kdgen.report.compare import compare
from kdgen.report.report import Report, Row
from kdgen.report.seconds import Seconds
from kdgen.types import Text, UserError, text
from kdgen.types.text import replaced, with_texts
from kdgen.ui import markup, teacher_files
from kdgen.ui.job import Job
from kdgen.ui.process import EVENTS, complaint
from kdgen.ui.progress import follow
from kdgen.ui.showcase import EXAMPLE
from kdgen.ui.words import CHINESE, ENGLISH, translated

ROOT = Path(kdgen.__file__).parent

ELSEWHERE = {
    "data/arrays.py": "arrays are given in Python",
    "data/idx.py": "the app takes no such images",
    "data/image_folder.py": "the app takes no such images",
    "data/pairs.py": "the app takes no such images",
    "hub/deploy.py": "a command alone",
    "hub/pull.py": "a command alone",
    "presets/steps.py": "a flag of a command",
    "training/tracking.py": "a flag of a command",
    "ui/limits.py": "told to whoever starts the app",
    "utils/convert.py": "arrays are given in Python",
}
"""Modules, beside those of the command line, whose mistakes no visitor of the app meets, and why."""


def sentences() -> dict[str, set[str]]:
    """The English of every ``text("key", "English")`` in the source, by key."""
    found = defaultdict(set)
    for path in ROOT.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "text":
                key, english, *_ = (ast.literal_eval(each) for each in call.args)
                found[key].add(english)
    return found


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def test_every_sentence_of_the_package_is_known_in_chinese_with_the_same_figures() -> None:
    found = sentences()
    assert len(found) > 150
    core = {key.removeprefix("core_"): value for key, value in CHINESE.items() if key.startswith("core_")}
    assert {key for key, english in found.items() if len(english) > 1} == set(), "one key says one thing"
    assert found.keys() - core.keys() == set()
    assert {key for key in core.keys() - found.keys() if not key.startswith(("pydantic_", "json_"))} == set()
    assert {key for key, (english,) in found.items() if fields(english) != fields(core[key])} == set()
    figures_code_and_shapes = r"\{.*?\}|`.*?`|\([A-Z, ]*\)"
    assert [key for key, value in core.items() if english_in(re.sub(figures_code_and_shapes, "1", value))] == []


def test_every_mistake_and_warning_that_a_visitor_may_meet_has_a_key() -> None:
    plain = {path.relative_to(ROOT).as_posix(): plain_english(path) for path in sorted(ROOT.rglob("*.py"))}
    plain = {name: found for name, found in plain.items() if found and not name.startswith("cli/")}
    assert {name: found for name, found in plain.items() if name not in ELSEWHERE} == {}
    assert plain.keys() == ELSEWHERE.keys(), "what is listed is still so"


def test_words_of_the_page_are_known_in_both_languages_with_the_same_figures() -> None:
    page = {key: value for key, value in CHINESE.items() if not key.startswith("core_")}
    assert page.keys() == ENGLISH.keys()
    assert {key for key in page if fields(page[key]) != fields(ENGLISH[key])} == set()


def report() -> Report:
    rows = [Row(role=role, name=role, num_params=10, macs=20, latency_ms=1.0, metrics={"psnr": psnr}, steps=steps)
            for role, psnr, steps in (("teacher", 30.0, None), ("student", 29.0, 9), ("control_steps", 28.0, 9),
                                      ("control_seconds", 29.5, 9))]  # fmt: skip
    notes = [text("cropped", "cropped"), "Of an older version."]
    return compare(rows, task="denoise", seconds=Seconds(training=3, drawing=2), notes=notes, busy_cores=1.0)


def test_a_report_says_itself_in_chinese_after_it_lay_on_disk(tmp_path: Path) -> None:
    made = report()
    made.save(tmp_path)
    again = Report.read(tmp_path)
    assert again == made
    verdict = translated(again.verdict, CHINESE)
    assert re.findall(r"(..)相同时(\w+)\W([+-][\d.]+ dB)", verdict) == [("步数", "有帮助", "+1.00 dB"),
                                                                    ("时间", "没有帮助", "-0.50 dB")]  # fmt: skip
    assert english_in(markup.table(again, CHINESE)) == ["Of an older version"]
    assert translated(again.verdict, ENGLISH) == made.verdict
    assert json.loads((tmp_path / "report.json").read_text())["notes"] == ["cropped", "Of an older version."]


def test_a_report_of_before_is_read_and_said_in_english(tmp_path: Path) -> None:
    data = json.loads(report().model_dump_json())
    del data["texts"]
    (tmp_path / "report.json").write_text(json.dumps(data))
    assert translated(Report.read(tmp_path).verdict, CHINESE) == report().verdict


def test_the_example_that_comes_with_the_app_has_no_english_in_chinese() -> None:
    found = follow(EXAMPLE).report()
    assert found is not None
    assert english_in(markup.table(found, CHINESE)) == []


def test_a_mistake_of_a_run_s_process_is_said_in_chinese(tmp_path: Path) -> None:
    mistake = text(
        "cache_too_small", "a cache of {inputs} inputs is smaller than one batch of {batch}", inputs=4, batch=8
    )
    (tmp_path / "log.txt").write_text(f"kdgen: {mistake}\n")
    assert translated(complaint(tmp_path, 2), CHINESE) == mistake, "nothing but the line is known"
    event = {"kind": "refused", "phase": "", "data": {"message": mistake}}
    (tmp_path / EVENTS).write_text(json.dumps(with_texts(event)) + "\n")
    found = complaint(tmp_path, 2)
    assert found == mistake
    assert translated(found, CHINESE) == CHINESE["core_cache_too_small"].format(inputs=4, batch=8)
    mistake = text("file_damaged", "{path} is damaged: fetch it again", path=tmp_path / "a.pt")
    (tmp_path / "log.txt").write_text(f"kdgen: {mistake}\n")
    event = {"kind": "refused", "phase": "", "data": {"message": mistake}}
    (tmp_path / EVENTS).write_text(json.dumps(with_texts(event)) + "\n")
    found = complaint(tmp_path, 2)
    assert (found, translated(found, CHINESE)) == ("a.pt is damaged: fetch it again", "a.pt 已损坏：请重新下载")
    job = Job("1", "2", "denoise", "denoise", 0.0, state="failed", message=complaint(tmp_path, -9))
    assert "内存" in markup.status(job, 0, follow(tmp_path / "run"), CHINESE)


def test_figures_that_are_not_those_of_a_sentence_leave_the_english() -> None:
    assert translated(Text("old words", "cache_too_small", {"inputs": 4}), CHINESE) == "old words"
    assert translated(UserError(Text("old words", "no_such_key")), CHINESE) == "old words"


@pytest.mark.parametrize("words", ["batch_size=0", "stages.0.lr=fast", "nonsense=1", 'task.name="nothing"'])
def test_what_does_not_fit_a_recipe_is_said_in_chinese(words: str) -> None:
    def built() -> None:
        registry.build("task", override(preset("denoise"), [words]).task)

    with pytest.raises(UserError) as refused:
        built()
    assert english_in(translated(refused.value, CHINESE)) == []


def test_what_is_refused_of_an_upload_is_said_in_chinese_without_paths(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"x")
    with pytest.raises(UserError) as refused:
        teacher_files.keep([tmp_path / "a.pt"], None, 10**6, tmp_path)
    assert (
        translated(refused.value, CHINESE)
        == "a.pt：教师模型只接受 .safetensors 或 .onnx 格式，因为其他格式在读取时可能会运行代码"
    )
    sentence = text("broke_off", "it broke off: {last}", last=f"{tmp_path}/a")
    found = replaced(sentence, f"{tmp_path}/", "")
    assert (found, translated(found, CHINESE)) == ("it broke off: a", "运行中断：a")


def test_a_finished_run_and_a_mistake_leave_no_english_on_a_chinese_page(opened, finished) -> None:
    page = opened(session=finished.session, locale="zh-CN")
    page.locator("#kd-table .kd-five").wait_for()
    page.locator("footer").get_by_text("通过 API 使用").wait_for(timeout=20_000)
    assert english_in(page.locator("footer").inner_text()) == [], "nor do Gradio's own words"
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.locator("#kd-table .kd-verdict").count() == 1
    for place in ("#kd-status", "#kd-table", "#kd-curves", "#kd-example"):
        assert english_in(page.locator(place).inner_text()) == [], place
    advanced(page)
    page.locator("#kd-recipe textarea").fill('{"name": "mine"')
    page.locator("#kd-start").click()
    page.locator("#kd-notice [role=alert]", has_text="JSON").wait_for()
    assert english_in(page.locator("#kd-notice").inner_text()) == []
    page.locator("#kd-recipe textarea").fill('{"name": "mine", "seconds": 0, "student": {"name": "tiny"}}')
    page.locator("#kd-start").click()
    page.locator("#kd-notice [role=alert]", has_text=CHINESE["core_recipe"]).wait_for()
    assert english_in(page.locator("#kd-notice").inner_text()) == []


def test_gradio_s_own_words_are_chinese_in_every_chinese_browser(opened) -> None:
    page = opened(locale="zh-SG")
    page.locator("footer").get_by_text("通过 API 使用").wait_for(timeout=20_000)
    assert english_in(page.locator("footer").inner_text()) == []
    assert page.locator("#kd-start").inner_text() == CHINESE["start"]
