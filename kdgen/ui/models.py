"""Models that visitors name: which they are, what is fetched for them, and a few kept at hand; all of it bounded."""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import scan_cache_dir

from kdgen.models.model import Model, load
from kdgen.types import UserError, text
from kdgen.ui.runs import Runs
from kdgen.ui.visitors import Weighing, resolve
from kdgen.ui.worker import Named, Worker

KEPT, KEPT_BYTES = 12, 200 * 10**6
"""Models that are kept in this process, and bytes of their parameters."""

PIN_SECONDS = 300.0
CACHE_BYTES = 20 * 10**9


class Models:
    """Models by reference.

    Args:
        runs: whose finished students are models too.
    """

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self.worker = Worker(runs.limits)
        self._lock = threading.Lock()
        self._pins: dict[tuple[str, int], str] = {}
        self._kept: OrderedDict[tuple[str, float], Model] = OrderedDict()

    def named(self, reference: str, session: str) -> Named:
        """A model that a visitor names: as it was written, as ``kdgen.load`` takes it, and when it was changed.

        Raises:
            UserError: for one that this session must not see, that is not there or too large.
            WorldError: where the Hub cannot be reached.
        """
        named = resolve(reference, session, self.runs)
        changed = 0.0
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

    def get(self, reference: str, session: str) -> Model:
        """The model that a visitor names, in this process. Raises what ``named`` does."""
        _, named, changed = self.named(reference, session)
        with self._lock:
            if (named, changed) not in self._kept:
                self._kept[named, changed] = load(named)
            self._kept.move_to_end((named, changed))
            model = self._kept[named, changed]
            while len(self._kept) > KEPT or (sum(map(size_of, self._kept.values())) > KEPT_BYTES and self._kept):
                self._kept.popitem(last=False)
            return model

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


def size_of(model: Model) -> int:
    """Bytes of a model's parameters."""
    return sum(each.numel() * each.element_size() for each in [*model.parameters(), *model.buffers()])


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
