"""Models and configurations as diffusers writes them: constructed, read strictly, and written.

Importing diffusers takes seconds, so that is done in functions. Weights are read from safetensors alone.
"""

import copy
import inspect
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from kdgen.models.adapters.weight_files import check_content, check_kinds
from kdgen.types import UserError, text
from kdgen.utils.schema import read_json_text
from kdgen.utils.validation import check_finite

WEIGHTS = "diffusion_pytorch_model.safetensors"
LACKS = {"missing_keys": text("missing_keys", "missing keys"),
         "unexpected_keys": text("unexpected_keys", "unexpected keys")}  # fmt: skip
VARIANT = re.compile(r"diffusion_pytorch_model(?:\.safetensors\.index)?\.(?P<name>\w+)\.(?:safetensors|json)")
"""Names of weights in another precision, say ``fp16``, which plain diffusers opens by that name."""


def public(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the entries that diffusers keeps for itself."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises UserError if it is missing or damaged."""
    try:
        data = json.loads(read_json_text(file))
    except UserError:
        raise
    except ValueError:
        raise UserError(text("json_damaged", "{file} is damaged or no JSON: fetch it again", file=file)) from None
    if not isinstance(data, dict):
        raise UserError(text("json_no_object", "{file} is damaged: it is to hold a JSON object; fetch it again",
                             file=file))  # fmt: skip
    return data


def whole_config(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of a class of diffusers with what its class has where it says nothing."""
    import diffusers

    parameters = inspect.signature(getattr(diffusers, name).__init__).parameters.values()
    return {**{each.name: each.default for each in parameters if each.default is not each.empty}, **config}


def construct(name: str, config: Mapping[str, Any]) -> Any:
    """A model, scheduler or pipeline of diffusers by class name from its configuration.

    Raises:
        UserError: for a configuration that the class refuses. Keys it does not know are ignored with its own warning.
    """
    import diffusers

    try:
        return getattr(diffusers, name).from_config(dict(config))
    except Exception as error:  # what does not fit can surface as any error
        raise UserError(text("not_constructed", "no {name} can be made of these arguments: {error}", name=name,
                             error=one_line(error))) from None  # fmt: skip


def read_weights(model: nn.Module, folder: Path) -> None:
    """Load the weights of a model folder into a model of diffusers, which must be of the folder's architecture.

    Raises:
        UserError: if they are missing, damaged, not finite, not safetensors, or do not fit.
    """
    variant = None
    if not (folder / WEIGHTS).is_file() and not (folder / f"{WEIGHTS}.index.json").is_file():
        variants = [match["name"] for file in folder.glob("*") if (match := VARIANT.fullmatch(file.name))]
        variant = min(variants, key=lambda name: (name != "fp16", name), default=None)
        if variant is None and (pickles := sorted(file.name for file in folder.glob("*.bin"))):
            raise UserError(text("folder_pickle", "{folder} holds its weights as a pickle, {file}, which is never "
                                 "opened: load it in plain diffusers and call its save_pretrained, which writes "
                                 "safetensors", folder=folder, file=pickles[0]))  # fmt: skip
        if variant is None:
            raise UserError(text("folder_no_weights", "no {file} in {folder}: fetch it again", file=WEIGHTS,
                                 folder=folder))  # fmt: skip
    for file in folder.glob("*.safetensors"):
        check_content(file)
        check_kinds(file, model.state_dict())
    loader: Any = type(model)
    try:
        with quiet():
            loaded, info = loader.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True, variant=variant
            )
    except Exception as error:  # damage can surface as any error
        raise UserError(text("folder_damaged", "the weights in {folder} are damaged or do not fit its config.json: "
                             "{error}", folder=folder, error=one_line(error))) from None  # fmt: skip
    for lack, words in LACKS.items():
        if keys := sorted(info[lack]):
            raise UserError(text("folder_keys", "the weights in {folder} do not fit its config.json: {lack} {key!r} "
                                 "and {count} more: fetch it again", folder=folder, lack=words, key=keys[0],
                                 count=len(keys) - 1))  # fmt: skip
    try:
        model.load_state_dict(loaded.state_dict())
    except RuntimeError as error:
        raise UserError(text("folder_architecture", "the weights in {folder} are of another architecture: {error}",
                             folder=folder, error=one_line(error))) from None  # fmt: skip
    check_finite(model, str(folder))


def portable(model: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A copy of a model on the CPU, its weights laid out as files hold them, in ``dtype`` if given."""
    move: Any = nn.Module.to
    moved: nn.Module = move(copy.deepcopy(model).cpu(), dtype=dtype, memory_format=torch.contiguous_format)
    return moved


def write(thing: Any, folder: Path) -> None:
    """``thing.save_pretrained`` into a folder that may exist, each file whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        thing.save_pretrained(partial)
        for file in [path for path in Path(partial).rglob("*") if path.is_file()]:
            target = folder / file.relative_to(partial)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)


@contextmanager
def quiet(*others: Any) -> Iterator[None]:
    """Without the warnings and the progress bars of diffusers, where what they say is raised as an error.

    Args:
        others: modules of other libraries that log as that of diffusers does, to be quiet too.
    """
    from diffusers.utils import logging as own

    before = [(notes, notes.get_verbosity(), notes.is_progress_bar_enabled()) for notes in (own, *others)]
    for notes, _, _ in before:
        notes.set_verbosity(logging.CRITICAL)
        notes.disable_progress_bar()
    try:
        yield
    finally:
        for notes, verbosity, bars in before:
            notes.set_verbosity(verbosity)
            if bars:
                notes.enable_progress_bar()


def one_line(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
