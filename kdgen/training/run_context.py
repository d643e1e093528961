"""What the links of a chain share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from kdgen.report.report import deciding
from kdgen.training.run_log import Journal
from kdgen.types import Batch, Task
from kdgen.utils.distributed import Team


@dataclass(slots=True)
class RunContext:
    """What the links of a chain share: the folder, the task, the device.

    Attributes:
        folder: the run folder.
        journal: its notes.
        task: of all links.
        whole: the task of the whole chain, where ``task`` is that of its students: what controls are trained on.
        probe: a batch of two to probe shapes on.
        device: where all nets compute.
        fast: whether bfloat16 pays there.
        int8: whether a teacher may be tried in 8-bit integers.
        team: the processes that train together; the first of them asks the teacher for caches, and writes.
        reference: the teacher of the whole chain, that nets are measured against.
        parts: which part of the task each further teacher is asked about, by its name.
        stopped: asked whether to save and leave.
    """

    folder: Path
    journal: Journal
    task: Task
    probe: Batch
    device: torch.device
    fast: bool
    int8: bool
    team: Team
    reference: nn.Module | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    stopped: Callable[[], bool] = field(default=lambda: False)
    whole: Task | None = None

    @property
    def primary_metric(self) -> str:
        """The metric by which its nets are judged."""
        return deciding(self.task, taught=self.reference is not None)

    def among_students(self, seed: int) -> "RunContext":
        """The same for a link whose teacher is a student of the one before."""
        if (task := self.task.among_students()) is self.task:
            return self
        return replace(self, task=task, probe=next(task.batches(batch_size=2, seed=seed)), whole=self.task)

    def home(self, phase: str) -> Path:
        """The folder of a phase's net."""
        if phase == "student":
            return self.folder / "student"
        return self.folder / ("assistants" if phase.startswith("assistant") else "controls") / phase

    def finished(self, phase: str) -> bool:
        """Whether a phase's net is there."""
        return (self.home(phase) / "config.json").is_file()
