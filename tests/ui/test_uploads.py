import struct
import zlib

import pytest
from PIL import Image

from kdgen.types import UserError
from kdgen.ui.limits import Limits
from kdgen.ui.uploads import open_picture

LIMITS = Limits()


def png(path, width, height, rows=b""):
    """A PNG that says it has any size, with little behind it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


def test_a_photograph_is_shrunk_to_sides_of_16(tmp_path):
    Image.effect_noise((1500, 1000), 60).convert("RGB").save(tmp_path / "a.jpg")
    image = open_picture(tmp_path / "a.jpg", LIMITS)
    assert image.mode == "RGB"
    assert image.width * image.height <= LIMITS.pixels
    assert image.width % 16 == image.height % 16 == 0
    assert image.width / image.height == pytest.approx(1.5, abs=0.06)


def test_grey_and_transparent_pictures_are_taken(tmp_path):
    Image.new("LA", (40, 50), (9, 128)).save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png", LIMITS).mode == "L"
    Image.new("P", (40, 50)).save(tmp_path / "b.gif")
    assert open_picture(tmp_path / "b.gif", LIMITS).size == (32, 48)


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    with pytest.raises(UserError, match=r"far too large|pixels"):
        open_picture(png(tmp_path / "a.png", 60_000, 60_000), LIMITS)


def test_a_strip_is_refused(tmp_path):
    Image.new("L", (20_000, 1)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"20,000 x 1 pixels"):
        open_picture(tmp_path / "a.png", LIMITS)


def test_a_truncated_picture_is_refused(tmp_path):
    Image.effect_noise((200, 200), 60).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged or cut short"):
        open_picture(tmp_path / "a.png", LIMITS)


@pytest.mark.parametrize("text", ['<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', "", "%PDF-1.4", "GIF89a"])
def test_what_is_no_picture_is_refused(tmp_path, text):
    (tmp_path / "a.png").write_text(text)
    with pytest.raises(UserError, match=r"no PNG|damaged"):
        open_picture(tmp_path / "a.png", LIMITS)


def test_a_large_file_is_refused_unread(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\0" * 2000)
    with pytest.raises(UserError, match="MB"):
        open_picture(tmp_path / "a.png", Limits(upload_bytes=1000))
