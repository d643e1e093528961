"""What an upload can do: nothing of it comes back, and no script in it runs as the app's."""

from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Error

from kdgen.ui import uploads
from kdgen.ui.limits import Limits
from kdgen.ui.sessions import COOKIE

SCRIPT = "document.title = 'owned'; window.owned = document.cookie + localStorage.length"
FILES = {
    "a.html": f"<!doctype html><script>{SCRIPT}</script>",
    "a.svg": f'<svg xmlns="http://www.w3.org/2000/svg"><script>{SCRIPT}</script></svg>',
    "a.xml": f'<?xml version="1.0"?><x xmlns="http://www.w3.org/1999/xhtml"><script>{SCRIPT}</script></x>',
    "a.xhtml": f'<html xmlns="http://www.w3.org/1999/xhtml"><head><script>{SCRIPT}</script></head></html>',
    "a.js": SCRIPT,
    "a.png": f"<!doctype html><script>{SCRIPT}</script>",
    "state.json": "[]",
}


def uploaded(server, name, text):
    """The path that the server answers an upload with."""
    answer = httpx.post(f"{server.url}/gradio_api/upload", files={"files": (name, text.encode())})
    return answer.json()[0]


def addresses(server, path):
    """Every address under which an uploaded file might come back."""
    api = f"{server.url}/gradio_api"
    full = f"{api}/file={path}"
    folder, _, name = path.rpartition("/")
    return [full, f"{api}/file/{path}", f"{api}/proxy={full}", f"{api}/file={full}", f"{api}/file={folder}/./{name}",
            f"{api}/file={server.folder}/served/../uploads/{folder.rpartition('/')[2]}/{name}",
            f"{server.url}/?deep_link={folder.rpartition('/')[2]}"]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_no_upload_comes_back_inline(server, name):
    path = uploaded(server, name, FILES[name])
    for address in addresses(server, path):
        answer = httpx.get(address, follow_redirects=True)
        inline = answer.status_code == 200 and "attachment" not in answer.headers.get("content-disposition", "")
        assert not inline or "owned" not in answer.text, address
        assert httpx.head(address).status_code != 500


def test_no_script_of_an_upload_runs_as_the_app(chromium, server):
    context = chromium.new_context()
    page = context.new_page()
    page.goto(server.url)
    for name, text in FILES.items():
        for address in addresses(server, uploaded(server, name, text)):
            with suppress(Error):  # it is saved, not shown
                page.goto(address)
                page.wait_for_timeout(50)
                assert page.evaluate("window.owned") is None, address
    context.close()


def test_an_upload_is_not_copied_to_where_files_are_sent_from(server, session):
    """A text field given the description of a file takes no file, and no address is fetched for anybody."""
    path = uploaded(server, "a.html", FILES["a.html"])
    config = httpx.get(f"{server.url}/config").json()
    served = {each for each in (server.folder / "served").rglob("*") if each.is_file()}
    different = {tuple(each["inputs"]): each for each in config["dependencies"] if each["backend_fn"]}
    for dependency in different.values():
        for named in (path, "/etc/passwd"):
            file = {"path": named, "url": named, "orig_name": "a.html", "meta": {"_type": "gradio.FileData"}}
            for value in (file, [file]):
                data = [value] * len(dependency["inputs"])
                if data:
                    body = {"data": data, "fn_index": dependency["id"], "session_hash": "walk"}
                    httpx.post(f"{server.url}/gradio_api/run/predict", json=body, timeout=60, cookies={COOKIE: session})
    for file in {each for each in (server.folder / "served").rglob("*") if each.is_file()} - served:
        assert "owned" not in file.read_text(errors="replace")
        assert file.suffix in (".webp", ".png")


def test_what_kdgen_made_comes_as_a_picture_or_to_be_saved(server):
    made = next((server.folder / "served").rglob("*.webp"), None) or next((server.folder / "served").rglob("*.png"))
    answer = httpx.get(f"{server.url}/gradio_api/file={made}")
    assert answer.headers["content-type"].startswith("image/")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    other = server.folder / "served" / "x.html"
    other.write_text(FILES["a.html"])
    answer = httpx.get(f"{server.url}/gradio_api/file={other}")
    assert "attachment" in answer.headers["content-disposition"]
    assert answer.headers["content-type"] == "application/octet-stream"


def test_a_field_that_is_no_file_is_not_gathered_in_memory(server):
    def body():
        yield b'--X\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
        for _ in range(30):
            yield b"a" * 10**6
        yield b"\r\n--X--\r\n"

    answer = httpx.post(f"{server.url}/gradio_api/upload", content=body(), timeout=60,
                        headers={"content-type": "multipart/form-data; boundary=X"})  # fmt: skip
    assert answer.status_code == 400
    assert "no file" in answer.text


def test_files_of_a_run_are_not_found_by_its_name(server, client, finished):
    """A link tells the name, also once it was taken back."""
    file = client.predict(finished.run, finished.session, api_name="/student")
    assert Path(file).stat().st_size > 1000
    sent = [*(server.folder / "served").rglob("*-student.zip")]
    assert sent
    assert not [path for path in sent if finished.run in str(path)]
    for name in ("denoise-student.zip", "denoise.json"):
        address = f"{server.url}/gradio_api/file={server.folder}/served/{finished.run}/{name}"
        assert httpx.get(address).status_code == 403


def test_no_function_of_a_component_is_called(server):
    body = {"session_hash": "a", "component_id": 10**6, "fn_name": "x", "data": []}
    for end in ("", "/"):
        assert httpx.post(f"{server.url}/gradio_api/component_server{end}", json=body).status_code == 404


def test_very_many_small_files_are_too_many(tmp_path):
    made = uploads.Uploads(Limits(folder=tmp_path))
    assert not made.full()
    for number in range(uploads.FILES + 1):
        (made.folder / str(number)).touch()
    assert made.full()
