"""Take the pictures of the app that the README shows: every tab, wide and narrow, light and dark.

    python benchmarks/screenshots.py URL --session SESSION --out space/screenshots

URL is a running app. SESSION is that of a finished run to show, as `/distill` of the app's API gave it. Needs
Playwright, and Chromium where KDGEN_CHROMIUM says, or as `chromium`.
"""

import argparse
import io
import os
import shutil
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from kdgen.ui.sessions import COOKIE

SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 844}}
PAINTS = "performance.getEntriesByType('paint').map(e => [e.name, Math.round(e.startTime)])"
TABS = ("Distill", "Compare", "Gallery")


def main() -> None:
    """Open the page in every form and take its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--session", default="")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "space" / "screenshots")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("KDGEN_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for size, viewport in SIZES.items():
                context = browser.new_context(viewport=viewport, color_scheme=scheme, locale="en-US")
                page = context.new_page()
                page.set_default_timeout(180_000)
                begun = time.monotonic()
                if options.session:
                    context.add_cookies([{"name": COOKIE, "value": options.session, "url": options.url}])
                page.goto(options.url)
                page.locator(".kd-cost table").wait_for()
                paint = page.evaluate(PAINTS)
                print(f"{scheme} {size}: usable after {time.monotonic() - begun:.1f} s, {paint}", flush=True)
                for tab in TABS:
                    _show(page, tab, with_run=bool(options.session))
                    _save(page, options.out / f"{tab.lower()}-{size}-{scheme}.webp")
                context.close()
        browser.close()


def _show(page: Page, tab: str, *, with_run: bool) -> None:
    """Bring a tab into the state that its picture shows."""
    if tab == "Compare" and with_run:
        page.get_by_role("tab", name="Distill").click()
        page.locator("#kd-open-compare").click()
        page.locator("#kd-figures table").wait_for()
    else:
        page.get_by_role("tab", name=tab).click()
    if tab == "Gallery":
        page.locator("#kd-gallery label", has_text="your run" if with_run else "denoiser").first.wait_for()
    page.wait_for_timeout(1500)
    page.evaluate("window.scrollTo(0, 0)")


def _save(page: Page, path: Path) -> None:
    image = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    height = min(image.height, 1400 if image.width > 600 else 1800)
    image.crop((0, 0, image.width, height)).save(path, "WEBP", quality=80, method=6)
    print(f"  {path.name}: {path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
