"""What tests of the served app share."""

import json
import socket
import time

TINY = """\
teacher=denoise-student
task.args.evaluate={"name": "samples", "args": {"model": "gan", "num_images": 4, "size": 64}}
controls=false
cache.inputs=16
evaluate_every=2
stages.0.lr=0.001"""
"""Settings of a run of the preset `denoise` that is over in moments: its teacher and what it is measured on are small."""


def ended(client, run: str, session: str, *, patience: float = 240) -> dict:
    """The last state of a run, once it is over."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        state = client.predict(run=run, session=session, api_name="/status")
        if state["state"] not in ("queued", "running"):
            return state
        time.sleep(0.5)
    raise AssertionError(f"not over after {patience} s: {json.dumps(state)}")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def homes(server):
    return {path.parent for path in (server.folder / "runs").glob("*/job.json")}


def begun(server, before):
    """The recipe of the run that was begun since, once there is one."""
    for _ in range(900):
        new = homes(server) - before
        if new and (home := new.pop()) and (home / "recipe.json").is_file():
            return json.loads((home / "recipe.json").read_text())
        time.sleep(0.1)
    raise AssertionError("no run was begun")


def violations(page):
    """What axe, which the page has loaded, finds wrong with it once no colour changes: rules, and where they are broken."""
    page.wait_for_function("document.getAnimations().every(each => !(each instanceof CSSTransition))")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return {each["id"]: [node["html"][:160] for node in each["nodes"][:4]] for each in found
            if each["impact"] in ("serious", "critical")}  # fmt: skip


def stop(page):
    page.locator("#kd-stop").click()
    page.locator(".kd-stopped").wait_for()


def advanced(page):
    """Open the advanced settings: Gradio fills fields once more just after they appear, so none is written into before."""
    page.locator("#kd-advanced button").first.click()
    page.locator("#kd-field-amount input").wait_for()
    painted(page)


def painted(page):
    """Wait until the page was painted twice: what it put off for a moment is done by then."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def ready(page):
    """Wait until the page shows what its controls say: a recipe, and its cost."""
    page.locator(".kd-cost table").wait_for()
    page.wait_for_function("document.querySelector('#kd-shown :is(textarea, input)')?.value")
    painted(page)


def press(page, text):
    """Press keys as people do, no two of them before the page was painted: Gradio loses a number that is half written."""
    for key in text:
        page.keyboard.type(key)
        painted(page)


def fill(page, label, value):
    """Write into a field and leave it."""
    field = page.get_by_label(label, exact=False).first
    field.fill(value)
    field.blur()
