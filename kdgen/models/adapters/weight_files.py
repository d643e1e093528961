"""What files of weights hold, read without running any code that they may carry."""

import json
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from kdgen.models.adapters.recognise import kind_of_file
from kdgen.types import Text, UserError, text
from kdgen.utils.validation import check_numbers

INDEX = ".index.json"
"""How the names of files end that list the parts of weights and which part holds what."""

PART = re.compile(r"-\d{5}-of-\d{5}\.")
POINTER = b"version https://git-lfs"
LARGEST_HEADER = 100_000_000
ARRAYS = "{k: torch.as_tensor(v) for k, v in d.items()}"


def read_weights_file(path: Path) -> Any:
    """What a file of weights holds: mostly tensors by name, often under a key and beside an optimiser.

    A file that torch saved is read with ``weights_only``. What it holds besides tensors and plain values, the objects
    of hyper-parameters or a scheduler, say, becomes an empty mapping; a module becomes its weights by name. Arrays of
    an ``.npz`` become tensors. An index of several files is read with all that it lists.

    Args:
        path: a ``.safetensors``, a file that ``torch.save`` wrote, an ``.npz``, or the ``.index.json`` of such files.

    Raises:
        UserError: for a file that is missing, damaged or something else, saying what it is, and for one that cannot be
            read without running code, with the lines that convert it.
    """
    if not path.is_file():
        raise UserError(text("no_weights_file", "no weights file at {path}", path=path))
    if path.name.endswith(INDEX):
        return _parts(path)
    try:
        head = check_content(path)
        if _is_safetensors(head):  # before pickles, which a header of 640 bytes begins like
            return load_file(path)
        if head[:2] == b"PK":
            return _archive(path)
        if head[:1] == b"\x80":
            return _saved_by_torch(path, head)
        if path.suffix == ".safetensors":
            return load_file(path)
    except PermissionError:
        raise UserError(text("weights_permission", "cannot read {path}: give yourself permission to",
                             path=path)) from None  # fmt: skip
    except SafetensorError:
        raise UserError(text("safetensors_damaged", "{path} is damaged or no safetensors file: fetch it again",
                             path=path)) from None  # fmt: skip
    if head[:6] == b"\x93NUMPY":
        code = f"numpy.load({path.name!r}, allow_pickle=True).item()"
        raise UserError(text("weights_one_array", "{path} holds one array, or objects that only running code can "
                             "read; {remedy}", path=path, remedy=_convert(path, code, ARRAYS)))  # fmt: skip
    raise UserError(text("no_weights_kind", "{path}{what} is no file of weights that is read: those are .safetensors, "
                         "what torch.save wrote, and .npz; save the state_dict of the net in its own library, best as "
                         ".safetensors, or export the net as .onnx", path=path, what=_called(head)))  # fmt: skip


def _called(head: bytes) -> Text:
    """What a file is that begins so, as an apposition."""
    what = kind_of_file(head)
    return text("apposition", ", {what},", what=what) if what is not None else Text("")


def check_content(path: Path) -> bytes:
    """Refuse what is often saved in the place of weights: nothing, a pointer of Git LFS, a web page, JSON.

    Returns:
        how the file begins.

    Raises:
        UserError: saying what it is, and how to get the weights.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise UserError(text("weights_empty", "{path} is empty or damaged: fetch it again", path=path))
    if head.startswith(POINTER):
        raise UserError(text("weights_pointer", "{path} is a pointer of Git LFS, not the weights that it stands for: "
                             "run `git lfs pull` where it was cloned, or download the file itself",
                             path=path))  # fmt: skip
    begins = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if begins.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise UserError(text("weights_web_page", "{path} is a web page, not weights: its address gave a page to "
                             "read, a login or a confirmation, say; open it in a browser, and download the file from "
                             "there", path=path))  # fmt: skip
    if begins.startswith((b"{", b"[")):
        raise UserError(text("weights_json", "{path} is JSON text, not weights: name the file that holds the weights",
                             path=path))  # fmt: skip
    return head


def check_kinds(file: Path, expected: Mapping[str, Tensor]) -> None:
    """Refuse a safetensors file of integers in the place of floats, which some loaders convert in silence.

    Args:
        file: the file; one that is damaged passes, whoever reads it says so.
        expected: the weights of the net that it is for, by name.

    Raises:
        UserError: as ``kdgen.utils.validation.check_numbers`` does.
    """
    with suppress(SafetensorError), safe_open(file, "pt") as file_weights:
        for key in set(file_weights.keys()) & expected.keys():
            if not file_weights.get_slice(key).get_dtype().startswith(("F", "BF")):
                check_numbers({key: file_weights.get_tensor(key)}, expected, str(file))


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < LARGEST_HEADER


def _parts(index: Path) -> dict[str, Any]:
    """The weights that an index lists, from the files beside it."""
    try:
        listed = json.loads(index.read_bytes())["weight_map"]
        names = sorted({str(name) for name in listed.values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(text("weights_index", "{index} is damaged or no index of weights, which has a weight_map: "
                             "fetch it again", index=index)) from None  # fmt: skip
    weights: dict[str, Any] = {}
    for name in names:
        part = index.parent / name
        if Path(name).name != name or name.endswith(INDEX):
            raise UserError(text("weights_index_elsewhere", "{index} names {name!r}, which is no file beside it: "
                                 "fetch it again", index=index, name=name))  # fmt: skip
        if not part.is_file():
            raise UserError(text("weights_part_missing", "{index} names {name}, which is not beside it: fetch all "
                                 "{count} files", index=index, name=name, count=len(names)))  # fmt: skip
        contents = read_weights_file(part)
        weights |= contents if isinstance(contents, dict) else {}
    if absent := next((key for key in listed if key not in weights), None):
        raise UserError(text("weights_key_missing", "{index} lists {key}, which none of its {count} files holds: "
                             "fetch them again", index=index, key=absent, count=len(names)))  # fmt: skip
    return weights


def _archive(path: Path) -> Any:
    """What a zip archive holds, which torch and numpy write."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        raise UserError(text("file_damaged", "{path} is damaged: fetch it again", path=path)) from None
    if any(name.endswith("/constants.pkl") for name in names):
        raise UserError(text("weights_torchscript", "{path} is a program of TorchScript, not a file of plain "
                             "tensors; {remedy}", path=path,
                             remedy=_convert(path, f'torch.jit.load({path.name!r})', 'd.state_dict()')))  # fmt: skip
    if any(name.endswith("/data.pkl") for name in names):
        return _saved_by_torch(path)
    if names and all(name.endswith(".npy") for name in names):
        return _arrays(path)
    raise UserError(text("weights_archive", "{path} is an archive of other files ({names:, }): unpack it, and "
                         "declare the file of weights in it", path=path, names=names[:3]))  # fmt: skip


