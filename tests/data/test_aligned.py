"""Photographs stacked with maps of the same places, and described by embeddings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kdgen import registry
from kdgen.data import Aligned, Mixture, generator, to_tensor
from kdgen.data.damages.channels import Channels
from kdgen.data.damages.exposures import Exposures
from kdgen.data.image_folder import ImageFolder
from kdgen.data.jitter import Jitter
from kdgen.registry import Spec
from kdgen.tasks import Classify
from kdgen.tasks.anomaly import Anomaly
from kdgen.types import UserError

NAMES = ("cold/0.png", "cold/1.png", "hot/2.png")


def saved(file: Path, arrays: dict[str, Any]) -> None:
    np.savez(file, **arrays)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Photographs of two classes, and as maps the red of each, one reading of which is missing."""
    random = np.random.default_rng(0)
    for name in NAMES:
        colour, heat = tmp_path / "colour" / name, tmp_path / "heat" / name
        colour.parent.mkdir(parents=True, exist_ok=True)
        heat.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(1, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(colour)
        red = pixels[..., 0].astype(np.float32)
        red[3, 4] = np.nan
        np.save(heat.with_suffix(".npy"), red)
    saved(tmp_path / "words.npz", {name: np.full(5, number) for number, name in enumerate(NAMES)})
    return tmp_path


def stacks(folders: Path, *, gaps: bool = False, **args: Any) -> Aligned:
    photographs = {"name": "image_folder", "args": {"path": str(folders / "colour")}}
    heat = {"name": "sensor", "args": {"path": str(folders / "heat"), "high": 255, "gaps": gaps}}
    source: Aligned = registry.build(
        "images", Spec(name="aligned", args={"pictures": photographs, "maps": [heat], **args})
    )
    return source


def test_whatever_crops_or_moves_photographs_moves_their_maps_alike(folders: Path) -> None:
    source = stacks(folders)
    assert (source.num_channels, source.num_classes, source.classes) == (4, 2, ["cold", "hot"])
    cut = source.patches(8, 9, channels=4, seed=0)
    apart = (cut[:, 0] - cut[:, 3]).abs() > 1e-5
    assert apart.sum() < 10, "the one reading that is missing"
    whole, labels = source.labelled(6, 20, channels=4, seed=1)
    moved = Jitter(scale=0.2, shift=0.1, flip=0.5)(whole, generator(0))
    assert ((moved[:, 0] - moved[:, 3]).abs() > 1e-4).float().mean() < 0.05
    plain = ImageFolder(str(folders / "colour")).labelled(6, 20, channels=3, seed=1)
    assert torch.equal(labels, plain[1])
    torch.testing.assert_close(whole[:, :3], plain[0])
    assert source.fingerprint() != stacks(folders, gaps=True).fingerprint()


def test_missing_readings_have_a_channel_that_a_view_makes_a_mask(folders: Path) -> None:
    source = stacks(folders, gaps=True)
    assert source.num_channels == 5
    _, stack = next(source.images(5))
    assert stack.isfinite().all()
    assert stack[0, 3, 3, 4] == 0
    seen, told = Channels([3], mask=4)(stack, generator(0))
    assert torch.equal(seen, stack[:, 3:4])
    assert told["mask"].shape == (1, 1, 20, 24)
    assert told["mask"].nonzero().tolist() == [[0, 0, 3, 4]]


@pytest.mark.parametrize(("kind", "grey"), [(Classify, False), (Classify, True), (Anomaly, True)])
def test_colour_changes_photographs_and_never_their_maps(kind: Any, grey: bool, folders: Path) -> None:
    for name in NAMES if grey else ():
        with Image.open(folders / "colour" / name) as image:
            image.convert("L").save(folders / "colour" / name)
    for number, name in enumerate(NAMES):
        np.save((folders / "heat" / name).with_suffix(".npy"), np.full((20, 24), 200.0 * number))
    source, plain = stacks(folders, gaps=True), stacks(folders, gaps=True)
    photograph = 1 if grey else 3
    for images in (source, Mixture([source, plain])):
        tinted, still = (kind(images, channels=photograph + 2, patch=20, augment={"colour": amount})
                         for amount in (0.5, 0.0))  # fmt: skip
        x, before = (next(each.batches(batch_size=8, seed=0)).x for each in (tinted, still))
        assert torch.equal(x[:, photograph:], before[:, photograph:])
        assert before[:, photograph].max() > 2, "readings beyond the range are as they are"
        assert (x - before)[:, :photograph].abs().amax((1, 2, 3)).min() > 0.01
        assert x[:, :photograph].abs().max() <= 1


def test_embeddings_are_of_the_pictures_that_are_drawn(folders: Path) -> None:
    source = stacks(folders, embeddings=str(folders / "words.npz"))
    x, _ = source.labelled(7, 24, channels=4, seed=3)
    told = source.embedded(7, seed=3)["embedding"]
    whole = [source._frame(number, 24, 4) for number in range(3)]
    for image, row in zip(x, told, strict=True):
        assert torch.equal(image, whole[int(row[0])][0])
    rows = folders / "rows.npy"
    np.save(rows, np.stack([np.full((2, 5), number) for number in range(3)]))
    assert torch.equal(stacks(folders, embeddings=str(rows)).embedded(7, seed=3)["embedding"][:, 1], told)
    assert source.fingerprint() != stacks(folders).fingerprint()
    assert stacks(folders).embedded(2, seed=0) == {}


def test_grey_photographs_among_coloured_ones_are_made_coloured(folders: Path) -> None:
    Image.fromarray(np.full((20, 24), 7, np.uint8)).save(folders / "colour" / NAMES[1])
    stack = [x for _, x in stacks(folders).images(4)][1]
    torch.testing.assert_close(stack[0, :3], to_tensor(np.full((20, 24), 7, np.uint8), 3)[0])


@pytest.mark.parametrize(("change", "line"), [
    ("lost map", r"aligned: 1 of 3 pictures have no map of their name in maps\.0, the first is hot/2\.png: add it"),
    ("other size", r"aligned: hot/2\.png is 24x20 and its map in maps\.0 23x20: give both the same size"),
    ("twice", r"aligned: maps\.0 holds two maps called hot/2: keep one"),
    ("jitter", "aligned: jitter would move pictures apart"),
    ("nameless", "aligned: the pictures of Scenes have no names: name a folder"),
    ("other count", r"words\.npy holds float64 of shape \(2, 5\), and there are 3 pictures: give finite numbers \(3, D\)"),
    ("not finite", r"words\.npy holds float64 of shape \(3, 5\)"),
    ("lost words", r"holds 2 embeddings, and none for 1 of the 3 pictures, the first is cold/0\.png: add them"),
    ("unlike", r"holds \(4,\) for hot/2\.png and \(5,\) for cold/0\.png: make all of one shape"),
    ("no file", "cannot be read as an .npz or .npy"),
    ("broken", "cannot be read as an .npz or .npy"),
])  # fmt: skip
def test_what_does_not_belong_together_is_refused(folders: Path, change: str, line: str) -> None:
    args: dict[str, Any] = {}
    words, heat = folders / "words.npy", folders / "heat" / "hot"
    match change:
        case "lost map":
            (heat / "2.npy").unlink()
        case "other size":
            np.save(heat / "2.npy", np.zeros((20, 23)))
        case "twice":
            Image.fromarray(np.zeros((20, 24), np.uint8)).save(heat / "2.png")
        case "jitter":
            path = str(folders / "colour")
            args["pictures"] = {"name": "image_folder", "args": {"path": path, "jitter": {"shift": 0.1}}}
        case "nameless":
            args["pictures"] = {"name": "scenes"}
        case "other count":
            np.save(words, np.zeros((2, 5)))
        case "not finite":
            np.save(words, np.full((3, 5), np.nan))
        case "broken":
            words.write_bytes(b"\x93NUMPY")
        case "lost words":
            saved(folders / "words.npz", dict.fromkeys(NAMES[1:], np.zeros(5)))
        case "unlike":
            saved(folders / "words.npz", {**dict.fromkeys(NAMES[:2], np.zeros(5)), NAMES[2]: np.zeros(4)})
    if change in ("other count", "not finite", "no file", "broken"):
        args["embeddings"] = str(words)
    if change in ("lost words", "unlike"):
        args["embeddings"] = str(folders / "words.npz")
    with pytest.raises(UserError, match=line):
        stacks(folders, **args).labelled(3, 20, channels=4, seed=0)


def test_a_position_that_is_no_channel_is_refused(folders: Path) -> None:
    _, stack = next(stacks(folders).images(4))
    for view in (Channels([0, 4]), Channels([3], mask=4)):
        with pytest.raises(
            UserError, match=r"there is no channel 4, the images have 4, from 0: name others, or set task"
        ):
            view(stack, generator(0))
    with pytest.raises(UserError, match="each of keep is a whole number of at least 0, not -1"):
        Channels([-1])


def test_exposures_have_noise_of_their_own_and_begin_alike() -> None:
    grey = torch.zeros(2, 3, 200, 200)
    four, _ = Exposures([1.0, 0.5, 1.0, 1.0], noise=10)(grey, generator(0))
    assert four.shape == (2, 12, 200, 200)
    taken = four.view(2, 4, 3, 200, 200)
    torch.testing.assert_close(taken.mean((0, 2, 3, 4)), torch.tensor([0.0, -0.5, 0.0, 0.0]), atol=2e-3, rtol=0)
    torch.testing.assert_close(taken.std((2, 3, 4)), torch.full((2, 4), 20 / 255), atol=2e-3, rtol=0)
    mean = taken[:, [0, 2, 3]].mean(1)
    assert float(mean.std()) == pytest.approx(20 / 255 / 3**0.5, rel=0.03), "independent"
    one, _ = Exposures([1.0], noise=10)(grey, generator(0))
    assert torch.equal(one, four[:, :3]), "a single exposure is the first of several"
    bright, _ = Exposures([4.0], noise=0.0, photons=100)(torch.full((1, 1, 200, 200), -0.75), generator(0))
    assert float(bright.mean()) == pytest.approx(0, abs=2e-3)
    assert float(bright.std()) == pytest.approx(2 * (0.5 / 100) ** 0.5, rel=0.03)


@pytest.mark.parametrize(("kind", "name", "args", "line"), [
    ("task", "restore", {"damages": ["exposures"]}, "restore: these damages make 12 channels of 3, which is for views"),
    ("damage", "one_of", {"damages": ["noise", "exposures"]}, "one_of: these damages make 12 channels of 3"),
])  # fmt: skip
def test_what_changes_channels_is_a_view_alone(kind: Any, name: str, args: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        registry.build(kind, Spec(name=name, args=args))
