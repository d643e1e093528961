"""Restoring files: what a format can hold is kept, and what it cannot is told."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from drawn import COLOUR, RAMP, Half, png16
from PIL import Image, ImageCms
from support import call

from kdgen.cli.files import Unreadable, pairs, restore_file
from kdgen.data import Folder
from kdgen.models import model as models
from kdgen.models.model import Model
from kdgen.utils.image_io import frames

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY, RGB = RAMP.round().astype(np.uint8), COLOUR.round().astype(np.uint8)
RGBA = np.dstack([RGB, 255 - GREY])
DEEP = (COLOUR * 257).round().astype(np.uint16)


@pytest.fixture
def half() -> Model:
    return Model(Half(), name="half", channels=1)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, half: Model) -> None:
    monkeypatch.setattr(models, "load", lambda reference: half)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_opacity_profile_exif_and_resolution_are_kept(half: Model, tmp_path: Path, suffix: str) -> None:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = 6, "Maker"
    tags.get_ifd(0x8769)[0x829A] = 0.5
    tags[0x8769] = 0
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    more = {"lossless": True} if suffix == ".webp" else {"dpi": (300, 300)}
    Image.fromarray(RGBA).save(source, exif=tags, icc_profile=SRGB, **more)
    assert restore_file(half, source, target, 25) == []
    expected = np.rot90(RGBA, -1).astype(int)
    out = read(target)
    assert np.array_equal(out[..., 3], expected[..., 3])
    seen = expected[..., 3] > 0
    assert np.abs(out[..., :3] - expected[..., :3] // 2)[seen].max() <= (40 if suffix == ".webp" else 1)
    with Image.open(target) as image:
        assert image.info["icc_profile"] == SRGB
        assert suffix == ".webp" or round(image.info["dpi"][0]) == 300
        found = image.getexif()
        assert (found.get(0x0112), found[0x010F], float(found.get_ifd(0x8769)[0x829A])) == (None, "Maker", 0.5)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("layers", [1, 3, 4])
def test_sixteen_bits_stay_sixteen_bits(half: Model, tmp_path: Path, suffix: str, layers: int) -> None:
    array = np.dstack([DEEP, DEEP[..., 0]])[..., :layers]
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    if suffix == ".png":
        png16(source, array)
    else:
        tifffile.imwrite(source, array.squeeze(), photometric="rgb" if layers > 1 else "minisblack", iccprofile=SRGB)
    assert restore_file(half, source, target, 25) == []
    (out,) = frames(target)
    assert (out.dtype, out.note) == (np.dtype(np.uint16), "")
    expected = array[..., 0] / 2 if layers == 1 else array[..., :3] / 2
    assert np.abs(out.values * 257 - expected).max() <= 1
    if layers == 4:
        assert np.array_equal((out.alpha * 257).round(), array[..., 3])
    if suffix == ".tif" and layers > 1:
        assert tifffile.TiffFile(target).pages[0].tags["InterColorProfile"].value == SRGB


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_every_page_and_frame_is_restored(half: Model, tmp_path: Path, suffix: str) -> None:
    levels = [200, 120, 40]
    first, *rest = [Image.new("L", (24, 16), level) for level in levels]
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    more = {"lossless": True} if suffix == ".webp" else {}
    first.save(source, save_all=True, append_images=rest, duration=[50, 70, 90], loop=2, **more)
    assert restore_file(half, source, target, 25) == []
    with Image.open(target) as image:
        assert image.n_frames == 3
        for number, level in enumerate(levels):
            image.seek(number)
            assert abs(image.convert("L").getpixel((5, 5)) - level // 2) <= 2
            if suffix != ".tif":
                assert image.info["duration"] == [50, 70, 90][number]
                assert image.info["loop"] == 2


@pytest.mark.parametrize(
    ("source", "suffix", "said"),
    [
        (Image.fromarray(RGBA), ".jpg", "its transparency is lost, it lies on white"),
        (Image.fromarray(RGBA), ".bmp", "its transparency is lost"),
        (Image.fromarray(DEEP[..., 0]), ".jpg", "its 16 bits became 8"),
        (Image.fromarray(DEEP[..., 0]), ".webp", "its 16 bits became 8"),
        (Image.fromarray(RGB), ".gif", "a GIF holds 256 colours"),
        (Image.fromarray(RGB), ".bmp", "its colour profile is lost"),
        (Image.fromarray(RGB).convert("CMYK"), ".png", "its colour profile is lost"),
    ],
)
def test_what_a_format_cannot_hold_is_told(
    half: Model, tmp_path: Path, source: Image.Image, suffix: str, said: str
) -> None:
    source.save(tmp_path / "a.tif", icc_profile=SRGB)
    notes = restore_file(half, tmp_path / "a.tif", tmp_path / f"b{suffix}", 25)
    assert any(said in note for note in notes)
    assert Image.open(tmp_path / f"b{suffix}").size == (32, 24)


def test_pages_that_are_left_out_are_told(half: Model, tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(RGB)])
    assert restore_file(half, tmp_path / "a.tif", tmp_path / "b.jpg", 25) == [
        "only the first of its 2 pictures was restored"
    ]
    tifffile.imwrite(tmp_path / "d.tif", np.stack([DEEP, DEEP]), photometric="rgb")
    assert restore_file(half, tmp_path / "d.tif", tmp_path / "e.tif", 25) == []
    assert len(list(frames(tmp_path / "e.tif"))) == 2
    assert restore_file(half, tmp_path / "d.tif", tmp_path / "e.png", 25) == [
        "only the first of its 2 pictures was restored"
    ]


def test_opaque_pictures_lose_nothing_as_jpeg(half: Model, tmp_path: Path) -> None:
    Image.fromarray(np.dstack([RGB, np.full_like(GREY, 255)])).save(tmp_path / "a.png")
    assert restore_file(half, tmp_path / "a.png", tmp_path / "b.jpg", 25) == []


def test_a_folder_gives_pictures_of_all_kinds_and_of_linked_folders(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("a.bmp", "b.gif", "deep/c.PNG", "../elsewhere/d.png"):
        Image.fromarray(GREY).save(tmp_path / "in" / name)
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "deep" / "around").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "phone.heic").write_bytes(b"x")
    (tmp_path / "in" / "notes.txt").write_text("x")
    with pytest.warns(UserWarning, match=r"passed over 1 of kinds that are not read, the first is .*phone\.heic"):
        found = pairs(tmp_path / "in", tmp_path / "out")
    names = ["a.bmp", "b.gif", "deep/c.PNG", "linked/d.png"]
    assert [written.relative_to(tmp_path / "out").as_posix() for _, written in found] == names
    with pytest.warns(UserWarning, match="passed over 1 of kinds"):
        assert list(Folder(str(tmp_path / "in")).names) == names


def test_a_folder_to_train_on_is_upright(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=tags)
    assert np.array_equal(Folder(str(tmp_path)).picture(0), np.rot90(RGB, -1))


def test_a_picture_beyond_what_pillow_reads_is_named_with_the_remedy(
    half: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(
        Unreadable, match="it has more than 200 pixels, the most that are read at once: cut it into parts"
    ):
        restore_file(half, tmp_path / "a.png", tmp_path / "b.png", 25)


@pytest.mark.usefixtures("loaded")
def test_the_command_says_what_is_lost_in_a_line_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(RGBA).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call("restore", "any", str(tmp_path / "a.png"), str(tmp_path / "b.jpg"), "--sigma", "25") == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"kdgen: {tmp_path / 'a.png'}: its transparency is lost, it lies on white"
    assert len(lines) == 2
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert call("restore", "any", str(tmp_path / "a.png"), str(tmp_path / "c.png"), "--sigma", "25") == 0
    assert len(capsys.readouterr().err.splitlines()) == 1
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert call("restore", "any", str(tmp_path / "a.png"), str(tmp_path / "d.png"), "--sigma", "25") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cut it into parts" in line


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("command", ["restore", "evaluate", "compare"])
@pytest.mark.parametrize("sigma", ["nan", "inf", "-5", "1e9"])
def test_a_sigma_that_is_none_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, sigma: str
) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    more = {"restore": [str(tmp_path / "a.png"), str(tmp_path / "b.png")], "evaluate": [], "compare": ["other"]}
    assert call(command, "any", *more[command], f"--sigma={sigma}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--sigma: sigma is a number in [0, 100]" in line
    assert not (tmp_path / "b.png").exists()


def test_sigma_is_checked_in_python_too_and_far_ones_are_warned_of() -> None:
    model = Model(Half(), name="half", channels=1, task={"name": "denoise", "sigma": [0, 30]})
    for sigma in (float("nan"), -5, 1e9, True, "25"):
        with pytest.raises(ValueError, match=r"sigma is a number in \[0, 100\]"):
            model(GREY, sigma=sigma)
    with pytest.warns(UserWarning, match="made for noise of sigma 0 to 30, and 75 is far from that"):
        model(GREY, sigma=75)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(GREY, sigma=np.float32(50))


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".gif"])
def test_grey_with_opacity_is_written_where_there_is_none(half: Model, tmp_path: Path, suffix: str) -> None:
    for number, depth in enumerate((np.uint8, np.uint16)):
        array = np.full((6, 5, 2), np.iinfo(depth).max // 2, depth)
        if depth == np.uint8:
            Image.fromarray(array).save(tmp_path / "0.png")
        else:
            png16(tmp_path / "1.png", array)
        told = restore_file(half, tmp_path / f"{number}.png", tmp_path / f"{number}{suffix}", 25)
        if suffix != ".gif":
            assert "its transparency is lost, it lies on white" in told
        assert read(tmp_path / f"{number}{suffix}").shape[:2] == (6, 5)


def test_colours_and_numbers_that_become_others_are_told(half: Model, tmp_path: Path) -> None:
    Image.new("CMYK", (5, 6), (10, 20, 30, 40)).save(tmp_path / "ink.tif")
    assert restore_file(half, tmp_path / "ink.tif", tmp_path / "a.tif", 25) == ["its CMYK became RGB"]
    Image.fromarray(np.full((6, 5), 0.5, np.float32)).save(tmp_path / "float.tif")
    assert restore_file(half, tmp_path / "float.tif", tmp_path / "b.tif", 25) == ["its floating point became 16 bits"]
    assert restore_file(half, tmp_path / "float.tif", tmp_path / "c.jpg", 25) == ["its floating point became 8 bits"]
