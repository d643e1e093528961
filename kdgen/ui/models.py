"""Models that visitors name: which they are, what is fetched for them, what they cost; all of it bounded."""

import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import scan_cache_dir

from kdgen.recipe import Recipe, parse
from kdgen.registry import Spec
from kdgen.types import UserError, text
from kdgen.ui import own
from kdgen.ui.at_hand import stood_in
from kdgen.ui.choices import Cost
from kdgen.ui.questions import Questions
from kdgen.ui.runs import Runs
from kdgen.ui.visitors import resolve
from kdgen.ui.weighing import Weighing
from kdgen.ui.worker import Named, Worker

PIN_SECONDS = 300.0
CACHE_BYTES = 20 * 10**9


class Models:
    """Models by reference.

    Args:
        runs: whose finished students are models too.

    Attributes:
        worker: compares them.
        questions: what the setup side asks, beside a comparison that takes its time.
    """

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self.worker, self.questions = Worker(runs.limits), Questions(Worker(runs.limits))
        self._lock = threading.Lock()
        self._pins: dict[tuple[str, int], str] = {}

    def named(self, reference: str, session: str) -> Named:
        """A model that a visitor names: as it was written, as ``kdgen.load`` takes it, and when it was changed.

        Raises:
            UserError: for one that this session must not see, that is not there or too large.
            WorldError: where the Hub cannot be reached.
        """
        named = resolve(reference, session, self.runs)
        changed = 0.0
        if named.startswith(f"./{own.FOLDER}/"):
            base, mark, half = reference.strip().partition("#")
            folder = self.runs.brought(base, session, "teacher").resolve()
            named, changed = f"{own.entry(folder)}{mark}{half}", folder.stat().st_mtime
        if named.startswith("../"):
            named = str(self.runs.folder / named.removeprefix("../"))
            try:
                folder = Path(named.partition("#")[0])
                student = folder if (folder / "config.json").is_file() else folder / "student"
                changed = (student / "config.json").stat().st_mtime
            except FileNotFoundError:
                raise UserError(text("model_deleted", "{reference} was deleted", reference=reference)) from None
        if named.startswith("hub:"):
            named = self._pinned(named, int(time.time() / PIN_SECONDS))
        return reference, named, changed

    def named_all(self, references: Sequence[str], session: str) -> tuple[Named, ...]:
        """Several models, each once. Raises UserError for too many."""
        texts = list(dict.fromkeys(str(each).strip() for each in references or () if str(each).strip()))
        if len(texts) > (limit := self.runs.limits.models):
            raise UserError(text("too_many_models", "at most {most} models are compared at once, not {count}",
                                 most=limit,
                                 count=len(texts)))  # fmt: skip
        return tuple(self.named(text, session) for text in texts)

    def task(self, reference: str, session: str, *, wait: float) -> Mapping[str, Any]:
        """What a model was made for. Raises what ``named`` and ``Questions.ask`` do."""
        facts: Mapping[str, Any] = self.questions.ask("task", self.named(reference, session), wait=wait)
        return facts

    def costs(self, recipe: Recipe, session: str, *, wait: float) -> tuple[Cost, Cost]:
        """What teacher and student of a recipe cost. Raises what ``named`` and ``Questions.ask`` do."""
        teacher = self.named(str(recipe.teacher), session)
        found: tuple[Cost, Cost] = self.questions.ask(
            "costs", stood_in(recipe).task.model_dump_json(), recipe.student.model_dump_json(), teacher, wait=wait
        )
        return found

    def inferred(self, reference: str, session: str, *, wait: float, fresh: bool = False) -> Recipe:
        """The recipe that follows from what a teacher says. Raises what ``named`` and ``Questions.ask`` do."""
        return parse(json.loads(self.questions.ask("inferred", self.named(reference, session), fresh, wait=wait)))

    def proposed(
        self, recipe: Recipe, reference: str, session: str, share: float, family: str | None, *, wait: float
    ) -> Spec:
        """A student of a share of a teacher's cost. Raises what ``named`` and ``Questions.ask`` do."""
        args = self.named(reference, session), share, family, self.runs.limits.folder / "cache"
        use: Spec = self.questions.ask("proposed", stood_in(recipe).to_json(), *args, wait=wait)
        return use

    def bring(self, files: Sequence[Path], declared: Mapping[str, Any] | None, session: str) -> tuple[str, own.About]:
        """Take a teacher in files that were uploaded, which are removed; those that are refused may be asked for anew.

        Args:
            files: as ``kdgen.ui.teacher_files.keep`` takes them.
            declared: the same.
            session: the visitor's.

        Returns:
            its name, and what it is.

        Raises:
            UserError: what ``Own.begin`` and ``kdgen.ui.teacher_files.keep`` do.
        """
        taken = self._taken(session, files, "keep_teacher", declared, self.runs.limits.teacher_bytes)
        _remove(files)
        return taken

    def bring_pictures(self, files: Sequence[Path], session: str) -> tuple[str, own.About]:
        """Take pictures to train on, likewise, but nothing stays of those that are refused.

        See ``kdgen.ui.picture_files.keep``.
        """
        try:
            return self._taken(session, files, "keep_pictures", self.runs.limits)
        finally:
            _remove(files)

    def _taken(self, session: str, files: Sequence[Path], call: str, *args: Any) -> tuple[str, own.About]:
        about = None
        name, folder = self.runs.own.begin(session)
        try:
            about = self.questions.worker.call(call, list(files), *args, folder.resolve())
        finally:
            self.runs.own.finish(folder, about)
        assert about is not None
        return name, about

    def end(self) -> None:
        """End the processes that models are asked in."""
        self.worker.end()
        self.questions.end()

    def _pinned(self, named: str, period: int) -> str:
        """A reference to the Hub at the commit that was weighed, asked for once in a while."""
        with self._lock:
            if (exact := self._pins.get((named, period))) is not None:
                return exact
        exact = Weighing(self.runs.limits.download_bytes).pinned(named)
        make_room()
        with self._lock:
            self._pins = {key: each for key, each in self._pins.items() if key[1] == period}
            self._pins[named, period] = exact
        return exact


def _remove(files: Sequence[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def make_room() -> None:
    """On a Space, whose disk is the app's own, drop the models of the Hub that were longest unused."""
    if not os.environ.get("SPACE_ID"):
        return
    cache = scan_cache_dir()
    excess = cache.size_on_disk - CACHE_BYTES
    stale = []
    for repo in sorted(cache.repos, key=lambda repo: repo.last_accessed):
        if excess <= 0:
            break
        excess -= repo.size_on_disk
        stale += [revision.commit_hash for revision in repo.revisions]
    if stale:
        cache.delete_revisions(*stale).execute()
