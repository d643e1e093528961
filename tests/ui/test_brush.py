"""What visitors paint over: a mask of bounded size, and never a file of anybody else's."""

import asyncio
import io
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import numpy as np
import pytest
from PIL import Image

from kdgen.models.model import Model, build_net
from kdgen.registry import Spec
from kdgen.types import UserError
from kdgen.ui import brush, comparing
from kdgen.ui.compare import FIRST_PAIR
from kdgen.ui.job import new_session, owner_of
from kdgen.ui.limits import Limits
from kdgen.ui.own import About, Own
from kdgen.ui.page import Page
from kdgen.ui.pictures import FIRST
from kdgen.ui.uploads import Uploads, cropped, framed, shrunk

Put = Callable[[str, bytes], str]


@pytest.fixture
def limits(tmp_path: Path) -> Limits:
    return Limits(folder=tmp_path)


@pytest.fixture
def put(limits: Limits) -> Put:
    """Puts an upload where uploads lie."""

    def put(name: str, data: bytes) -> str:
        path = Uploads(limits).folder / name
        path.write_bytes(data)
        return str(path)

    return put


def layer(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> bytes:
    image = Image.new("RGBA", size)
    for box in boxes:
        image.paste((255, 45, 149, 255), box)
    with io.BytesIO() as file:
        image.save(file, format="PNG")
        return file.getvalue()


def test_what_is_painted_is_missing_and_nothing_else(limits: Limits, put: Put) -> None:
    files = [put("a", layer((60, 40), (10, 5, 20, 15))), put("b", layer((60, 40), (50, 30, 60, 40)))]
    mask = brush.painted(files, limits)
    assert mask is not None
    missing = np.asarray(mask)
    assert set(np.unique(missing)) == {0, 255}
    assert (missing > 0).sum() == 200
    assert missing[5:15, 10:20].all()
    assert missing[30:, 50:].all()
    assert not any(Path(file).exists() for file in files)
    assert brush.painted([put("a", layer((60, 40)))], limits) is None
    assert brush.painted([], limits) is None


def bomb() -> bytes:
    """A PNG that says it has 4 thousand million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (65_000).to_bytes(4, "big") * 2 + bytes((8, 6, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 10**6)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("hostile", [bomb(), b"", b"GIF89a", layer((600, 600)), layer((60, 40))[:60],
                                     layer((60, 40)) + b"\0" * brush.LAYER_BYTES])  # fmt: skip
def test_what_is_no_layer_or_too_large_is_refused_before_it_is_decoded(
    limits: Limits, put: Put, hostile: bytes
) -> None:
    with pytest.raises(UserError, match="could not be read"):
        brush.painted([put("a", hostile)], limits)
    assert list(Uploads(limits).folder.iterdir()) == []


def test_layers_of_unlike_size_are_refused(limits: Limits, put: Put) -> None:
    with pytest.raises(UserError, match="could not be read"):
        brush.painted([put("a", layer((60, 40))), put("b", layer((40, 60)))], limits)


def given(limits: Limits, value: Any) -> Any:
    """What a handler is given of a value that a browser sends as painted."""
    with Page(Uploads(limits)) as page:
        editor = brush.editor(Image.new("RGB", (60, 40)))
        gr.Button().click(lambda files: None, [editor], None)
    (function,) = page.fns.values()
    with ThreadPoolExecutor(1) as thread:  # whose loop is its own, whatever runs in this one
        return thread.submit(asyncio.run, page.preprocess_data(function, [value], None)).result()[0]


def test_a_browser_can_name_uploads_alone_and_few(limits: Limits, put: Put, tmp_path: Path) -> None:
    paths = [put(name, b"it") for name in ("background", "composite", "layer")]
    sent = {name: {"path": path} for name, path in zip(("background", "composite"), paths, strict=False)}
    assert given(limits, {**sent, "layers": [{"path": paths[2]}]}) == [paths[2]]
    assert [Path(path).exists() for path in paths] == [False, False, True], "what it is painted on is not kept"
    (tmp_path / "secret.png").write_bytes(b"it")
    elsewhere = {"path": str(tmp_path / "secret.png"), "url": "http://127.0.0.1/a.png"}
    assert given(limits, {"background": elsewhere, "composite": elsewhere, "layers": []}) == []
    assert (tmp_path / "secret.png").exists()
    assert given(limits, {"id": "of blobs"}) == given(limits, None) == given(limits, "it") == []
    for layers in ([elsewhere], [{"path": paths[2]}] * 5, "it", [7], [{}]):
        with pytest.raises(UserError):
            given(limits, {"background": None, "layers": layers})


def test_a_mask_lies_in_the_whole_picture_as_it_was_painted_in_its_middle() -> None:
    whole = Image.new("L", (903, 605))
    whole.paste(255, (300, 200, 500, 300))
    shown = cropped(shrunk(whole, 512 * 512))
    found = framed(shown.point(lambda value: 255 * (value > 127)), whole.size, 512 * 512).resize(whole.size)
    apart = np.asarray(found, int) - np.asarray(whole, int)
    assert (np.abs(apart) > 127).mean() < 0.003


def test_nobody_sends_blobs_to_a_component(server: Any) -> None:
    """What is painted comes as uploads do, so that Gradio's own way, which keeps it in memory for ever, is shut."""
    config = httpx.get(f"{server.url}/config").json()
    (editor,) = (each for each in config["components"] if each["type"] == "imageeditor")
    assert not [each for each in config["dependencies"] if [editor["id"], "change"] in each["targets"]]
    for end in ("", "/"):
        answer = httpx.post(f"{server.url}/gradio_api/component_server{end}", files={"file": b"a" * 1000},
                            data={"type": "layer", "index": "0", "id": "x", "fn_name": "accept_blobs",
                                  "component_id": str(editor["id"]), "session_hash": "a"})  # fmt: skip
        assert answer.status_code == 404


def test_what_is_brushed_and_nothing_else_is_missing_in_what_a_model_is_told(opened: Any, server: Any) -> None:
    page = opened(session=inpainter(server.folder), tab="Compare")
    page.locator("#kd-models input").click()
    for _ in FIRST_PAIR:
        page.keyboard.press("Backspace")
    page.keyboard.type("own:" + "a" * 16)
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    canvas = page.locator("#kd-brush canvas").first
    canvas.wait_for()
    page.wait_for_timeout(3000)
    box = canvas.bounding_box()
    left, top = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(left, top)
    page.mouse.down()
    for step in range(10):
        page.mouse.move(left + 3 * step, top)
        page.wait_for_timeout(30)
    page.mouse.up()
    page.wait_for_timeout(1000)
    page.locator("#kd-compare").click()
    page.locator("#kd-slider img").first.wait_for()
    address = page.locator("#kd-slider img").first.get_attribute("src")
    with Image.open(io.BytesIO(page.request.get(address).body())) as shown:
        told = np.asarray(shown.convert("L"), int)
    grey = np.abs(told - 128) < 6
    photograph = np.asarray(
        comparing.photographs()[FIRST].convert("L").resize(told.shape[::-1], Image.Resampling.NEAREST), int
    )
    changed = np.abs(told - photograph) > 40
    rows, columns = changed.nonzero()
    height, width = told.shape
    assert abs(rows.mean() / height - 0.5) < 0.08
    assert 0.42 < np.percentile(columns, 2) / width < np.percentile(columns, 98) / width < 0.75
    assert grey[changed].mean() > 0.8
    assert 0.0005 < changed.mean() < 0.08
    assert not list((server.folder / "uploads").rglob("layer_*.png")), "nothing stays of what was painted"


def inpainter(folder: Path) -> str:
    """A session that brought a model which is told what is missing."""
    session, facts = new_session(), {"name": "restore", "damages": ["mask"]}
    args = {"channels": 3, "widths": [4, 6], "blocks": 1, "blind": True, "mask": True}
    net, use = build_net(Spec(name="unet", args=args), 3)
    own = Own(Limits(folder=folder))
    place = own.folder / owner_of(session) / ("a" * 16)
    place.mkdir(parents=True)
    Model(net.eval(), name="inpainter", channels=3, use=use, task=facts).save(place)
    own.finish(place, About("teacher", "inpainter", "restore", 5))
    return session
