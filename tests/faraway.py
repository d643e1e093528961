"""A device for ``--code``: it computes on the CPU, and refuses what a GPU refuses, tensors of two devices together.

Its name is ``far``. Under autocast it does with the commonest operations as CUDA does; it has no generator.
"""

import types
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

aten = torch.ops.aten
BETWEEN = (aten.copy_.default, aten._copy_from.default)
"""What brings values from one device to another."""

BY_INDEX = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default)
"""Whose indices may lie on the CPU."""

WHOLE = (aten.cat.default, aten.stack.default)
"""Where not even a single number of another device is taken."""


class Far(Tensor):
    """A tensor of the device; ``here`` is its values on the CPU."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "Far":
        made: Far = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, here.size(), strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
            device=torch.device("far:0"),
        )  # fmt: skip
        return made

    def __init__(self, here: Tensor) -> None:
        self.here = here

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, dict(kwargs or {}))

    @property
    def data(self) -> Any:
        return torch._C.TensorBase.data.__get__(self)  # type: ignore[attr-defined]

    @data.setter
    def data(self, other: Any) -> None:
        torch._C.TensorBase.data.__set__(self, other)  # type: ignore[attr-defined]
        self.here = other.here

    def tolist(self) -> Any:
        return self.here.tolist()

    def data_ptr(self) -> int:
        return self.here.data_ptr()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.here.__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            copy = Far(self.here.clone()).requires_grad_(self.requires_grad)
            if isinstance(self, nn.Parameter):
                copy._is_param = True  # type: ignore[attr-defined]
            memo[id(self)] = copy
        return memo[id(self)]

    def __repr__(self, **how: Any) -> str:
        return f"Far({self.here!r})"


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives, on the device unless another is asked for."""
    refuse(func, args, kwargs)
    asked = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)]
    stays = any(each.type == "cpu" for each in asked)
    given = {id(t.here): t for t in tree_leaves((args, kwargs)) if isinstance(t, Far)}
    out = func(*tree_map(brought, args), **tree_map(brought, kwargs))
    if func in BETWEEN:
        return args[0] if func is aten.copy_.default else args[1]
    known = {id(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}

    def wrapped(t: Any) -> Any:
        if not isinstance(t, Tensor) or id(t) in known:
            return t
        if stays:
            return t
        return given[id(t)] if id(t) in given else Far(t)

    return tree_map(wrapped, out)


def brought(t: Any) -> Any:
    """The values of a tensor on the CPU, and the CPU for every device."""
    if isinstance(t, torch.device):
        return torch.device("cpu")
    return t.here if isinstance(t, Far) else t


def refuse(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """An error as a GPU has it, for tensors of two devices and for a generator of another."""
    leaves = tree_leaves((args, kwargs))
    if any(isinstance(leaf, torch.Generator) for leaf in leaves):
        raise RuntimeError(f"{func}: expected a 'far' device type for generator but found 'cpu'")
    if func in BETWEEN:
        return
    if func in BY_INDEX:
        leaves = [args[0], *args[2:]] if isinstance(args[0], Far) else leaves
    whole = func in WHOLE
    other = [t for t in leaves if isinstance(t, Tensor) and not isinstance(t, Far) and (t.ndim or whole)]
    if other and any(isinstance(t, Far) for t in tree_leaves((args, kwargs))):
        shapes = ", ".join(str(tuple(t.shape)) for t in other)
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found far:0 and cpu ({shapes})")


class Module(types.ModuleType):
    """What torch asks of a device."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """The CPU's generator is the only one."""

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def empty(size: Any, *, dtype: Any = None, memory_format: Any = None, **more: Any) -> Tensor:
    return Far(torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format))


def empty_strided(size: Any, stride: Any, *, dtype: Any = None, **more: Any) -> Tensor:
    return Far(torch.empty_strided(size, stride, dtype=dtype))


def under_autocast(operation: Any, dtype: torch.dtype) -> Any:
    """The operation on floats of a dtype."""
    cast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def floats(t: Any) -> Any:
        return t.to(dtype) if isinstance(t, Tensor) and t.is_floating_point() else t

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(cast):
            return operation(*tree_map(floats, args), **tree_map(floats, kwargs))

    return kernel


def copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    brought(target).copy_(brought(source))
    return target


_setup_privateuseone_for_python_backend("far", backend_module=Module("torch.far"))
_library = torch.library.Library("aten", "IMPL")
for _name, _kernel in (("empty.memory_format", empty), ("empty_strided", empty_strided), ("_copy_from", copy_from)):
    _library.impl(_name, _kernel, "PrivateUse1")
for _name in ("conv2d", "conv_transpose2d.input", "linear", "matmul", "scaled_dot_product_attention"):
    _base, _, _overload = _name.partition(".")
    _operation = getattr(getattr(aten, _base), _overload or "default")
    _library.impl(_name, under_autocast(_operation, torch.bfloat16), "AutocastPrivateUse1")
for _name in ("group_norm", "layer_norm"):
    _library.impl(_name, under_autocast(getattr(aten, _name).default, torch.float32), "AutocastPrivateUse1")
_others = torch.library.Library("_", "IMPL")
_others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
