"""The page in a real browser, as visitors use it."""

import re
import zipfile

from PIL import Image
from serving import TINY, advanced, ended, fill, violations

import kdgen
from kdgen.ui.compare import FIRST_PAIR

NOTICED = """() => {
    window.noticed = [];
    new MutationObserver(() => {
        const box = document.querySelector("#kd-compare-notice .kd-notice")?.getBoundingClientRect();
        if (box) window.noticed.push((box.top + box.bottom) / 2);
    }).observe(document.body, {childList: true, subtree: true});
}"""
"""Notes where the middle of each notice stood, however soon another took its place."""


def begin(client, session, seconds, settings=TINY):
    """A run of a session, begun by the endpoint that the page stands over."""
    return client.predict(preset="denoise", seconds=seconds, settings=settings, session=session, api_name="/distill")


def test_from_preset_to_comparison(opened, tmp_path):
    page = opened()
    page.get_by_text("GAN", exact=True).first.click()
    page.locator("#kd-presets", has_text="Small GAN").wait_for()
    page.get_by_text("Denoiser", exact=True).first.click()
    page.locator("#kd-presets", has_text="Grey denoiser").wait_for()
    advanced(page)
    for label, value in (
        ("Inputs that the teacher answers", "16"),
        ("Seconds between previews", "2"),
        ("How long exactly", "5"),
    ):
        fill(page, label, value)
    page.locator("#kd-controls input").uncheck()
    for said in ('"controls": false', '"seconds": 5', '"evaluate_every": 2', '"inputs": 16'):
        page.wait_for_function("said => document.querySelector('#kd-recipe textarea').value.includes(said)", arg=said)
    page.locator("#kd-start").click()
    page.locator(".kd-running").wait_for()
    page.locator("#kd-curves svg").first.wait_for()
    page.reload()
    page.locator(".kd-running, .kd-done").first.wait_for()
    page.locator("#kd-preview img").wait_for()
    page.locator(".kd-done").wait_for()
    page.locator("#kd-table .kd-five").wait_for()
    assert "0.94 G" in page.locator("#kd-table").inner_text() or "944 M" in page.locator("#kd-table").inner_text()
    with page.expect_download() as download:
        page.locator("#kd-student").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path)
    assert kdgen.load(tmp_path).name == "denoise"
    page.locator("#kd-export button").first.click()
    page.locator("#kd-export-go").click()
    page.locator("#kd-parity table").wait_for()
    assert "denoise.onnx" in page.locator("#kd-parity").inner_text()
    with page.expect_download() as download:
        page.locator("#kd-export-file").click()
    assert download.value.suggested_filename == "denoise.onnx"
    page.locator("#kd-open-compare").click()
    page.locator("#kd-figures table").wait_for()
    assert page.locator("#kd-slider").is_visible()
    figures = page.locator("#kd-figures").inner_text()
    assert re.search(r"latency \(ms\)\s+[\d.]+\s+[\d.]+", figures)
    page.get_by_role("tab", name="Gallery").click()
    page.locator("#kd-gallery label", has_text="denoise · your run").click()
    page.locator("#kd-details table").wait_for()


def test_two_browsers_stop_and_go_on(opened, client):
    first, second = opened(), opened()
    for page, seconds in ((first, "50"), (second, "300")):
        advanced(page)
        fill(page, "How long exactly", seconds)
        fill(page, "Inputs that the teacher answers", "16")
        page.locator("#kd-start").click()
        page.locator(".kd-running, .kd-queued").first.wait_for()
    second.get_by_text("place 1 in line").wait_for()
    first.locator(".kd-phases .now").wait_for()
    first.locator("#kd-stop").click()
    first.locator(".kd-stopped").wait_for()
    second.locator(".kd-running").wait_for()
    second.locator("#kd-stop").click()
    second.locator(".kd-stopped").wait_for()
    first.locator("#kd-resume").click()
    first.locator(".kd-running").wait_for()
    first.locator("#kd-stop").click()
    first.locator(".kd-stopped").wait_for()


def test_a_failing_run_says_why(opened, client, session):
    wrong = 'student={"name": "half_res", "args": {"width": 8, "blocks": 1, "channels": 3}}\n' + TINY
    run = begin(client, session, 2, wrong)["run"]
    page = opened(session=session)
    page.locator(".kd-failed", has_text="This run failed").wait_for()
    failed = ended(client, run, session)
    assert failed["state"] == "failed"
    assert any(word in failed["message"] for word in ("channels", "shape", "size"))
    assert failed["message"] in page.locator(".kd-failed").inner_text()
    assert client.predict(api_name="/presets")["gan"], "the server goes on"


