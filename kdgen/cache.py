"""Where things are kept that can be made again."""

import os
from pathlib import Path


def cache_folder(what: str, root: str | None = None) -> Path:
    """The folder for one kind of thing, under ``root``, else `$KDGEN_CACHE`, else `~/.cache/kdgen`."""
    return Path(root or os.environ.get("KDGEN_CACHE") or Path.home() / ".cache" / "kdgen") / what
