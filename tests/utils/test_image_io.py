"""One reader of pictures for the command line, the app and Python."""

import numpy as np
import pytest
import torch
from drawn import COLOUR, RAMP, Half, png16
from PIL import Image

from kdgen.data import read_picture
from kdgen.models.model import Model
from kdgen.types import UserError
from kdgen.ui.limits import Limits
from kdgen.ui.uploads import open_picture
from kdgen.utils.image_io import frames, from_array, from_image


@pytest.fixture
def half() -> Model:
    return Model(Half(), name="half", channels=1)


@pytest.mark.parametrize("values", [RAMP, RAMP[..., None], COLOUR], ids=["HW", "HW1", "HWC"])
@pytest.mark.parametrize(
    ("dtype", "white"),
    [(np.uint8, 255), (np.uint16, 65535), (np.int64, 255), (np.int16, 255), (np.float32, 1), (np.float64, 1)],
)
def test_arrays_come_back_as_they_came(half, values, dtype, white):
    integer = np.issubdtype(dtype, np.integer)
    array = (values * (white / 255)).round() if integer else values * (white / 255)
    out = half(array.astype(dtype))
    assert (out.dtype, out.shape) == (dtype, values.shape)
    assert np.abs(out.astype(float) - array / 2).max() <= (0.51 if integer else 1e-6)


@pytest.mark.parametrize("channels", [2, 4])
def test_opacity_passes_through_arrays_and_images(half, channels):
    array = np.dstack([COLOUR[..., : channels - 1], RAMP]).round().astype(np.uint8)
    for out in (half(array), np.asarray(half(Image.fromarray(array)))):
        assert out.shape == array.shape
        assert np.array_equal(out[..., -1], array[..., -1])
        assert np.abs(out[..., :-1].astype(int) - array[..., :-1] // 2).max() <= 1


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (COLOUR.astype(np.float32), "values from 0 to 255 is no picture"),
        (RAMP.astype(np.int32) * 99, "int32 with values"),
        (RAMP.astype(int) - 9, "int64 with values from -9"),
        (RAMP > 9, "bool is no picture"),
        (RAMP.astype(complex), "complex128 is no picture"),
        (np.full((9, 9), np.nan), "not finite"),
        (COLOUR.transpose(2, 0, 1), r"array.transpose\(1, 2, 0\)"),
        (np.zeros((2, 9, 9, 3)), r"it is \(H, W\)"),
        (np.zeros((9, 9, 7)), r"it is \(H, W\)"),
        (np.zeros((0, 9), np.uint8), "no picture"),
        (torch.zeros(4, 9, 9), "tensor of shape"),
        (torch.zeros(9, 9), "tensor of shape"),
        (torch.zeros(3, 9, 9, dtype=torch.int64), "tensor of torch.int64"),
        (torch.full((3, 9, 9), 255.0), "values from 255 to 255"),
        (torch.full((3, 9, 9), float("nan")), "no picture"),
        (Image.fromarray(RAMP.astype(np.int32) * 1000), "8 or 16 bits"),
        (Image.fromarray(RAMP.astype(np.float32) * 1000), "8 or 16 bits"),
        ("a.png", "a picture is a PIL image"),
    ],
)
def test_what_stands_for_nothing_is_refused_in_a_line(half, array, words):
    with pytest.raises(UserError, match=words) as error:
        half(array)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_every_dtype_come_back_in_it(half, dtype):
    x = torch.full((3, 9, 9), 100).to(dtype) if dtype == torch.uint8 else torch.full((3, 9, 9), -0.5, dtype=dtype)
    out = half(x)
    assert (out.dtype, out.shape) == (dtype, x.shape)
    assert out[0, 0, 0].item() == (50 if dtype == torch.uint8 else -0.75)


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "I", "F", "1", "P", "CMYK", "YCbCr", "HSV", "LA", "RGBA", "PA"])
def test_pil_images_of_every_mode(half, mode):
    if mode in ("I;16", "I", "F"):
        scale, dtype = {"I;16": (257, np.uint16), "I": (257, np.int32), "F": (1 / 255, np.float32)}[mode]
        image = Image.fromarray((RAMP * scale).astype(dtype))
    else:
        image = Image.fromarray(COLOUR.astype(np.uint8)).convert(mode)
    assert image.mode == mode
    out = half(image)
    back = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "PA": "RGBA"}
    assert (out.mode, out.size) == (back.get(mode, mode), image.size)
    white = {"I;16": 65535, "I": 65535, "F": 1}.get(mode, 255)
    before = np.asarray(image if mode in ("I;16", "I", "F") else image.convert(out.mode)).astype(float)
    colours = slice(0, -1) if out.mode in ("LA", "RGBA") else slice(None)
    apart = (
        (np.asarray(out).astype(float) - before / 2)[..., colours] if before.ndim == 3 else np.asarray(out) - before / 2
    )
    assert np.abs(apart).max() <= 0.51 * min(1, white) + 1e-3


