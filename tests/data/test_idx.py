"""Whole pictures: IDX files, folders of icons, their labels and their jitter."""

import gzip
import struct

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from kdgen.data import STRONG, Arrays, Folder, Idx, Jitter, Mixture, border, framed, generator, make_images, make_jitter
from kdgen.types import UserError


def write_idx(path, array, compress=False):
    data = (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )
    path.write_bytes(gzip.compress(data) if compress else data)
    return str(path)


@pytest.fixture
def digits(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (7, 5, 6), dtype=np.uint8)
    return (
        write_idx(tmp_path / "images", pictures),
        write_idx(tmp_path / "labels.gz", np.array([0, 1, 2, 0, 1, 2, 3]), compress=True),
        pictures,
    )


def test_idx_gives_its_pictures_with_their_labels(digits):
    images, labels, pictures = digits
    source = make_images({"name": "idx", "args": {"images": images, "labels": labels}})
    expected = torch.from_numpy(pictures).float() / 127.5 - 1
    assert [name for name, _ in source.images(1)] == list("0123456")
    assert torch.allclose(torch.cat([x for _, x in source.images(3)])[:, 2], expected, atol=1e-6)
    assert source.num_classes == 4
    x, y = source.labelled(7, 6, channels=1, seed=3)
    assert sorted(y.tolist()) == [0, 0, 1, 1, 2, 2, 3]
    assert torch.equal(x, source.patches(7, 6, channels=1, seed=3))
    assert torch.equal(x, Idx(images).patches(7, 6, channels=1, seed=3))
    assert not torch.equal(x, source.patches(7, 6, channels=1, seed=4))
    by_picture = {tuple(p.flatten().tolist()): label for p, label in zip(expected, [0, 1, 2, 0, 1, 2, 3], strict=True)}
    found = {tuple(p[0, :5].flatten().tolist()): label for p, label in zip(x, y.tolist(), strict=True)}
    assert found == by_picture
    assert source.patches(20, 3, channels=3, seed=0).shape == (20, 3, 3, 3)
    assert Idx(images, size=8).images(1).__next__()[1].shape == (1, 1, 8, 8)
    assert source.fingerprint() != Idx(images).fingerprint() == Idx(images).fingerprint()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:20], "announces 210 bytes and 4 follow"),
        (lambda data: data[:9], "holds no images"),
        (lambda data: b"", "begins with nothing"),
        (lambda data: b"\x89PNG" + data, "begins with 89504e47"),
        (lambda data: gzip.compress(data)[:60], "cannot be read"),
        (lambda data: gzip.compress(data)[:-30] + b"0" * 30, "cannot be read"),
        (lambda data: data + b"0", "announces 210 bytes and 211 follow"),
    ],
)
def test_damaged_idx_files_are_refused_in_one_line(damage, words, digits, tmp_path):
    path = tmp_path / "images"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=words) as error:
        Idx(str(path))
    assert "\n" not in str(error.value)


def test_unfit_idx_arguments_are_refused(digits, tmp_path):
    images, labels, _ = digits
    with pytest.raises(UserError, match="no file"):
        Idx(str(tmp_path / "absent"))
    with pytest.raises(UserError, match="holds no images"):
        Idx(labels)
    with pytest.raises(UserError, match="3 labels for the 7 images"):
        Idx(images, write_idx(tmp_path / "few", np.arange(3)))
    with pytest.raises(UserError, match="have no labels"):
        Idx(images).labelled(1, 8, channels=1, seed=0)
    with pytest.raises(UserError, match="size is"):
        Idx(images, size=0)


