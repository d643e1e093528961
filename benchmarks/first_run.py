"""What a first visitor waits for: the first paint, a page that can be used, the first step after Start, the end.

    python benchmarks/first_run.py --seconds 30

Starts the app in an empty folder, waits until it has prepared the preset that it offers first (it goes on with the
others meanwhile), opens its page in Chromium, presses Start and prints what came when, beside the whole time that the
page had promised. Needs Playwright, and Chromium where KDGEN_CHROMIUM says, or as `chromium`.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app_server import serving
from playwright.sync_api import Page, sync_playwright


def main() -> None:
    """Open the page, press Start, print what came when."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--port", type=int, default=7995)
    options = parser.parse_args()
    chromium = os.environ.get("KDGEN_CHROMIUM") or shutil.which("chromium")
    with (
        TemporaryDirectory() as place,
        serving(options.port, Path(place)) as app,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser,
    ):
        began = time.monotonic()
        rates = Path(place) / "app" / "cache" / "rates"
        _until(lambda: list(rates.glob("*.json"))[1:] or None)
        print(f"the first preset is prepared {time.monotonic() - began:.0f} s after the app first answered", flush=True)
        for visit in ("first", "second"):
            page = browser.new_page(viewport={"width": 1440, "height": 900}, locale="en-US")
            page.set_default_timeout(600_000)
            began = time.monotonic()
            page.goto(app.url)
            page.locator(".kd-cost table").wait_for()
            usable = time.monotonic() - began
            paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
            print(f"{visit} visit: first paint {paint:.2f} s, usable {usable:.2f} s", flush=True)
        print(json.dumps(_run(page, Path(place) / "app" / "runs", options.seconds), indent=2))


def _run(page: Page, runs: Path, seconds: int) -> dict[str, float | str]:
    """A run of some seconds from the page: what was promised, and after how many seconds what was there."""
    page.locator("#kd-advanced button").first.click()
    page.locator("#kd-field-amount input").fill(str(seconds))
    page.locator("#kd-field-amount input").press("Tab")
    page.wait_for_timeout(4000)
    promised = page.locator("#kd-time").inner_text()
    began = time.time()
    page.locator("#kd-start").click()
    home = _until(lambda: next(iter(runs.glob("*/")), None))
    first = _until(lambda: next((each for each in _events(home) if each["kind"] == "step"), None))
    page.locator("#kd-curves svg").first.wait_for()
    drawn = time.time()
    done = _until(lambda: next((each for each in _events(home) if each["kind"] == "done"), None))
    return {
        "promised": " ".join(promised.split()),
        "first_step": round(first["time"] - began, 2),
        "first_curve": round(drawn - began, 2),
        "done": round(done["time"] - began, 1),
    }


def _events(home: Path) -> list[dict]:
    path = home / "run" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _until(found: Callable[[], Any]) -> Any:
    while (what := found()) is None:
        time.sleep(0.05)
    return what


if __name__ == "__main__":
    main()