def _arrays(path: Path) -> dict[str, Tensor]:
    """The arrays of an ``.npz`` as tensors; those that are of no numbers are left out."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {
                name: torch.from_numpy(archive[name]) for name in archive.files if archive[name].dtype.kind in "biuf"
            }
    except ValueError as error:
        if "pickle" not in str(error).lower():
            raise UserError(text("file_damaged", "{path} is damaged: fetch it again", path=path)) from None
        code = f"numpy.load({path.name!r}, allow_pickle=True)"
        raise UserError(text("weights_objects", "{path} holds objects that only running code can read, not plain "
                             "arrays; {remedy}", path=path,
                             remedy=_convert(path, code, ARRAYS))) from None  # fmt: skip
    except Exception:  # damage can surface as any error
        raise UserError(text("file_damaged", "{path} is damaged: fetch it again", path=path)) from None


def _saved_by_torch(path: Path, head: bytes = b"") -> Any:
    """What ``torch.save`` wrote, with empty mappings for the objects of whatever classes and functions it names."""
    code = f"torch.load({path.name!r}, map_location='cpu', weights_only=False)"
    refused = text("weights_run_code", "{path} is not a file of plain tensors: reading it would run code; {remedy}",
                   path=path, remedy=_convert(path, code))  # fmt: skip
    if head[1:2] > b"\x02":  # torch writes protocol 2 unless told otherwise
        raise UserError(refused)
    try:
        named = [] if head else torch.serialization.get_unsafe_globals_in_checkpoint(path)
        inert: list[Any] = [(_Swallowed if name.startswith("numpy.") else _Emptied, name) for name in named]
        with path.open("rb") as file, torch.serialization.safe_globals(inert), warnings.catch_warnings(action="ignore"):
            return _without_modules(torch.load(file, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, ValueError) as error:
        if any(word in str(error) for word in ("GLOBAL", "global", "operand", "Can only", "unrecognized function")):
            raise UserError(refused) from None
        raise UserError(text("file_damaged", "{path} is damaged: fetch it again", path=path)) from None
    except PermissionError:
        raise
    except Exception:  # damage can surface as any error
        raise UserError(text("file_damaged", "{path} is damaged: fetch it again", path=path)) from None


class _Emptied:
    """Stands for a class or function that a file names: called with anything it gives an empty mapping."""

    def __new__(cls, *args: Any) -> Any:
        """Nothing of what was given; torch fills no mapping but its own kind."""
        return OrderedDict[str, Any]()


class _Swallowed:
    """Stands for what numpy is asked to make, whose state is no mapping."""

    def __new__(cls, *args: Any) -> Self:
        """Nothing of what was given."""
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Nothing of what it was."""


def _without_modules(thing: Any) -> Any:
    """The same with the weights by name in the place of each module."""
    if not isinstance(thing, dict):
        return thing
    fields = vars(thing) if isinstance(thing, OrderedDict) else {}
    if {"_parameters", "_buffers", "_modules"} <= fields.keys():
        tensors = {**fields["_parameters"], **fields["_buffers"]}
        dropped = fields.get("_non_persistent_buffers_set", ())
        named = {name: value for name, value in tensors.items() if isinstance(value, Tensor) and name not in dropped}
        for child, module in fields["_modules"].items():
            weights = _without_modules(module)
            named |= {f"{child}.{name}": value for name, value in weights.items()} if weights else {}
        return named
    return {key: _without_modules(value) for key, value in thing.items()}


def _convert(path: Path, code: str, weights: str = "d['state_dict']") -> Text:
    """The lines that make a file of plain tensors of one that holds more."""
    libraries = "numpy, torch" if code.startswith("numpy") else "torch"
    return text("convert_weights", "where you trust it and its own code is installed, run `import {libraries}; d = "
                "{code}` and `torch.save({weights}, '{name}-plain.pth')`, and declare that file",
                libraries=libraries, code=code, weights=weights, name=path.stem)  # fmt: skip


def part_of(file: str) -> bool:
    """Whether a file is called as one of several that hold the weights together."""
    return PART.search(Path(file).name) is not None


__all__ = ["check_content", "check_kinds", "part_of", "read_weights_file"]