def test_fashion_mnist_is_read_whole(shared_data):
    folder = shared_data / "fashion-mnist"
    source = Idx(str(folder / "t10k-images-idx3-ubyte.gz"), str(folder / "t10k-labels-idx1-ubyte.gz"))
    x, y = source.labelled(10_000, 32, channels=1, seed=0)
    assert x.shape == (10_000, 1, 32, 32)
    assert torch.bincount(y).tolist() == [1000] * 10
    assert ((x[:, :, 2:-2, 2:-2] + 1) / 2).mean().item() == pytest.approx(0.2868, abs=2e-4)
    assert (x[:, :, 0, 0] == -1).float().mean() > 0.95


def test_frames_are_square_and_keep_the_mean():
    x = torch.rand(2, 3, 20, 28)
    x[..., 0, :], x[..., -1, :], x[..., 0], x[..., -1] = 0.25, 0.25, 0.25, 0.25
    assert torch.equal(border(x), torch.full((2, 3, 1, 1), 0.25))
    out = framed(x, 32)
    assert torch.equal(out[..., 6:26, 2:30], x)
    assert (out[..., :6, :] == 0.25).all()
    small = framed(x, 7)
    assert torch.equal(small, F.avg_pool2d(out[..., 2:30, 2:30], 4))
    assert torch.equal(framed(x[..., :20], 20), x[..., :20])


@pytest.fixture
def icons(tmp_path):
    folder = tmp_path / "icons"
    folder.mkdir()
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[4:12, 4:12] = (255, 0, 0, 255)
    rgba[6:10, 6:10, 3] = 51
    Image.fromarray(rgba).save(folder / "a.png")
    Image.fromarray(rgba).quantize(8).save(folder / "palette.png")
    Image.fromarray(np.dstack([rgba[..., 0], rgba[..., 3]])).save(folder / "grey.png")
    Image.fromarray(np.full((8, 24, 3), 99, np.uint8)).save(folder / "opaque.png")
    return folder


@pytest.mark.parametrize("background", [-1.0, 0.0, 1.0])
def test_transparency_lies_on_the_background(icons, background):
    images = dict(Folder(str(icons), background=background).images(3))
    red = torch.tensor([1.0, -1.0, -1.0])
    for name in ("a.png", "palette.png"):
        assert torch.allclose(images[name][0, :, 0, 0], torch.full((3,), background), atol=0.01)
        assert torch.allclose(images[name][0, :, 5, 5], red)
        assert torch.allclose(images[name][0, :, 7, 7], 0.2 * red + 0.8 * background, atol=0.02)
    assert torch.allclose(images["opaque.png"], torch.full((1, 3, 8, 24), 99 / 127.5 - 1))
    assert images["grey.png"][0, 0, 0, 0].item() == pytest.approx(background, abs=0.01)
    dropped = dict(Folder(str(icons), background=None).images(3))["a.png"][0, :, 7, 7]
    assert torch.equal(dropped, red)
    with pytest.raises(UserError, match="background is"):
        Folder(str(icons), background=255)


def test_whole_patches_are_shrunk_pictures(icons):
    args = {"path": str(icons), "whole": True, "background": 1.0}
    source = make_images({"name": "folder", "args": args})
    x = source.patches(40, 8, channels=3, seed=1)
    assert torch.equal(x, Folder(**args).patches(40, 8, channels=3, seed=1))
    pictures = [framed(picture, 8)[0] for _, picture in source.images(3)]
    found = [[torch.equal(each, picture) for picture in pictures].index(True) for each in x]
    assert {0, 1, 2} <= set(found)
    others = [{**args, "whole": False}, {**args, "jitter": {"flip": 1}}, {**args, "background": 0}]
    assert len({Folder(**more).fingerprint() for more in (args, *others)}) == 4
    flipped = Folder(**args, jitter={"flip": 1.0}).patches(40, 8, channels=3, seed=1)
    assert torch.equal(flipped, x.flip(-1))


