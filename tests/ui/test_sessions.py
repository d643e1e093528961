"""Who a visitor is: a cookie that no script reads, and codes that hand it on."""

import httpx
import pytest
from serving import TINY

from kdgen.ui.guard import cookie
from kdgen.ui.job import new_session
from kdgen.ui.sessions import COOKIE, Codes


def test_a_browser_gets_a_session_that_scripts_cannot_read(opened, server):
    first = httpx.get(server.url)
    assert "HttpOnly" in first.headers["set-cookie"]
    assert "SameSite=Lax" in first.headers["set-cookie"]
    kept = httpx.get(server.url, cookies=dict(first.cookies))
    assert kept.cookies[COOKIE] == first.cookies[COOKIE]
    assert httpx.get(server.url, cookies={COOKIE: "../x"}).cookies[COOKIE] != "../x"
    page = opened()
    secret = next(each["value"] for each in page.context.cookies() if each["name"] == COOKIE)
    assert page.evaluate("document.cookie + JSON.stringify(localStorage) + document.body.innerHTML").find(secret) == -1
    assert page.evaluate("Object.keys(localStorage).filter(key => key.includes('session'))") == []


def test_a_page_is_told_what_it_may_load(server):
    headers = httpx.get(server.url).headers
    policy = headers["content-security-policy"]
    script = policy.split("script-src")[1].split(";")[0]
    assert "'unsafe-inline'" not in script
    assert "sha256-" in script
    assert "frame-ancestors 'self' https://huggingface.co" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert httpx.get(f"{server.url}/config").headers["x-content-type-options"] == "nosniff"


def test_a_cookie_goes_with_a_space_into_the_frame_of_the_hub(monkeypatch):
    scope = {"type": "http", "scheme": "http", "headers": [(b"x-forwarded-proto", b"https")]}
    assert cookie("x", scope).endswith("HttpOnly; SameSite=Lax; Secure")
    monkeypatch.setenv("SPACE_ID", "me/kdgen")
    assert cookie("x", scope).endswith("HttpOnly; SameSite=None; Secure; Partitioned")
    assert cookie("x", {**scope, "headers": []}).endswith("HttpOnly; SameSite=Lax")


def test_a_link_shows_the_runs_on_another_device(opened, client, finished, server):
    session = finished.session
    first = opened(session=session)
    first.locator(".kd-done").wait_for()
    first.locator("#kd-follow button").first.click()
    first.wait_for_function("document.querySelector('#kd-link textarea, #kd-link input').value.includes('/enter/')")
    link = first.locator("#kd-link textarea, #kd-link input").first.input_value()
    assert link.startswith(f"{server.url}/enter/")
    assert session not in link

    second = opened()
    second.goto(link)
    second.locator(".kd-done").wait_for()
    assert second.url == f"{server.url}/"

    elsewhere = httpx.get(link, headers={"sec-fetch-site": "cross-site"})
    assert "Go on only if you made it" in elsewhere.text
    assert "set-cookie" not in elsewhere.headers
    own = new_session()
    other = client.predict(preset="denoise", seconds=300, settings=TINY, session=own, api_name="/distill")["run"]
    client.predict(run=other, session=own, api_name="/stop")
    third = opened(session=own)
    third.goto(link)
    third.get_by_text("runs of its own").wait_for()
    assert httpx.post(link, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    third.get_by_role("button").click()
    third.locator(".kd-done").wait_for()
    assert next(each["value"] for each in third.context.cookies() if each["name"] == COOKIE) == session
    assert httpx.get(f"{server.url}/enter/nonsense").status_code == 404


def test_scripts_of_other_sites_do_not_act_as_the_visitor(session, server):
    config = httpx.get(f"{server.url}/config").json()
    follow = next(each["id"] for each in config["components"] if each["props"].get("elem_id") == "kd-follow")
    event = next(each["id"] for each in config["dependencies"] if [follow, "expand"] in each["targets"])
    body = {"data": [], "fn_index": event, "session_hash": "abc"}

    def link(site, mode):
        headers = {"sec-fetch-site": site, "sec-fetch-mode": mode}
        url = f"{server.url}/gradio_api/run/predict"
        return httpx.post(url, json=body, cookies={COOKIE: session}, headers=headers).json()["data"][0]

    assert link("same-origin", "cors").startswith("enter/")
    assert link("cross-site", "cors") == link("same-site", "cors") == link("cross-site", "navigate") == ""


def test_a_code_is_forgotten(monkeypatch):
    codes, now = Codes(), [0.0]
    monkeypatch.setattr("kdgen.ui.sessions.time.monotonic", lambda: now[0])
    session = new_session()
    code = codes.new(session)
    assert codes.session(code) == session
    newer = codes.new(session)
    assert codes.session(code) == ""
    now[0] = 601
    assert codes.session(newer) == ""
    assert codes.session("") == ""


@pytest.mark.parametrize("wrong", ["", "../x", "x" * 5000])
def test_an_unknown_code_stands_for_nobody(wrong):
    assert Codes().session(wrong) == ""
