"""How a student learned: the previews of a run, few and small, and an animation of them."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from kdgen.report import sample_grids
from kdgen.types import Event, Net, Task

SHOWN = 8
"""How many images of a net that draws a preview shows."""

MOST = 16
"""How many previews of a run are kept at most."""

WIDTH = 480
FRAME_MS, LAST_MS = 450, 2500
CLEAR = 255
"""The colour of a GIF that is none."""


class Previews:
    """The previews of a run: `preview.png`, few samples of the student beside its teacher's, and small copies of it.

    Args:
        folder: of the run.
        task: what the nets do.
        teacher: whom they are measured against, if there is one.
    """

    def __init__(self, folder: Path, task: Task, teacher: Net | None) -> None:
        self.folder, self.task, self.teacher = folder, task, teacher
        self._drawings: dict[str, Tensor] = {}
        self._measured = False

    def refresh(self, student: Net, step: int) -> Iterator[Event]:
        """Draw the student as it is at a step; the first time an event has the teacher's own figures."""
        self._draw(student, step)
        task, teacher = self.task, self.teacher
        if not self._measured and teacher is not None and isinstance(task, sample_grids.Pictured):
            figures = task.evaluate(teacher, reference=teacher, limit=task.quick_eval_images)
            sound = {key: value for key, value in figures.items() if math.isfinite(value)}
            yield Event(kind="evaluate", phase="teacher", data={**sound, "seconds": 0.0})
        self._measured = True

    def _draw(self, student: Net, step: int) -> None:
        partial, whole = self.folder / "preview.partial.png", self.folder / "preview.png"
        if isinstance(self.task, sample_grids.Pictured):
            nets = {"student": student} if self.teacher is None else {"teacher": self.teacher, "student": student}
            sample_grids.samples(partial, self.task, nets, reference=self.teacher, limit=1)
        elif isinstance(self.task, sample_grids.Drawn):
            if self.teacher is not None and not self._drawings:
                self._drawings = {"teacher": self.task.draw_teacher(self.teacher, num_images=SHOWN)}
            drawn = {**self._drawings, "student": self.task.draw(student, num_images=SHOWN)}
            sample_grids.drawings(partial, drawn, self.task.captions(SHOWN))
        if partial.exists():
            partial.replace(whole)
            keep(self.folder / "previews", whole, step)


def keep(folder: Path, preview: Path, step: int) -> None:
    """Keep a small copy of a preview among those of the run; of too many the one nearest its neighbours goes.

    Args:
        folder: of the kept previews.
        preview: the picture.
        step: of the student that it shows.
    """
    folder.mkdir(exist_ok=True)
    with Image.open(preview) as image:
        small = image.convert("RGBA")
    if small.width > WIDTH:
        small = small.resize((WIDTH, round(small.height * WIDTH / small.width)), Image.Resampling.LANCZOS)
    small.save(folder / f"{step:08d}.webp", "WEBP", quality=70, method=2)
    kept = sorted(folder.glob("*.webp"))
    if len(kept) > MOST:
        around = zip(kept[:-2], kept[1:-1], kept[2:], strict=True)
        _, crowded = min((int(after.stem) - int(before.stem), path) for before, path, after in around)
        crowded.unlink(missing_ok=True)


def animate(folder: Path, path: Path) -> bool:
    """Write the kept previews one after another as an animated WebP or GIF, transparent where they are.

    Returns whether there were two at least.
    """
    frames = []
    for each in sorted(folder.glob("*.webp")):
        with Image.open(each) as image:
            frames.append(image.convert("RGBA"))
    if len(frames) < 2:
        return False
    frames = [frame.resize(frames[0].size) if frame.size != frames[0].size else frame for frame in frames]
    times = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
    options: dict[str, Any] = {"quality": 50, "method": 3}
    if path.suffix == ".gif":
        frames, options = [_of_palette(frame) for frame in frames], {"transparency": CLEAR, "disposal": 2}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0, **options)
    return True


def _of_palette(frame: Image.Image) -> Image.Image:
    """A frame in ``CLEAR`` colours, and in that one where it is transparent by more than half."""
    made = frame.convert("RGB").quantize(CLEAR)
    made.paste(CLEAR, mask=frame.getchannel("A").point(lambda opacity: 255 * (opacity < 128)))
    return made