def test_a_pil_image_is_made_upright_and_keeps_its_profile(half, tmp_path):
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(COLOUR.astype(np.uint8)).save(tmp_path / "a.png", exif=tags, icc_profile=b"profile")
    with Image.open(tmp_path / "a.png") as image:
        out = half(image)
    assert out.size == (24, 32)
    assert out.info["icc_profile"] == b"profile"
    expected = np.rot90(COLOUR.astype(np.uint8), -1)
    assert np.abs(np.asarray(out).astype(int) - expected // 2).max() <= 1
    assert np.array_equal(read_picture(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_of_colour_are_all_read(tmp_path, channels):
    array = np.random.default_rng(0).integers(0, 65536, (13, 9, channels), dtype=np.uint16)
    (pixels,) = frames(png16(tmp_path / "a.png", array))
    assert (pixels.dtype, pixels.white, pixels.note) == (np.uint16, 65535, "")
    assert np.array_equal((pixels.values * 257).round(), array[..., :3])
    assert (pixels.alpha is None) == (channels == 3)
    assert np.array_equal(pixels.like(pixels.values / np.float32(255)), array)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sixteen_bits_of_colour_are_read_from_tiff(tmp_path, byteorder, compression):
    tifffile = pytest.importorskip("tifffile")
    array = np.random.default_rng(0).integers(0, 65536, (13, 9, 3), dtype=np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", array, photometric="rgb", byteorder=byteorder, compression=compression,
        predictor=compression is not None,
    )  # fmt: skip
    (pixels,) = frames(tmp_path / "a.tif")
    assert np.array_equal((pixels.values * 257).round(), array)


def test_sixteen_bits_that_are_cut_are_told(tmp_path):
    array = np.random.default_rng(0).integers(0, 65536, (13, 9, 2), dtype=np.uint16)
    (pixels,) = frames(png16(tmp_path / "a.png", array))
    assert pixels.note == "its 16 bits were read as 8"


def test_the_app_reads_what_the_command_line_reads(half, tmp_path):
    saved = {
        "sixteen.png": Image.fromarray((RAMP * 257).round().astype(np.uint16)),
        "unit.tif": Image.fromarray((RAMP / 255).astype(np.float32)),
        "octets.tif": Image.fromarray(RAMP.astype(np.float32)),
        "clear.png": Image.fromarray(np.dstack([COLOUR, RAMP]).round().astype(np.uint8)),
        "colour.png": Image.fromarray(COLOUR.round().astype(np.uint8)),
    }
    for name, image in saved.items():
        image.save(tmp_path / name)
        seen = np.asarray(open_picture(tmp_path / name, Limits()))
        told = read_picture(tmp_path / name, 255.0)[4:20]
        assert np.abs(seen - told).max() <= 0.51, name
        with Image.open(tmp_path / name) as opened:
            assert np.abs(from_image(opened).on(255.0)[4:20] - told).max() <= 1e-3
    seen = np.asarray(open_picture(png16(tmp_path / "deep.png", (COLOUR * 257).astype(np.uint16)), Limits()))
    assert np.abs(seen - COLOUR[4:20]).max() <= 1


def test_reading_changes_no_octet():
    array = COLOUR.astype(np.uint8)
    assert np.array_equal(from_array(array).values, array)
    assert np.array_equal(from_image(Image.fromarray(array)).values, array)
