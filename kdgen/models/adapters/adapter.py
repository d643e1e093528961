"""Nets around models of diffusers, and the folders that are opened as such: found by the class that they name."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from pydantic import JsonValue
from torch import nn

from kdgen import registry
from kdgen.models.adapters.pretrained import portable, public, read_json, read_weights, write
from kdgen.registry import Spec
from kdgen.types import Net, UserError, text

INDEX = "model_index.json"
"""What makes a folder that of a pipeline; that of a model has a `config.json` alone."""


class Adapter(nn.Module):
    """A net around a model of diffusers.

    One is registered as an adapter with the classes that it opens, of models and of pipelines, and the function that
    builds it as a net of the same name::

        @register("adapter", handle="AutoencoderTiny")
        class AutoencoderTiny(Adapter): ...

        @register("net")
        def autoencoder_tiny(width: int = 32, config: Mapping[str, Any] | None = None) -> AutoencoderTiny: ...

    Attributes:
        part: the attribute that holds the model of diffusers, and the subfolder that it is saved to and fetched from:
            ``unet`` or ``vae``, as pipelines of diffusers name them.
        inseparable: the class of a model that is opened within a pipeline only, which says how it is drawn from.
        channels: channels C of its images, 1 or 3.
    """

    part: ClassVar[str]
    inseparable: ClassVar[str | None] = None
    channels: int

    @classmethod
    def arguments(cls, folder: Path) -> dict[str, JsonValue]:
        """Arguments that build the net which a folder holds, by its configurations alone: here that of the model.

        Raises:
            UserError: for configurations that are missing, damaged, or not handled.
        """
        return {"config": public(read_json(folder / "config.json"))}

    @classmethod
    def weights_folder(cls, folder: Path) -> Path:
        """Where in a folder the weights of the model lie: beside its configuration."""
        return part_folder(folder, cls.part) if (folder / INDEX).is_file() else folder

    @classmethod
    def usage(cls, repo: str, use: Spec, task: Mapping[str, Any]) -> str:
        """Lines that use a published student by plain diffusers.

        Args:
            repo: its id on the Hub, or its folder.
            use: the name and the arguments of its net.
            task: what it was made for.
        """
        raise NotImplementedError

    def describe(self) -> dict[str, JsonValue]:
        """The task that it was made for."""
        raise NotImplementedError

    def remember(self, folder: Path) -> None:
        """Told the folder of a pipeline that it was opened from; by default it keeps nothing of it."""

    def save_files(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write the model as diffusers does, into the subfolder of its part, its weights in ``dtype`` if given."""
        write(portable(self.get_submodule(self.part), dtype), folder / self.part)

    def load_files(self, folder: Path) -> None:
        """Read the weights from the subfolder of its part. Raises UserError if they are damaged or do not fit."""
        read_weights(self.get_submodule(self.part), folder / self.part)


def open_folder(folder: Path) -> tuple[Net, Spec, int, dict[str, JsonValue]]:
    """Open a pipeline folder (``model_index.json``) or a model folder (``config.json``) that diffusers wrote.

    Returns:
        the net in evaluation mode on the CPU, the name and arguments that build it, the channels of its images, and
        the task it was made for.

    Raises:
        UserError: for a class that is not handled, by its name; for missing or damaged files; for weights that are not
            safetensors, and for weights that do not fit.
    """
    use, weights = known_folder(folder)
    net: Adapter = registry.build("net", use)
    read_weights(net.get_submodule(net.part), weights)
    net.remember(folder)
    return net.eval(), use, net.channels, net.describe()


MODEL = text("role_model", "model")


def parts() -> frozenset[str]:
    """The subfolders of a pipeline that are opened: those of the adapters' models."""
    return frozenset(adapter.part for adapter in _adapters())


def known_folder(folder: Path) -> tuple[Spec, Path]:
    """What a folder that diffusers wrote holds by its configurations alone, and where the weights belong.

    Raises:
        UserError: for a class that is not handled, by its name, and for missing or damaged files.
    """
    pipeline = (folder / INDEX).is_file()
    class_name = read_json(folder / (INDEX if pipeline else "config.json")).get("_class_name")
    handled = _handled(pipeline=pipeline)
    if not pipeline and class_name in {adapter.inseparable for adapter in _adapters()} - {None}:
        raise UserError(text("model_alone", "{folder} holds a {name} without its pipeline, which says how it is drawn "
                             "from: give the folder of the pipeline, with {index}", folder=folder, name=str(class_name),
                             index=INDEX))  # fmt: skip
    if class_name not in handled:
        parts = _handled_parts(folder) if pipeline else []
        further = text("part_handled", ", and its {part} by itself: write /{part} behind its name", part=parts[0]
                       ) if parts else ""  # fmt: skip
        raise _not_handled(text("pipeline", "pipeline") if pipeline else MODEL, class_name, handled, folder, further)
    name = handled[class_name]
    adapter = cast(type[Adapter], registry.get("adapter", name))
    return Spec(name=name, args=adapter.arguments(folder)), adapter.weights_folder(folder)


def part_folder(folder: Path, part: str) -> Path:
    """Where a part of a pipeline lies: in a folder of its name, or, as in the first pipelines, beside the index."""
    return folder / part if (folder / part).is_dir() else folder


def check_class(what: str, class_name: Any, handled: tuple[str, ...], folder: Path) -> str:
    """Refuse a part of a pipeline that is of another class than its adapter handles.

    Raises:
        UserError: with the class, and those that are handled.
    """
    if class_name not in handled:
        raise _not_handled(what, class_name, handled, folder)
    return str(class_name)


def _not_handled(what: str, class_name: Any, handled: Iterable[str], folder: Path, further: str = "") -> UserError:
    return UserError(text("class_not_handled", "{folder} holds a {what} of class {name}, which is not handled: "
                          "handled are {names:, }{further}", folder=folder, what=what, name=str(class_name),
                          names=[*handled], further=further))  # fmt: skip


def _adapters() -> list[type[Adapter]]:
    return [cast(type[Adapter], registry.get("adapter", name)) for name in registry.names("adapter")]


def _handled(*, pipeline: bool) -> dict[Any, str]:
    """The classes of models or of pipelines that adapters open, and the names of these."""
    return {key: name for key, name in registry.handles("adapter").items() if key.endswith("Pipeline") == pipeline}


def _handled_parts(folder: Path) -> list[str]:
    """The subfolders of a pipeline that hold a model which can be opened by itself."""
    configs = sorted(folder.glob("*/config.json"))
    return [file.parent.name for file in configs if read_json(file).get("_class_name") in _handled(pipeline=False)]
