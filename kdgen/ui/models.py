"""Models that visitors name, loaded once and kept while they are asked for; and what is fetched for them, bounded."""

import os
import threading
from collections import OrderedDict
from pathlib import Path

from huggingface_hub import scan_cache_dir

from kdgen.models.model import Model, load
from kdgen.types import UserError
from kdgen.ui.runs import Runs
from kdgen.ui.visitors import Weighing, resolve

KEPT = 12
CACHE_BYTES = 20 * 10**9


class Models:
    """Models by reference.

    Args:
        runs: whose finished students are models too.
    """

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, float], Model] = OrderedDict()

    def get(self, reference: str, session: str) -> Model:
        """The model that a visitor names.

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
                raise UserError(f"{reference} was deleted") from None
        with self._lock:
            if (named, changed) not in self._kept:
                exact = Weighing(self.runs.limits.download_bytes).pinned(named)
                if exact.startswith("hub:"):
                    make_room()
                self._kept[named, changed] = load(exact)
            self._kept.move_to_end((named, changed))
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[named, changed]


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
