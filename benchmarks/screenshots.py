"""Take the pictures of the app that the README shows: every page, and the first look and a result on a phone.

    python benchmarks/screenshots.py URL --session SESSION --out space/screenshots

URL is a running app. SESSION is that of a finished run to show, as `/distill` of the app's API gave it; the run gets a
link for the picture of its page. Needs Playwright, and Chromium where KDGEN_CHROMIUM says, or as `chromium`.
"""

import argparse
import io
import os
import shutil
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from kdgen.ui.sessions import COOKIE

WIDE = {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light", "locale": "en-US"}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "locale": "zh-CN"}
PAINTS = "performance.getEntriesByType('paint').map(e => [e.name, Math.round(e.startTime)])"


def main() -> None:
    """Open the pages and take their pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--session", required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "space" / "screenshots")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("KDGEN_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for suffix, looks in (("", WIDE), ("-phone-zh-dark", PHONE)):
            page = _opened(browser, options.url, "", looks)
            page.locator("#kd-example .kd-result").wait_for()
            _save(page, options.out / f"first{suffix}.webp")
            if not suffix:
                _running(page, options.out / "running.webp")
            page.context.close()
            page = _opened(browser, options.url, options.session, looks)
            page.locator("#kd-table .kd-stage").first.wait_for()
            _save(page, options.out / f"result{suffix}.webp")
            if not suffix:
                _others(browser, page, options.out)
            page.context.close()
        browser.close()


def _opened(browser: Browser, url: str, session: str, looks: dict[str, Any]) -> Page:
    """The page as a visitor sees it who has a session, or none yet."""
    context = browser.new_context(**looks)
    if session:
        context.add_cookies([{"name": COOKIE, "value": session, "url": url}])
    page = context.new_page()
    page.set_default_timeout(180_000)
    begun = time.monotonic()
    page.goto(url)
    page.locator(".kd-cost table").wait_for()
    print(f"usable after {time.monotonic() - begun:.1f} s, {page.evaluate(PAINTS)}", flush=True)
    return page


def _running(page: Page, path: Path) -> None:
    """A run at work, which is stopped and deleted afterwards."""
    page.locator("#kd-controls input").uncheck()
    page.locator("#kd-start").click()
    page.locator("#kd-curves svg").first.wait_for()
    _save(page, path)
    page.locator("#kd-stop").click()
    page.locator(".kd-stopped").wait_for()
    page.locator("#kd-delete").click()


def _others(browser: Browser, page: Page, out: Path) -> None:
    """The page of the run's link, and the other tabs."""
    page.locator("#kd-share button").first.click()
    page.locator("#kd-share-make").click()
    address = page.locator("#kd-address").inner_text()
    shared = browser.new_context(**WIDE).new_page()
    shared.goto(address)
    _save(shared, out / "shared.webp")
    shared.context.close()
    page.locator("#kd-open-compare").click()
    page.locator("#kd-figures table").wait_for()
    _save(page, out / "compare.webp")
    page.get_by_role("tab").nth(2).click()
    page.locator("#kd-gallery label", has_text="your run").first.click()
    page.locator("#kd-details table").wait_for()
    _save(page, out / "gallery.webp")
    page.get_by_role("tab").nth(3).click()
    page.locator("#kd-board svg").wait_for()
    _save(page, out / "board.webp")


def _save(page: Page, path: Path) -> None:
    page.wait_for_timeout(1500)
    page.evaluate("window.scrollTo(0, 0)")
    image = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    height = min(image.height, 1400 if image.width > 600 else 1800)
    image.crop((0, 0, image.width, height)).save(path, "WEBP", quality=80, method=6)
    print(f"  {path.name}: {path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
