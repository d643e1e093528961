"""How a student learned: the previews of a run, few and small, and an animation of them."""

from pathlib import Path

from PIL import Image

MOST = 16
"""How many previews of a run are kept at most."""

WIDTH = 640
FRAME_MS, LAST_MS = 450, 2500


def keep(folder: Path, preview: Path, step: int) -> None:
    """Keep a small copy of a preview among those of the run; of too many the one nearest its neighbours goes.

    Args:
        folder: of the kept previews.
        preview: the picture.
        step: of the student that it shows.
    """
    folder.mkdir(exist_ok=True)
    with Image.open(preview) as image:
        small = image.convert("RGB")
    if small.width > WIDTH:
        small = small.resize((WIDTH, round(small.height * WIDTH / small.width)), Image.Resampling.LANCZOS)
    small.save(folder / f"{step:08d}.webp", "WEBP", quality=70, method=2)
    kept = sorted(folder.glob("*.webp"))
    if len(kept) > MOST:
        around = zip(kept[:-2], kept[1:-1], kept[2:], strict=True)
        _, crowded = min((int(after.stem) - int(before.stem), path) for before, path, after in around)
        crowded.unlink(missing_ok=True)


def animate(folder: Path, path: Path) -> bool:
    """Write the kept previews one after another as an animated WebP. Returns whether there were two at least."""
    frames = []
    for each in sorted(folder.glob("*.webp")):
        with Image.open(each) as image:
            frames.append(image.convert("RGB"))
    if len(frames) < 2:
        return False
    frames = [frame.resize(frames[0].size) if frame.size != frames[0].size else frame for frame in frames]
    times = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
    frames[0].save(path, "WEBP", save_all=True, append_images=frames[1:], duration=times, loop=0, quality=60, method=2)
    return True
