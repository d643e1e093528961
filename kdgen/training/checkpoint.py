"""Checkpoints that are whole or not there: written beside, flushed, then renamed; the one before is kept."""

import errno
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from kdgen.types import Text, UserError, text
from kdgen.utils.distributed import Team


class Checkpoints:
    """The last two states of a phase in a folder, `last.pt` and `previous.pt`.

    Args:
        folder: where they lie.
        slices: processes of which each saves a slice, all but the first in `last.RANK.pt`; None where one saves all.
    """

    def __init__(self, folder: Path, slices: Team | None = None) -> None:
        rank = f".{slices.rank}" if slices and slices.rank else ""
        self.last, self.previous = folder / f"last{rank}.pt", folder / f"previous{rank}.pt"
        self.slices = slices
        self._step: int | None = None

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a state of tensors and plain values, one after another: no copy of the whole is made in memory.

        Raises:
            UserError: when the disk is full; the state saved before is untouched.
        """
        self.last.parent.mkdir(parents=True, exist_ok=True)
        partial = self.last.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                torch.save(dict(state), file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            reason = error.__context__ if isinstance(error, RuntimeError) else error  # torch's hides the disk's
            if not isinstance(reason, OSError) or reason.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            kept = (text("none_kept", "none is kept yet") if self._step is None else
                    text("checkpoint_kept", "the checkpoint of step {step} is kept", step=self._step))  # fmt: skip
            run = self.last.parents[2]
            raise UserError(text("checkpoint_disk", "the disk of {run} is full, so step {step} could not be saved; "
                                 "{kept}: free space, then `kdgen resume {run}`", run=run, step=state["step"],
                                 kept=kept)) from None  # fmt: skip
        if self.last.exists():
            os.replace(self.last, self.previous)
        os.replace(partial, self.last)
        self._step = state["step"]

    def load(self) -> tuple[dict[str, Any] | None, list[Text]]:
        """The newest state that can be read, None if there is none, and a line for every damaged one passed over.

        In slices it is the newest that all processes can read.

        Raises:
            UserError: where it was saved by another number of processes than hold slices now.
        """
        damaged = list[Text]()
        states = {state["step"]: state for state in self._readable(damaged)}
        for step in self._common(states):
            self._step = step
            return states[step], damaged
        return None, damaged

    def _common(self, states: Mapping[int, Mapping[str, Any]]) -> Iterable[int]:
        """The steps whose states all processes have, the newest first."""
        if (team := self.slices) is None:
            return states
        saved = team.broadcast([(step, state["processes"]) for step, state in states.items()])
        for _, processes in saved:
            if processes != team.size:
                raise UserError(text("sharded_processes", "the student was saved in slices of {processes} processes, "
                                     "not of {now}: go on with as many", processes=processes,
                                     now=team.size))  # fmt: skip
        return [step for step, _ in saved if not team.any(step not in states)]

    def _readable(self, damaged: list[Text]) -> Iterator[dict[str, Any]]:
        """The states that can be read, all of them where others may not have the newest."""
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                with zipfile.ZipFile(path) as archive:
                    if archive.testzip() is not None:  # torch.load does not compare checksums
                        raise zipfile.BadZipFile
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # a damaged archive raises errors of many kinds
                damaged.append(text("checkpoint_damaged", "checkpoint {path} is damaged ({error}) and is passed over",
                                    path=str(path), error=type(error).__name__))  # fmt: skip
                continue
            yield state
            if self.slices is None:
                return
