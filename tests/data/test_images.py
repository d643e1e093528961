"""The sources of images: what they give, that it is reproducible, and what they refuse."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from kdgen.data import (
    Arrays,
    DeadLeaves,
    Folder,
    Mixture,
    Photographs,
    Scenes,
    dead_leaves,
    dihedral,
    generator,
    inverse,
    make_images,
    to_tensor,
)
from kdgen.data.materials import material
from kdgen.data.pictures import window
from kdgen.types import UserError


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def noise8(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def pictures(tmp_path):
    """Odd sizes, one-pixel strips, nested, four formats, grey and colour, 16-bit, and float beyond the range."""
    save(tmp_path / "a.png", noise8(33, 21))
    save(tmp_path / "nested/deep/b.JPG", noise8(40, 31, 3), quality=95)
    save(tmp_path / "c.webp", noise8(19, 50, 3), lossless=True)
    save(tmp_path / "strip.png", noise8(1, 40))
    save(tmp_path / "pole.png", noise8(23, 1, 3))
    save(tmp_path / "sixteen.png", np.linspace(0, 65535, 30 * 20).astype(np.uint16).reshape(30, 20))
    save(tmp_path / "sixteen.tif", np.linspace(0, 65535, 30 * 20).astype(np.uint16).reshape(30, 20))
    save(tmp_path / "float.tiff", np.linspace(-60, 320, 25 * 20).astype(np.float32).reshape(25, 20))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


SOURCES = {
    "dead_leaves": lambda path: DeadLeaves(),
    "scenes": lambda path: Scenes(lines=1, writing=1, focus=1),
    "folder": lambda path: Folder(str(path)),
    "folder_shrunk": lambda path: Folder(str(path), scales=(1.0, 0.5, 0.7)),
    "folder_on_demand": lambda path: Folder(str(path), max_gib=1e-9),
    "arrays": lambda path: Arrays([noise8(20, 30), noise8(9, 9, 3)]),
    "photographs": lambda path: Photographs(),
    "mixture": lambda path: Mixture([{"name": "dead_leaves"}, {"name": "folder", "args": {"path": str(path)}}]),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SOURCES)
def test_patches_are_a_pure_function_of_their_arguments(name, channels, pictures):
    source = SOURCES[name](pictures)
    state = torch.get_rng_state()
    x = source.patches(7, 24, channels=channels, seed=2**63 - 1)
    assert x.shape == (7, channels, 24, 24)
    assert x.dtype == torch.float32
    assert x.isfinite().all()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    dead_leaves.kept.clear()
    again = SOURCES[name](pictures)
    again.patches(2, 8, channels=channels, seed=1)
    assert torch.equal(again.patches(7, 24, channels=channels, seed=2**63 - 1), x)
    assert not torch.equal(source.patches(7, 24, channels=channels, seed=0), x)
    x.zero_()
    assert not torch.equal(source.patches(7, 24, channels=channels, seed=2**63 - 1), x), "nobody changes another's"


def test_dead_leaves_are_painted_once_for_what_is_asked_twice(monkeypatch):
    painted, paint = [], dead_leaves.paint
    monkeypatch.setattr(dead_leaves, "paint", lambda *args: painted.append(1) or paint(*args))
    dead_leaves.kept.clear()
    source = DeadLeaves()
    first = source.patches(4, 32, channels=1, seed=0)
    source.patches(1, 32, channels=1, seed=1)
    assert torch.equal(DeadLeaves().patches(4, 32, channels=1, seed=0), first)
    assert len(painted) == 2
    assert not torch.equal(DeadLeaves(smallest=2).patches(4, 32, channels=1, seed=0), first)
    for seed in range(2, 2 + dead_leaves.KEPT):
        source.patches(1, 32, channels=1, seed=seed)
    assert torch.equal(source.patches(4, 32, channels=1, seed=0), first)
    assert len(painted) == 4 + dead_leaves.KEPT, "the oldest make room"
    monkeypatch.setattr(dead_leaves, "SMALL", 1000)
    for _ in range(2):
        source.patches(4, 32, channels=1, seed=99)
    assert len(painted) == 6 + dead_leaves.KEPT


def test_dead_leaves_are_varied_and_within_the_range():
    x = DeadLeaves().patches(40, 32, channels=3, seed=0)
    assert -1 <= x.min() < -0.9
    assert 0.9 < x.max() <= 1
    assert x.std((1, 2, 3)).median() > 0.1
    assert (x[:, 0] - x[:, 2]).abs().mean() > 0.02
    assert len(torch.unique(x.flatten(1), dim=0)) == 40
    assert DeadLeaves().patches(2, 300, channels=1, seed=0).shape == (2, 1, 300, 300)


@pytest.mark.parametrize("share", ["lines", "writing", "focus", "haze"])
def test_what_scenes_add_is_there_as_often_as_asked_for(share):
    plain = {"lines": 0, "writing": 0, "focus": 0, "haze": 0}
    none, all_ = (Scenes(**{**plain, share: value}).patches(20, 64, channels=3, seed=0) for value in (0, 1))
    changed = (none != all_).flatten(1).float().mean(1)
    assert changed.gt(0.01).float().mean() > 0.5, "patches in which it shows"
    if share == "haze":
        assert all_.std() < 0.8 * none.std()
    if share == "focus":
        assert all_.diff(dim=-1).abs().mean() < none.diff(dim=-1).abs().mean()


def test_scenes_of_other_paint_are_other_images(monkeypatch):
    own = Scenes().fingerprint()
    assert own == Scenes().fingerprint() != Scenes(writing=0.3).fingerprint()
    monkeypatch.setattr("kdgen.data.overlays.FINE", 3)
    assert Scenes().fingerprint() != own


def test_materials_are_textures_of_one_contrast_and_of_many_directions():
    made = torch.stack([material(128, generator(seed)) for seed in range(60)])
    assert made.isfinite().all()
    assert made.mean((1, 2)).abs().max() < 0.5
    assert 0.7 < made.std((1, 2)).min() < made.std((1, 2)).max() < 1.3
    across, down = made.diff(dim=-1).abs().mean((1, 2)), made.diff(dim=-2).abs().mean((1, 2))
    assert (across / down).max() > 2
    assert (down / across).max() > 2


def test_dead_leaves_have_the_spectrum_of_photographs():
    """Power falls as frequency^-2 or so: its slope is between -1.3 and -3 (Lee et al. 2001, section 1)."""
    canvases = torch.stack([DeadLeaves().canvas(256, channels=1, seed=seed)[0] for seed in range(6)])
    window = torch.hann_window(256)
    power = torch.fft.rfft2((canvases - canvases.mean((1, 2), keepdim=True)) * window * window[:, None]).abs().square()
    frequency = torch.hypot(torch.fft.fftfreq(256)[:, None], torch.fft.rfftfreq(256))
    bands = [2.0**-k for k in range(2, 7)]
    level = [power[:, (frequency > f / 1.2) & (frequency < f * 1.2)].mean().log2().item() for f in bands]
    slope = np.polyfit(np.log2(bands), level, 1)[0]
    assert -3 < slope < -1.3


def test_a_folder_gives_its_pictures_sorted_with_their_values(pictures):
    images = dict(Folder(str(pictures)).images(1))
    assert list(images) == sorted(images)
    assert len(images) == 8
    assert images["a.png"].shape == (1, 1, 33, 21)
    assert images["strip.png"].shape == (1, 1, 1, 40)
    assert images["pole.png"].shape == (1, 1, 23, 1)
    assert torch.equal(images["a.png"][0, 0], torch.from_numpy(noise8(33, 21)).float() / 127.5 - 1)
    grey = np.asarray(Image.open(pictures / "c.webp").convert("L"))
    assert torch.equal(images["c.webp"][0, 0], torch.from_numpy(grey.copy()).float() / 127.5 - 1)
    colour = dict(Folder(str(pictures)).images(3))
    assert torch.equal(colour["c.webp"][0], torch.from_numpy(noise8(19, 50, 3)).float().permute(2, 0, 1) / 127.5 - 1)
    assert torch.equal(colour["a.png"], images["a.png"].expand(1, 3, 33, 21))


def test_sixteen_bits_keep_their_precision(pictures):
    expected = torch.linspace(0, 65535, 600, dtype=torch.float64).int().double() / 65535 * 2 - 1
    images = dict(Folder(str(pictures)).images(1))
    for name in ("sixteen.png", "sixteen.tif"):
        assert torch.allclose(images[name].flatten().double(), expected, atol=2e-6)


def test_float_tiffs_are_never_clipped(pictures):
    x = dict(Folder(str(pictures)).images(1))["float.tiff"]
    assert x.min().item() == pytest.approx(-60 / 127.5 - 1)
    assert x.max().item() == pytest.approx(320 / 127.5 - 1)


@pytest.mark.parametrize("max_gib", [1.0, 1e-9])
def test_damaged_files_are_named_and_skipped(pictures, max_gib):
    whole = (pictures / "a.png").read_bytes()
    (pictures / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "nested" / "empty.jpg").write_bytes(b"")
    (pictures / "text.webp").write_text("not an image")
    save(pictures / "nan.tif", np.full((4, 4), np.nan, dtype=np.float32))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        folder = Folder(str(pictures), max_gib=max_gib)
        x = folder.patches(60, 8, channels=1, seed=0)
        assert len(list(folder.images(3))) == 8
    assert sorted(folder.skipped) == ["nan.tif", "nested/empty.jpg", "text.webp", "truncated.png"]
    assert len(caught) == 4
    assert all("\n" not in str(w.message) for w in caught)
    assert x.isfinite().all()


def test_files_of_several_pages_are_told_of_once(tmp_path):
    pages = [Image.fromarray(noise8(9, 9, seed=i)) for i in range(3)]
    for name in ("a.tif", "b.gif"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    save(tmp_path / "c.png", noise8(9, 9))
    with pytest.warns(UserWarning, match="only the first page or frame is taken of 2 .* the first is a.tif") as seen:
        source = Folder(tmp_path)
    assert len(seen) == 1
    assert source.names == ["a.tif", "b.gif", "c.png"]
    with warnings.catch_warnings(action="error"):
        (_, first), *_ = source.images(1)
    assert torch.equal(first, to_tensor(np.asarray(pages[0]), 1))


def test_folders_without_images_are_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        Folder(str(tmp_path / "absent"))
    with pytest.raises(UserError, match="holds no PNG"):
        Folder(str(tmp_path))
    (tmp_path / "bad.png").write_bytes(b"bad")
    with pytest.warns(UserWarning, match=r"bad\.png"), pytest.raises(UserError, match="none of the 1 images") as error:
        Folder(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_patch_is_a_window_of_its_picture_reflected_beyond_the_border():
    picture = noise8(12, 12)
    patch = Arrays([picture]).patches(1, 5, channels=1, seed=3)[0, 0]
    whole = to_tensor(picture, 1)[0, 0]
    assert any(torch.equal(whole[i : i + 5, j : j + 5], patch) for i in range(8) for j in range(8))
    assert window(4, 9, 0).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert window(4, 3, 1).tolist() == [1, 2, 3]
    assert window(1, 3, 0).tolist() == [0, 0, 0]
    assert window(2, 4, 0).tolist() == [0, 1, 0, 1]


def test_arrays_take_what_people_have():
    grey = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    colour = torch.rand(3, 4, 5)
    (_, a), (_, b), (_, c) = Arrays([grey, colour, (grey * 255).round().astype(np.uint8)]).images(3)
    assert torch.allclose(a[0, 1], torch.from_numpy(grey) * 2 - 1, atol=1e-6)
    assert torch.allclose(b[0], colour * 2 - 1, atol=1e-6)
    assert torch.allclose(c, a, atol=1 / 255)
    luma = to_tensor((colour.permute(1, 2, 0) * 255).numpy(), 1)
    assert torch.allclose(
        luma[0, 0], (colour * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0) * 2 - 1, atol=1e-5
    )
    assert len(list(Arrays(torch.rand(5, 1, 8, 8), value_range=(-1, 1)).images(1))) == 5
    with pytest.raises(UserError, match="image 0"):
        Arrays([np.zeros((2, 3, 4, 5))])
    with pytest.raises(UserError, match="at least one"):
        Arrays([])


def test_photographs_are_small_and_photographic():
    images = dict(Photographs().images(3))
    assert list(images) == ["astronaut", "camera", "chelsea", "coffee", "rocket"]
    assert all(max(x.shape) <= 256 <= x.shape[-1] * 2 for x in images.values())
    assert images["astronaut"].shape == (1, 3, 256, 256)


def test_a_mixture_keeps_its_weights():
    black, white = Arrays([np.zeros((9, 9), np.uint8)]), Arrays([np.full((9, 9), 255, np.uint8)])
    x = Mixture([black, white], weights=[1, 3]).patches(2000, 2, channels=1, seed=0)
    assert (x == 1).float().mean().item() == pytest.approx(0.75, abs=0.04)
    for wrong in ([1], [1, -1], [0, 1]):
        with pytest.raises(UserError, match="one positive weight"):
            Mixture([black, white], weights=wrong)


def test_malformed_sources_are_refused():
    for wrong in ("dead_leaves", {"nmae": "dead_leaves"}, 3):
        with pytest.raises(UserError, match="images are described as"):
            make_images(wrong)
    with pytest.raises(UserError, match="dead_leaves"):
        make_images({"name": "dead_leafs"})
    with pytest.raises(UserError, match="scales"):
        make_images({"name": "photographs", "args": {"scales": [2.0]}})


def test_a_source_that_gives_patches_says_when_they_change():
    with pytest.raises(UserError, match="images are described as"):
        make_images(SimpleNamespace(patches=DeadLeaves().patches))
    source = SimpleNamespace(patches=DeadLeaves().patches, fingerprint=DeadLeaves().fingerprint)
    assert make_images(source) is source


def test_dihedral_is_the_symmetry_group_of_the_square():
    x = torch.rand(2, 3, 5, 7)
    images = [dihedral(x, k) for k in range(8)]
    assert all(torch.equal(dihedral(image, inverse(k)), x) for k, image in enumerate(images))
    square = torch.rand(8, 1, 4, 4)
    turned = dihedral(square, torch.arange(8))
    assert len({tuple(dihedral(square[:1], k).flatten().tolist()) for k in range(8)}) == 8
    assert all(torch.equal(turned[k : k + 1], dihedral(square[k : k + 1], k)) for k in range(8))
    assert torch.equal(dihedral(x, 6), x.rot90(-1, (2, 3))) or torch.equal(dihedral(x, 6), x.rot90(1, (2, 3)))
