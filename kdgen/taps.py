"""Read what happens inside a net: forward hooks by dotted path, as a context manager."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import get_ident
from typing import Any

from torch import Tensor, nn

from kdgen.registry import nearest
from kdgen.types import UserError


def tappable(net: nn.Module) -> list[str]:
    """Dotted paths of the modules of a net that can be tapped, in order of definition.

    A net may name its own, in a method ``taps() -> list[str]``; otherwise these are all of its named modules.
    """
    own = getattr(net, "taps", None)
    return list(own()) if callable(own) else [name for name, _ in net.named_modules() if name]


def find(net: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path.

    Raises:
        UserError: if there is none, with the nearest paths.
    """
    try:
        return net.get_submodule(path)
    except AttributeError:
        known = [name for name, _ in net.named_modules() if name]
        raise UserError(f"{type(net).__name__} has no layer {path!r}{nearest(path, known)}") from None


@contextmanager
def taps(net: nn.Module, paths: Iterable[str]) -> Iterator[Mapping[str, Tensor]]:
    """Collect the outputs of modules during a forward pass.

    Args:
        net: any module.
        paths: dotted paths of its submodules. A module that gives a tuple is read at its first tensor.

    Yields:
        a mapping, filled by the next forward pass of this thread, from path to output; the last call of a module wins.

    Raises:
        UserError: for a path the net does not have.
    """
    seen: dict[str, Tensor] = {}
    mine = get_ident()

    def hook(path: str) -> Any:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            several = output if isinstance(output, tuple | list) else (output,)
            tensor = next((part for part in several if isinstance(part, Tensor)), None)
            if tensor is not None and get_ident() == mine:
                seen[path] = tensor

        return keep

    modules = {path: find(net, path) for path in paths}
    handles = [module.register_forward_hook(hook(path)) for path, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
