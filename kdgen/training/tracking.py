"""Figures of a run sent to TensorBoard or trackio, through accelerate's trackers."""

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from kdgen.registry import nearest
from kdgen.types import Event, UserError

TRACKERS = ("tensorboard", "trackio")
TRACKED = ("step", "evaluate")


def track(events: Iterable[Event], names: Sequence[str]) -> Iterator[Event]:
    """The same events, their figures passed on as ``PHASE/NAME``: reports of the loss and quick evaluations.

    Args:
        events: of a run, as ``kdgen.distill`` yields them.
        names: of trackers. TensorBoard's files lie in `RUN/tracking`; trackio keeps a project named like the folder.

    Raises:
        UserError: at the first event, for a tracker that is unknown or not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise UserError(f"no tracker is called {name!r}{nearest(name, TRACKERS)}")
        if find_spec(name) is None:
            raise UserError(f"the tracker {name} is not installed: pip install {name}")
    if not names:
        yield from events
        return
    from accelerate import Accelerator

    accelerator: Accelerator | None = None
    try:
        for event in events:
            if event.kind == "start":
                folder = Path(event.data["folder"])
                accelerator = Accelerator(log_with=list(names), project_dir=str(folder / "tracking"))
                accelerator.init_trackers(folder.name)
            if accelerator is not None and event.kind in TRACKED:
                figures = {f"{event.phase}/{k}": float(v) for k, v in event.data.items() if isinstance(v, int | float)}
                accelerator.log(figures, step=event.step)
            yield event
    finally:
        for tracker in accelerator.trackers if accelerator is not None else ():
            tracker.finish()
