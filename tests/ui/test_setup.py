"""What the setup side shows is what runs: in a browser behind a slow network, and without one."""

import json

import pytest
from serving import advanced, begun, fill, homes, press, ready, stop

from kdgen.presets import preset
from kdgen.ui import choices
from kdgen.ui.composing import Values
from kdgen.ui.limits import Limits
from kdgen.ui.words import CHINESE, ENGLISH


def slow(page, milliseconds=150):
    """From now on each answer of the server takes longer."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", {
        "offline": False, "latency": milliseconds, "downloadThroughput": -1, "uploadThroughput": -1,
    })  # fmt: skip


def test_what_is_typed_and_started_at_once_is_what_runs(opened, server):
    page, before = opened(), homes(server)
    advanced(page)
    slow(page)
    page.locator("#kd-field-amount input").fill("93")
    page.locator("#kd-start").click()
    assert begun(server, before)["seconds"] == 93
    stop(page)


def test_clicks_of_the_impatient_begin_one_run(opened, server):
    page, before = opened(), homes(server)
    page.evaluate("() => { const start = document.querySelector('#kd-start'); start.click(); start.click(); }")
    begun(server, before)
    page.wait_for_timeout(2500)
    assert len(homes(server) - before) == 1, "at once"
    stop(page)
    before = homes(server)
    for _ in range(4):
        page.locator("#kd-start").click()
        page.wait_for_timeout(200)
    begun(server, before)
    page.wait_for_timeout(2500)
    assert len(homes(server) - before) == 1, "one after another"
    stop(page)


def test_two_sizes_within_a_second_leave_the_last(opened, server):
    page, before = opened(), homes(server)
    advanced(page)
    slow(page)
    page.locator("#kd-student-size").get_by_text("1/4", exact=True).click()
    page.locator("#kd-student-size").get_by_text("1/16", exact=True).click()
    page.locator("#kd-start").click()
    started = begun(server, before)
    assert started["student"] != preset("denoise").student.model_dump(mode="json")
    same = "student => { const text = document.querySelector('#kd-recipe textarea').value; " \
           "return text && JSON.stringify(JSON.parse(text).student) === student; }"  # fmt: skip
    page.wait_for_function(same, arg=json.dumps(started["student"], separators=(",", ":")))
    stop(page)


def test_a_preset_and_start_at_once(opened, server):
    page, before = opened(), homes(server)
    slow(page)
    page.locator("#kd-kinds").get_by_text("GAN", exact=True).click()
    page.locator("#kd-lengths").get_by_text("Quick").click()
    page.locator("#kd-start").click()
    started = begun(server, before)
    assert (started["name"], started["teacher"], started["seconds"]) == ("gan", "gan", 30)
    stop(page)


def test_a_number_that_does_not_fit_starts_nothing_and_says_so(opened, server):
    page, before, failed = opened(), homes(server), []
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 500 else None)
    advanced(page)
    field = page.locator("#kd-field-amount input")
    wrong = page.locator("#kd-field-amount [role=alert]", has_text="How long exactly")
    for typed in ("0", "-5", "", "1e9", "12e"):
        fill(page, "How long exactly", "50")
        wrong.wait_for(state="hidden")
        field.fill("")
        press(page, typed)
        if not typed:
            press(page, "1")
            field.press("Backspace")
        wrong.wait_for()
        assert field.get_attribute("aria-invalid") == "true", typed
        page.locator("#kd-start").click()
        page.locator("#kd-notice [role=alert]", has_text="How long exactly").wait_for()
        page.wait_for_timeout(500)
        assert homes(server) == before, typed
    assert failed == []


def test_other_numbers_are_held_to_their_bounds_too(opened, server):
    page, before = opened(), homes(server)
    advanced(page)
    page.locator("[id='kd-field-batch_size'] input").fill("2.5")
    page.locator("[id='kd-field-stages.0.lr'] input").fill("-1")
    page.locator("#kd-start").click()
    notice = page.locator("#kd-notice [role=alert]")
    notice.get_by_text("Images in a step: a whole number").wait_for()
    notice.get_by_text("Learning rate: from 0").wait_for()
    assert homes(server) == before


def test_an_edited_recipe_runs_and_controls_do_not_overwrite_it(opened, server):
    page, before = opened(), homes(server)
    advanced(page)
    text = page.locator("#kd-recipe textarea")
    page.wait_for_function("document.querySelector('#kd-recipe textarea').value.includes('seconds')")
    edited = text.input_value().replace('"seed": 0', '"seed": 77')
    text.fill(edited)
    page.locator("#kd-edited").wait_for()
    page.locator("#kd-field-amount input").fill("41")
    page.wait_for_function("document.querySelector('#kd-composed textarea, #kd-composed input').value.includes('41')")
    assert '"seed": 77' in text.input_value()
    page.locator("#kd-start").click()
    started = begun(server, before)
    assert (started["seed"], started["seconds"]) == (77, 100)
    stop(page)
    page.locator("#kd-take").click()
    page.locator("#kd-edited").wait_for(state="hidden")
    assert '"seconds": 41' in text.input_value()


def test_settings_and_theme_survive_a_reload(opened):
    page = opened()
    page.locator("#kd-kinds").get_by_text("Diffusion", exact=True).click()
    page.locator("#kd-presets").get_by_text("block by block", exact=False).first.click()
    page.locator("#kd-lengths").get_by_text("Best").click()
    page.locator("#kd-controls input").uncheck()
    page.locator("#kd-theme").click()
    dark = page.evaluate("document.body.classList.contains('dark')")
    page.wait_for_function("(localStorage.getItem('kd-setup') || '').includes('diffusion-blocks')")
    page.reload()
    ready(page)
    assert page.locator("#kd-kinds input:checked").get_attribute("value") == "diffusion"
    assert page.locator("#kd-presets input:checked").get_attribute("value") == "diffusion-blocks"
    assert page.locator("#kd-lengths input:checked").get_attribute("value") == "best"
    assert not page.locator("#kd-controls input").is_checked()
    assert page.evaluate("document.body.classList.contains('dark')") == dark


def test_arrow_keys_move_between_cards(opened):
    page = opened()
    page.locator("#kd-kinds input").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#kd-kinds input:checked').value === 'restorer'")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelector('#kd-kinds input:checked').value === 'denoiser'")


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_start_stands_on_the_first_screen(opened, locale):
    page = opened(locale=locale)
    for width, height in ((1440, 900), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(500)
        for part in ("#kd-kinds", "#kd-lengths", "#kd-start", "#kd-time"):
            box = page.locator(part).bounding_box()
            assert box["y"] + box["height"] <= height, (part, box)
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_a_phone_the_run_comes_into_view(opened, server):
    page, before = opened(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True), homes(server)
    page.locator("#kd-start").tap()
    begun(server, before)
    page.locator("#kd-stop").wait_for()
    page.wait_for_function("document.querySelector('#kd-status').getBoundingClientRect().top < 500")
    stop(page)


def test_every_preset_is_described_in_both_languages():
    for kind in choices.KINDS:
        for name in choices.presets_of(kind):
            for words in (ENGLISH, CHINESE):
                assert len(words[f"preset_{name}"].splitlines()) == 3
            assert list(choices.seconds_of(name, 600)) == ["quick", "good", "best"]


def test_mistakes_are_found_in_any_language():
    recipe = preset("denoise")
    settings = [choices.value_at(recipe, key) for key in choices.ADVANCED]
    runs = type("Line", (), {"limits": Limits()})()

    def mistakes(amount, unit="seconds", **changed):
        values = [changed.get(key, value) for key, value in zip(choices.ADVANCED, settings, strict=True)]
        made = Values.of(["denoiser", "denoise", "good", True, "denoiser", "", None, ["output"], "fixed", 1, unit,
                          amount, *values, ""])  # fmt: skip
        return [made.mistakes(runs, words) for words in (ENGLISH, CHINESE)]

    assert mistakes(33) == [[], []]
    for amount in (0, -5, None, 1e9, float("nan"), float("inf"), "a"):
        assert [len(lines) for lines in mistakes(amount)] == [1, 1]
    assert [len(lines) for lines in mistakes(2.5, "steps")] == [1, 1]
    assert [len(lines) for lines in mistakes(5, evaluate_every=None)] == [0, 0]
    assert [len(lines) for lines in mistakes(5, ema=None, batch_size=0)] == [2, 2]
