from itertools import pairwise
from pathlib import Path

from PIL import Image

from kdgen.report import previews


def test_previews_of_a_run_are_few_small_and_become_an_animation(tmp_path: Path) -> None:
    folder = tmp_path / "previews"
    assert not previews.animate(folder, tmp_path / "learned.webp")
    for step in range(0, 400, 4):
        Image.new("RGB", (1200, 900), (step // 2, 250 - step // 2, 0)).save(tmp_path / "preview.png")
        previews.keep(folder, tmp_path / "preview.png", step)
        assert len(list(folder.iterdir())) <= previews.MOST
    kept = sorted(path.stem for path in folder.iterdir())
    assert (kept[0], kept[-1]) == ("00000000", "00000396")
    gaps = [int(after) - int(before) for before, after in pairwise(kept)]
    assert max(gaps) <= 4 * min(gaps), "evenly over the run"
    for name in ("learned.webp", "learned.gif"):
        assert previews.animate(folder, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.n_frames == len(kept)  # type: ignore[attr-defined]
            assert image.width == previews.WIDTH
