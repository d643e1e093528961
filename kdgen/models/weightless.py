"""Nets by their configurations alone: weights that have a shape and no content, so that memory is counted and not used.

They are torch's fake tensors: what is computed of them has a shape, a dtype and no content either.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Folders = Mapping[str, Path]
"""Where the configurations of repositories of the Hub lie, by ``org/name``."""

_folders: ContextVar[Folders | None] = ContextVar("folders", default=None)


@contextmanager
def weightless(folders: Folders) -> Iterator[Any]:
    """While open, modules are made without content in their weights, and models loaded by configurations alone.

    It holds for all threads: modules are not to be made elsewhere meanwhile.

    Args:
        folders: with the configurations of models of the Hub, each laid out as its repository is.

    Yields:
        torch's mode in which tensors that are made have no content either.
    """
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    register, apply = nn.Module.register_parameter, nn.Module._apply

    def hollow(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
        register(module, name, param)
        if param is not None and not isinstance(param, FakeTensor):
            with mode:
                empty = torch.empty(param.shape, dtype=param.dtype)
            module._parameters[name] = nn.Parameter(empty, requires_grad=param.requires_grad)

    def applied(module: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        for child in module.children() if recurse else ():
            applied(child, fn)
        each: Any = module
        for held in (each._parameters, each._buffers):
            for name, tensor in held.items():
                changed = None if tensor is None else fn(tensor.detach())
                if changed is not None and (changed.dtype, changed.device) != (tensor.dtype, tensor.device):
                    learned = isinstance(tensor, nn.Parameter)
                    held[name] = nn.Parameter(changed, tensor.requires_grad) if learned else changed
        return module

    token = _folders.set(folders)
    patched: Any = nn.Module
    patched.register_parameter, patched._apply = hollow, applied
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Accessing the data pointer")  # torch's own copying does
            yield mode
    finally:
        patched.register_parameter, patched._apply = register, apply
        _folders.reset(token)


def bundled() -> Folders:
    """Those that kdgen brings along: configurations of well-known models, none of their weights."""
    root = Path(__file__).parent / "configurations"
    return {folder.relative_to(root).as_posix(): folder for folder in sorted(root.glob("*/*"))}


def configured() -> Folders | None:
    """The folders that models are loaded from without their weights; None where they are loaded with these."""
    return _folders.get()


__all__ = ["Folders", "bundled", "configured", "weightless"]