def test_a_phone_in_chinese(opened):
    page = opened(locale="zh-CN", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    for text in ("蒸馏什么", "去噪", "开始"):
        assert page.get_by_text(text, exact=True).first.is_visible()
    assert "比教师更省" in page.locator(".kd-cost").inner_text()
    for tab in ("蒸馏", "对比", "作品"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("tab", name="对比").click()
    page.get_by_text("宇航员", exact=True).click()
    page.locator("#kd-caption", has_text="denoiser").wait_for()


def test_by_keyboard_alone(opened):
    page = opened()
    page.locator("#kd-kinds input").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.locator("#kd-presets", has_text="Low light").wait_for()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "kd-start":
            break
    assert page.evaluate("document.activeElement.id") == "kd-start"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.locator("#kd-stop").wait_for()
    page.locator("#kd-stop").focus()
    page.keyboard.press("Enter")
    page.locator(".kd-stopped").wait_for()


def test_compare_asks_for_what_its_models_read(opened):
    page = opened(tab="Compare")
    noise, drawn = page.get_by_text("Noise level", exact=True), page.get_by_text("How many to draw", exact=False)
    noise.wait_for()
    assert not drawn.is_visible()
    page.locator("#kd-models input").click()
    for _ in FIRST_PAIR:
        page.keyboard.press("Backspace")
    page.keyboard.type("gan")
    page.keyboard.press("Enter")
    drawn.wait_for()
    noise.wait_for(state="hidden")
    page.keyboard.press("Backspace")
    page.keyboard.type("upscaler-x4")
    page.keyboard.press("Enter")
    drawn.wait_for(state="hidden")
    assert page.get_by_text("It is damaged already", exact=True).is_visible()
    for useless in ("Strength of the damage", "Seed"):
        page.get_by_text(useless, exact=True).wait_for(state="hidden")


def test_a_picture_of_one_s_own_takes_the_place_of_the_chosen_one_and_progress_is_seen(opened, tmp_path):
    page = opened(tab="Compare")
    Image.effect_noise((90, 120), 60).convert("RGB").save(tmp_path / "a.png")
    chosen = page.locator("#kd-examples input:checked")
    assert chosen.count() == 1
    with page.expect_file_chooser() as chooser:
        page.locator("#kd-upload").click()
    chooser.value.set_files([tmp_path / "a.png"])
    page.wait_for_function("!document.querySelector('#kd-examples input:checked')")
    page.locator("#kd-compare").evaluate("e => scrollTo(0, e.getBoundingClientRect().bottom + scrollY - innerHeight)")
    page.evaluate(NOTICED)
    page.locator("#kd-compare").click()
    page.locator("#kd-figures table").wait_for()
    middles = page.evaluate("window.noticed")
    assert middles, "while it works it says so"
    assert max(middles) < page.viewport_size["height"], "in the place of the button that was pressed"


def test_pictures_of_strangers(opened, tmp_path):
    page = opened(tab="Compare")
    (tmp_path / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 50)
    for name in ("a.svg", "a.png"):
        page.locator("#kd-upload input[type=file], input[type=file]").first.set_input_files(tmp_path / name)
        page.locator("#kd-compare-notice [role=alert]").wait_for()
        assert re.search("no PNG|damaged", page.locator("#kd-compare-notice").inner_text())


def test_accessibility(opened, axe):
    page, found = opened(), {}
    page.evaluate(axe)
    advanced(page)
    for dark in (False, True):
        for tab in ("Distill", "Compare", "Gallery", "Board"):
            page.get_by_role("tab", name=tab).click()
            page.wait_for_timeout(700)
            assert page.evaluate("document.body.classList.contains('dark')") == dark
            found |= {(dark, tab, rule): where for rule, where in violations(page).items()}
        page.evaluate("kd.dark()")
    assert found == {}


def test_one_left_edge_and_no_gap(opened):
    page = opened()
    names = page.locator("#kd-kinds label span")
    lines = names.evaluate_all("all => all.map(e => e.getClientRects()[0].height)")
    assert len(set(lines)) == 1, "no name of a kind is broken"
    page.locator("#kd-example .kd-result").wait_for()
    edges = {
        name: page.locator(name).first.evaluate("e => { const box = e.getBoundingClientRect(); return [box.x, box.y] }")
        for name in (".kd-brand", ".kd-first", "#kd-advanced", "#kd-kept .prose", "#kd-example", "#kd-away")
    }
    left = [edges[name][0] for name in (".kd-brand", ".kd-first", "#kd-advanced", "#kd-kept .prose")]
    assert max(left) - min(left) <= 1
    assert abs(edges["#kd-example"][0] - edges["#kd-away"][0]) <= 1
    assert abs(edges["#kd-example"][1] - edges[".kd-first"][1]) <= 1
    assert not page.locator("#kd-export").is_visible()