def test_each_file_is_a_class_that_jitters(icons):
    source = Folder(str(icons), background=1.0)
    x, y = source.labelled(64, 16, channels=3, seed=0)
    assert source.num_classes == 4
    assert sorted(set(y.tolist())) == [0, 1, 2, 3]
    assert len({each.sum().item() for each in x[y == 0]}) == (y == 0).sum()
    still, labels = Folder(str(icons), background=1.0, jitter={}).labelled(64, 16, channels=3, seed=0)
    assert torch.equal(labels, y)
    names = [framed(picture, 16)[0] for _, picture in source.images(3)]
    assert all(torch.equal(each, names[label]) for each, label in zip(still, y, strict=True))


def test_jitter_does_what_it_says():
    x = torch.full((64, 3, 33, 33), -1.0)
    x[..., 12:21, 12:21] = 1.0
    state = torch.get_rng_state()

    def bright(images):
        return (images + 1).mean((1, 2, 3))

    grown = bright(Jitter(scale=0.5)(x, generator(0))) / bright(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert 1 / 1.5**2 - 0.05 < grown.min() < 0.55
    assert 1.9 < grown.max() < 1.5**2 + 0.05
    turned = Jitter(rotation=45)(x, generator(0))
    assert torch.allclose(bright(turned), bright(x), rtol=0.03)
    assert turned[..., 16, 21].max() > 0 > x[0, 0, 16, 21]
    moved = Jitter(shift=0.2)(x, generator(0))
    centre = ((moved + 1).sum((1, 2)) * torch.arange(33)).sum(-1) / (moved + 1).sum((1, 2, 3))
    assert 4 < (centre - 16).abs().max() < 0.2 * 33 + 0.1
    assert torch.allclose(bright(moved), bright(x), rtol=0.01)
    tinted = Jitter(colour=0.3)(x * 0.5, generator(0))
    assert (tinted[:, 0, 0, 0] - tinted[:, 1, 0, 0]).abs().max() > 0.3
    mirrored = Jitter(flip=0.25)(x.index_fill(3, torch.arange(9), 1.0), generator(0))
    assert 4 < (mirrored[:, 0, 0, 0] < 0).sum() < 28
    assert torch.equal(Jitter()(x, generator(0)), x)
    assert STRONG(x, generator(1)).min() >= -1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"flipp": 1}, "the nearest: flip"),
        ({"flip": 2}, "flip is a number from 0 to 1"),
        ({"shift": -1}, "shift is a number from 0 on"),
        ({"scale": float("nan")}, "scale is"),
        (3, "described as"),
    ],
)
def test_unfit_jitter_is_refused(given, words):
    with pytest.raises(UserError, match=words):
        make_jitter(given)


def test_a_mixture_offsets_the_classes(digits, icons):
    images, labels, _ = digits
    mixture = Mixture([Idx(images, labels), Folder(str(icons), background=1.0)], weights=[1, 3])
    assert mixture.num_classes == 8
    x, y = mixture.labelled(400, 16, channels=3, seed=5)
    assert x.shape == (400, 3, 16, 16)
    assert (y >= 4).float().mean().item() == pytest.approx(0.75, abs=0.07)
    assert sorted(set(y.tolist())) == list(range(8))
    again, labels_again = mixture.labelled(400, 16, channels=3, seed=5)
    assert torch.equal(x, again)
    assert torch.equal(y, labels_again)
    black = Arrays([np.zeros((9, 9), np.uint8)])
    with pytest.raises(UserError, match="every source labels"):
        Mixture([black, mixture]).labelled(2, 8, channels=1, seed=0)
    assert Mixture([Idx(images), mixture]).num_classes == 0


def test_emoji_lie_on_white(shared_data):
    source = Folder(str(shared_data / "emoji-noto"), whole=True, background=1.0, max_gib=0.01)
    x = source.patches(48, 32, channels=3, seed=0)
    assert source.num_classes == 1794
    assert x.shape == (48, 3, 32, 32)
    assert (x[:, :, 0, 0] == 1).float().mean() > 0.9
    assert (x[:, 0] - x[:, 2]).abs().mean() > 0.1
