"""The other parts of a pipeline of diffusers: autoencoder, text encoders, tokenizers; looked at, opened and copied."""

import os
import re
import shutil
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdgen.models.adapters.adapter import INDEX
from kdgen.models.adapters.pretrained import one_line, quiet, read_json
from kdgen.types import UserError, text

LIBRARIES = ("diffusers", "transformers", "stable_diffusion")
"""Where the classes of parts may come from; the last is what the first pipelines call their safety checker's."""

KEPT = (".safetensors", ".json", ".txt", ".model", ".jinja")
"""Ends of the names of files that are copied: weights, configurations, vocabularies."""

LINKED = 2**20
"""Bytes from which a file is linked, which takes no room, and not copied, so that it can be edited."""

HALF = re.compile(r"(?P<stem>.+)\.fp16(?:-\d+-of-\d+)?\.safetensors")
"""Weights in half precision, which are read and copied where a folder holds no others."""


def parts_of(folder: Path) -> dict[str, tuple[str | None, str | None]]:
    """Library and class of each part that the index of a pipeline names; both None for one that it does without.

    Raises:
        UserError: for an index that is missing or damaged, and a part of neither diffusers nor transformers.
    """
    parts = {}
    for part, value in read_json(folder / INDEX).items():
        if isinstance(value, list) and len(value) == 2:
            library, name = value
            if library not in (None, *LIBRARIES) or not re.fullmatch(r"\w+", part):
                raise UserError(text("part_library", "{folder} has a part {part!r} of {library}, code of its own, "
                                     "which is never run: give a pipeline of parts of diffusers and transformers",
                                     folder=folder, part=part, library=str(library)))  # fmt: skip
            parts[part] = (library, name)
    return parts


def check_parts(folder: Path, own: Collection[str]) -> None:
    """Refuse a pipeline with a part whose weights are pickles alone; ``own`` parts are looked at by who opens them.

    Raises:
        UserError: naming the file.
    """
    for part in parts_of(folder).keys() - own:
        files = [file.name for file in sorted((folder / part).glob("*"))]
        pickles = [name for name in files if name.endswith((".bin", ".pt", ".ckpt"))]
        if pickles and not any(name.endswith(".safetensors") for name in files):
            raise UserError(text("folder_pickle", "{folder} holds its weights as a pickle, {file}, which is never "
                                 "opened: load it in plain diffusers and call its save_pretrained, which writes "
                                 "safetensors", folder=folder / part, file=pickles[0]))  # fmt: skip


def check_there(folder: Path | None, needed: Iterable[str], name: str) -> Path:
    """The folder of a pipeline that has the parts that are needed.

    Raises:
        UserError: naming those that are missing.
    """
    if folder is None:
        raise UserError(text("pipeline_alone", "this {name} was made without the {parts:, } of a pipeline, and draws "
                             "nothing by itself: open a pipeline's folder, or distill it from one",
                             name=name, parts=[*needed]))  # fmt: skip
    parts = parts_of(folder)
    if lacking := [part for part in needed if not parts.get(part, (None,))[0] or not (folder / part).is_dir()]:
        raise UserError(text("pipeline_lacks", "{folder} is a pipeline without {parts:, }, which it takes to do that: "
                             "give the whole pipeline", folder=folder, parts=lacking))  # fmt: skip
    return folder


@contextmanager
def whole_pipeline(
    name: str, folder: Path, own: Mapping[str, Any], device: torch.device, dtype: torch.dtype
) -> Iterator[Any]:
    """A pipeline around parts at hand, its other parts from a folder and on a device while it is open.

    Args:
        name: of its class.
        folder: of a pipeline.
        own: the parts at hand.
        device: where the others are put.
        dtype: of their weights.

    Raises:
        UserError: for parts that are missing, damaged, pickles, or of a library that is not installed.
    """
    import diffusers

    others = _others(name, folder, tuple(own), dtype, (folder / INDEX).stat().st_mtime_ns)
    modules = [part for part in others.values() if isinstance(part, nn.Module)]
    with _silent():
        pipe = getattr(diffusers, name)(**others, **own)
        pipe.set_progress_bar_config(disable=True)
        try:
            for module in modules:
                module.to(device)
            yield pipe
        finally:
            for module in modules:
                module.to("cpu")


@lru_cache(maxsize=1)
def _others(name: str, folder: Path, own: tuple[str, ...], dtype: torch.dtype, written: int) -> dict[str, Any]:
    """What the class of a pipeline is made of beside some parts: those of the last one asked for are kept.

    ``written`` is when the folder's index was, so that one that was written anew is read anew.
    """
    import diffusers

    check_parts(folder, own)
    absent = [part for part, (library, _) in parts_of(folder).items() if library is None]
    halves = any(_halved(folder / part) for part in parts_of(folder).keys() - own)
    try:
        with _silent():
            kind = getattr(diffusers, name)
            pipe = kind.from_pretrained(folder, **dict.fromkeys([*absent, *own]), torch_dtype=dtype,
                                        variant="fp16" if halves else None, use_safetensors=True,
                                        local_files_only=True)  # fmt: skip
    except ImportError as error:
        raise UserError(text("needs_text", "{folder} is opened by libraries that are not installed, pip install "
                             "'kdgen[text]': {error}", folder=folder, error=one_line(error)[:200]
                             )) from None  # fmt: skip
    except Exception as error:  # damage can surface as any error
        raise UserError(text("pipeline_damaged", "the pipeline in {folder} cannot be opened, a part of it is missing "
                             "or damaged: {error}", folder=folder, error=one_line(error)[:300])) from None  # fmt: skip
    known = {**pipe.config, **pipe.components}
    return {key: known[key] for key in signature(kind.__init__).parameters if key in known and key not in own}


def usual_value(name: str, argument: str) -> Any:
    """What a class of pipelines takes an argument of its calls for where nothing is said of it."""
    import diffusers

    with _silent():
        return signature(getattr(diffusers, name).__call__).parameters[argument].default


@contextmanager
def _silent() -> Iterator[None]:
    """Without what diffusers and transformers say of their own affairs."""
    others = []
    if find_spec("transformers"):
        from transformers.utils import logging as notes

        others = [notes]
    with quiet(*others), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def copy_parts(source: Path, target: Path, own: Collection[str]) -> None:
    """Copy the other parts of a pipeline from folder to folder: no pickles, and of two precisions the full one.

    Large files are linked where that can be, and half precision is called as full precision where there is no other,
    so that plain diffusers opens it. A folder is not copied onto itself.

    Raises:
        UserError: as ``check_parts`` does.
    """
    check_parts(source, own)
    for part, (library, _) in parts_of(source).items():
        for file in sorted((source / part).rglob("*")) if library and part not in own else ():
            if file.suffix not in KEPT or not file.is_file():
                continue
            half = HALF.fullmatch(file.name)
            if half and not _halved(file.parent):
                continue
            name = f"{half['stem']}.safetensors" if half and "-of-" not in file.name else file.name
            _bring(file, target / file.relative_to(source).with_name(name))


def _halved(folder: Path) -> bool:
    """Whether a folder holds weights, and those in half precision alone."""
    names = [file.name for file in folder.glob("*.safetensors")]
    return bool(names) and all(HALF.fullmatch(name) for name in names)


def _bring(file: Path, target: Path) -> None:
    """Link or copy a file, whole or not at all."""
    if target.exists() and target.samefile(file):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        if file.stat().st_size < LINKED:
            raise OSError
        os.link(file.resolve(), partial)
    except OSError:  # small, on another disk, or one without links
        shutil.copyfile(file, partial)
    os.replace(partial, target)
