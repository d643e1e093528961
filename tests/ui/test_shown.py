"""In the browser: the run that stands there first, a result, a stopped run, a link for a colleague."""

import re
import zipfile
from itertools import pairwise

import httpx
import pytest
from serving import TINY, stop, violations

import kdgen


def test_before_the_first_run_a_finished_one_stands_there(opened):
    page = opened()
    example = page.locator("#kd-example")
    example.locator(".kd-numbers").wait_for()
    assert re.search(r"13\.5x cheaper, \d\.\d\d dB lost", example.inner_text())
    assert example.locator(".kd-chart .kd-level").count() == 1
    slider = example.locator(".kd-stage:not([hidden])")
    slider.locator("input").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert slider.evaluate("each => each.style.getPropertyValue('--at')") == "55%"
    example.locator(".kd-pictures label", has_text="coffee").click()
    page.locator("#kd-example .kd-stage[data-name=coffee]").wait_for()
    assert not page.locator("#kd-example .kd-stage[data-name=chelsea]").is_visible()


@pytest.mark.parametrize(("touch", "widths"), [(True, (390, 768)), (False, (1440,))])
def test_a_result_fits_every_screen(opened, finished, touch, widths):
    page = opened(session=finished.session, viewport={"width": widths[0], "height": 900}, has_touch=touch)
    page.locator("#kd-table .kd-stage:not([hidden]) img").first.wait_for()
    assert page.locator("#kd-live").inner_text() == "denoise is done"
    assert page.locator("#kd-live").get_attribute("role") == "status"
    assert page.title() == "Done · kdgen"
    for width in widths:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        column = page.locator("#kd-table .kd-five tbody td").first.bounding_box()
        assert column["x"] >= 0
        assert column["x"] + column["width"] <= width, "the student's column is seen without scrolling sideways"
        boxes = page.locator(".kd-columns").first.evaluate(
            "row => [...row.children].map(each => { const at = each.getBoundingClientRect(); return [at.left, at.right, at.top, at.bottom]; })"
        )
        for left, right in pairwise(boxes):
            assert left[1] <= right[0] + 1 or left[3] <= right[2] + 1, "columns do not overlap"
            assert width > 860 or left[3] <= right[2] + 1, "on a narrow screen one stands below the other"


def test_a_run_is_accessible_wherever_it_is_shown(opened, finished, axe, client, session):
    found = {}

    def looked_at(page, place, dark=lambda page: page.evaluate("kd.dark()")):
        for scheme in ("light", "dark"):
            page.wait_for_timeout(700)
            found.update({(scheme, place, rule): where for rule, where in violations(page).items()})
            dark(page)

    client.predict(preset="denoise", seconds=50, settings=TINY, session=session, api_name="/distill")
    page = opened(session=session)
    page.evaluate(axe)
    page.locator("#kd-preview img").wait_for()
    looked_at(page, "running")
    stop(page)
    page = opened(session=finished.session)
    page.evaluate(axe)
    page.locator("#kd-table .kd-stage:not([hidden])").wait_for()
    for panel in ("#kd-share", "#kd-export", "#kd-own", "#kd-follow"):
        page.locator(f"{panel} button").first.click()
    page.locator("#kd-table summary").click()
    page.locator("#kd-share-make").click()
    address = page.locator("#kd-address").inner_text()
    looked_at(page, "result")
    page.locator("#kd-open-compare").click()
    page.locator("#kd-figures table").wait_for()
    looked_at(page, "compare")
    page.get_by_role("tab", name="Gallery").click()
    page.locator("#kd-gallery label", has_text="your run").first.click()
    page.locator("#kd-details table").wait_for()
    looked_at(page, "gallery")
    page.get_by_role("tab", name="Board").click()
    page.locator("#kd-board table").wait_for()
    looked_at(page, "board")
    page.goto(address)
    page.evaluate(axe)
    page.locator("summary").first.click()
    looked_at(page, "shared", dark=lambda page: page.emulate_media(color_scheme="dark"))
    assert found == {}


