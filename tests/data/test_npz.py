"""Pictures in .npz files, in parts or whole, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kdgen.data import Npz
from kdgen.registry import Spec, build
from kdgen.types import UserError

GREY, COLOUR = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4), np.zeros((3, 4, 4, 3), np.uint8)


def saved(folder: Path, **arrays: np.ndarray) -> str:
    np.savez(folder / "x.npz", **arrays)
    return str(folder / "x.npz")


@pytest.mark.parametrize("keys", [("{}_images", "{}_labels"), ("x_{}", "y_{}")])
def test_a_file_in_parts_gives_the_part_that_is_asked_for(keys: tuple[str, str], tmp_path: Path) -> None:
    parts = {"train": (GREY, [0, 1, 1]), "test": (GREY[:2], [[1], [2]])}
    path = saved(tmp_path, **{key.format(part): np.asarray(value) for part, values in parts.items()
                              for key, value in zip(keys, values, strict=True)})  # fmt: skip
    train = build("images", Spec(name="npz", args={"path": path}))
    assert (train.num_labelled, train.num_classes, train.class_shares.tolist()) == (3, 2, [1 / 3, 2 / 3])
    x, y = Npz(path, split="test").labelled(2, 4, channels=1, seed=0)
    assert sorted(y.tolist()) == [1, 2]
    torch.testing.assert_close(x[y == 1][0, 0], torch.from_numpy(GREY[0].copy()) / 127.5 - 1)
    with pytest.raises(UserError, match="and none of val_images, x_val, images, x"):
        Npz(path, split="val")


@pytest.mark.parametrize(
    "images", [COLOUR, COLOUR.transpose(0, 3, 1, 2), COLOUR / 255.0], ids=["last", "first", "float"]
)
def test_a_file_without_parts_is_taken_whole_colour_in_either_order(images: np.ndarray, tmp_path: Path) -> None:
    path = saved(tmp_path, x=images)
    source = Npz(path, split="test")
    assert (source.num_classes, len(list(source.images(3)))) == (0, 3)
    assert torch.equal(source.patches(2, 4, channels=3, seed=0), -torch.ones(2, 3, 4, 4))
    assert Npz(saved(tmp_path, images=GREY, labels=np.arange(3))).labelled(3, 4, channels=3, seed=0)[0].shape[1] == 3


@pytest.mark.parametrize(("arrays", "line"), [
    ({"images": GREY, "labels": np.arange(2)}, "one whole number for each of 3 images"),
    ({"images": GREY, "labels": np.zeros((3, 14), np.int64)}, "one whole number for each of 3 images"),
    ({"images": GREY, "labels": np.zeros(3)}, "labels is float64"),
    ({"images": np.zeros((3, 4, 4, 4), np.uint8)}, r"images is \(3, 4, 4, 4\), and images are"),
    ({"images": np.array([{}])}, "cannot be read as an .npz of plain arrays"),
    ({"other": GREY}, "holds other and none of"),
])  # fmt: skip
def test_other_arrays_are_refused_in_a_line(arrays: dict[str, np.ndarray], line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=line) as error:
        Npz(saved(tmp_path, **arrays))
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        Npz(str(tmp_path / "none.npz"))
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(UserError, match="cannot be read"):
        Npz(str(tmp_path / "bad.npz"))
