"""Pairs of damaged and clean pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdgen.data import Pairs
from kdgen.types import UserError


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """Pictures of other sizes in JPEG's place and PNG's; the damage is that all is darker by 40."""
    random = np.random.default_rng(0)
    for number, size in enumerate(((40, 30), (24, 33), (30, 30))):
        clean = random.integers(40, 256, size, dtype=np.uint8)
        for folder, pixels, suffix in (("damaged", clean - 40, "tif"), ("clean", clean, "png")):
            (tmp_path / folder / "sub").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / "sub" / f"{9 - number}.{suffix}")
    return str(tmp_path / "damaged"), str(tmp_path / "clean")


def test_pairs_are_matched_by_name_and_cropped_at_one_place(folders: tuple[str, str]) -> None:
    source = Pairs(*folders)
    assert list(source.names) == ["sub/7", "sub/8", "sub/9"]
    x, y = source.paired(20, 16, channels=1, seed=3)
    assert x.shape == y.shape == (20, 1, 16, 16)
    assert torch.allclose(x + 40 / 127.5, y, atol=1e-5)
    assert torch.equal(x, source.patches(20, 16, channels=1, seed=3))
    for _, damaged, clean in source.whole_pairs(3):
        assert damaged.shape == clean.shape
        assert torch.allclose(damaged + 40 / 127.5, clean, atol=1e-5)


def test_a_picture_without_its_partner_or_of_another_size_is_refused(folders: tuple[str, str]) -> None:
    damaged, clean = folders
    Image.new("L", (30, 41)).save(f"{clean}/sub/9.png")
    with pytest.raises(UserError, match=r"sub/9 is 30x40 in .*damaged and 30x41 in .*clean"):
        Pairs(damaged, clean)
    Path(f"{clean}/sub/9.png").unlink()
    with pytest.raises(UserError, match=r"1 of 3 pictures in .*damaged have none of their name .* the first is sub/9"):
        Pairs(damaged, clean)
    Path(f"{damaged}/sub/9.tif").write_bytes(b"II*\x00broken")
    with pytest.raises(UserError, match=r"9\.tif in .* cannot be read"), pytest.warns(UserWarning, match="skipped"):
        Pairs(damaged, clean)