def test_text_of_charts_is_as_large_on_a_phone(opened):
    page = opened(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.locator("#kd-example .kd-chart").wait_for()
    sizes = page.locator("#kd-example .kd-chart text").evaluate_all(
        "texts => texts.map(each => parseFloat(getComputedStyle(each).fontSize) * each.getScreenCTM().a)"
    )
    assert min(sizes) >= 12
    chart = page.locator("#kd-example .kd-figure, #kd-example .kd-inner").first.bounding_box()
    for text in page.locator("#kd-example .kd-chart text").all():
        box = text.bounding_box()
        assert chart["x"] - 1 <= box["x"], text.inner_text()
        assert box["x"] + box["width"] <= chart["x"] + chart["width"] + 1, text.inner_text()


FOCUSED = """() => {
  const focused = document.activeElement;
  const marked = [focused, focused.closest('label'), focused.closest('.kd-stage'), focused.closest('.kd-field')];
  const seen = marked.some(each => each && getComputedStyle(each).outlineStyle === 'solid' && parseFloat(getComputedStyle(each).outlineWidth) >= 2);
  return [focused === document.body, seen, focused.outerHTML.slice(0, 120)];
}"""


def test_what_has_the_keyboard_is_seen(opened):
    page = opened()
    for panel in ("#kd-advanced", "#kd-own", "#kd-follow"):
        page.locator(f"{panel} button").first.click()
    for tab in ("Distill", "Compare", "Gallery", "Board"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(700)
        page.locator(".kd-brand").click()
        unseen, count = [], 0
        for _ in range(90):
            page.keyboard.press("Tab")
            over, seen, what = page.evaluate(FOCUSED)
            if over:
                break
            count += 1
            unseen += [] if seen else [what]
        assert unseen == [], tab
        assert count > 8, tab


def test_a_colleague_sees_and_can_do_nothing(opened, chromium, server, axe, finished, client):
    page = opened(session=finished.session)
    page.locator("#kd-share button").first.click()
    page.locator("#kd-share-make").click()
    address = page.locator("#kd-address").inner_text()
    assert f"/r/{finished.run}-" in address
    other = chromium.new_context(color_scheme="dark", viewport={"width": 390, "height": 844})
    seen = other.new_page()
    complaints = []
    seen.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    assert seen.goto(address).status == 200
    assert seen.title() == "denoise · kdgen"
    assert seen.locator("meta[property='og:image']").get_attribute("content") == f"{address}/link.jpg"
    assert other.request.get(f"{address}/link.jpg").headers["content-type"] == "image/jpeg"
    assert seen.evaluate("document.documentElement.scrollWidth") <= 390
    seen.evaluate(axe)
    assert seen.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"] == []
    assert complaints == []
    assert seen.locator("button", has_text=re.compile("stop|delete", re.I)).count() == 0
    token = address.rpartition("/")[2]
    for name in ("status", "stop", "delete"):
        with pytest.raises(Exception, match="no such run of yours"):
            client.predict(run=finished.run, session=token, api_name=f"/{name}")
    seen.goto(server.url)
    seen.locator("#kd-example .kd-result").wait_for()
    assert seen.locator("#kd-runs").is_hidden()
    page.locator("#kd-share-revoke").click()
    page.locator("#kd-notice", has_text="nothing any more").wait_for()
    assert seen.goto(address).status == 404
    other.close()


def test_a_stopped_run_offers_its_student_and_goes_when_deleted(opened, client, session, server, tmp_path):
    before = set(server.folder.rglob("*so-far*.zip"))
    run = client.predict(preset="denoise", seconds=50, settings=TINY, session=session, api_name="/distill")["run"]
    page = opened(session=session)
    page.locator("#kd-preview img").wait_for()
    assert re.fullmatch(r"\d+ % · kdgen", page.title())
    page.locator("#kd-stop").click()
    page.locator(".kd-stopped").wait_for()
    for button in ("#kd-resume", "#kd-student", "#kd-open-compare", "#kd-delete"):
        page.locator(button).wait_for()
    page.wait_for_function("document.querySelector('#kd-runs input').value.includes('Stopped')")
    with page.expect_download() as download:
        page.locator("#kd-student").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path)
    assert kdgen.load(tmp_path).name == "denoise"
    assert set(server.folder.rglob("*so-far*.zip")) - before
    page.locator("#kd-delete").click()
    page.locator("#kd-example .kd-result").wait_for()
    page.locator("#kd-runs").wait_for(state="hidden")
    assert not (server.folder / "runs" / run).exists()
    assert not set(server.folder.rglob("*so-far*.zip")) - before


def test_states_in_the_list_are_live(opened, client, session):
    run = client.predict(preset="denoise", seconds=100, settings=TINY, session=session, api_name="/distill")["run"]
    page = opened(session=session)
    page.locator("#kd-stop").wait_for()
    client.predict(run=run, session=session, api_name="/stop")
    page.wait_for_function("document.querySelector('#kd-runs input').value.includes('Stopped')")


def test_the_page_itself_has_a_link_preview(server):
    page = httpx.get(server.url).text
    assert f'<meta property="og:image" content="{server.url}/link.jpg">' in page
    assert page.count('<meta property="og:title"') == 1
    picture = httpx.get(f"{server.url}/link.jpg")
    assert picture.headers["content-type"] == "image/jpeg"
    assert len(picture.content) > 20_000
