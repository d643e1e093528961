"""Fetch a model from the Hub, make sure that it loads, and copy it where it is wanted."""

import shutil
from pathlib import Path

from kdgen.models.hub_cache import HubId, copy_published
from kdgen.models.model import load
from kdgen.types import UserError


def pull(id: HubId, to: Path | None = None) -> Path:
    """Fetch a model.

    Args:
        id: the repository and its revision.
        to: a new folder for the files, whole or not there; if not given they stay in the cache alone.

    Returns:
        the folder that holds the files, which ``kdgen.load`` takes.

    Raises:
        UserError: for a folder in use, and whatever ``kdgen.load`` refuses; nothing is copied then.
        WorldError: where Hub or network fail and the cache does not have it.
    """
    if to is not None and to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to} is in use: name a new folder for the files of {id.name}")
    home = load(str(id)).home
    assert home is not None, "what comes from the Hub lies in a folder"
    if to is None:
        return home
    try:
        copy_published(home, to)
    except BaseException:
        shutil.rmtree(to, ignore_errors=True)
        raise
    return to
