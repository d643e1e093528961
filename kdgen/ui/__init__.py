"""The app: distil, compare and look around in a browser. One file a tab; the only gradio imports of kdgen.

Nothing is computed here that the package does not compute for everybody: the tabs call the same functions as the
command line, and a run is a process of its own that writes its run folder, which the page only reads. What makes the
pictures of a run is such a process too, so that gradio is loaded only where the page is served.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdgen.ui.app import build as build
    from kdgen.ui.app import serve as serve

__all__ = ["build", "serve"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from kdgen.ui import app

        return getattr(app, name)
    raise AttributeError(f"module 'kdgen.ui' has no attribute {name!r}")
