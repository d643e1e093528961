"""`config.json` of a student folder: what its weights are, and what they were made for."""

import json
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, JsonValue, ValidationError

from kdgen.models.abilities import Channelled
from kdgen.registry import Spec
from kdgen.types import Net, UserError, text
from kdgen.utils.schema import Strict, explain_error, read_json_text
from kdgen.utils.validation import check_finite

FORMAT: Final = 1
"""The version of the format that is written, and the newest that is read."""

Plain = bool | int | float | str | None
"""What a fact about a task is made of; nothing that a task could be told to open."""

Damage = dict[str, str | dict[str, JsonValue]]
"""One of the damages that a model was made to undo: its name, and its arguments as ``args``, further damages say."""


class Config(Strict):
    """`config.json` of a student folder."""

    format: Literal[1] = Field(FORMAT, description="version of this format")
    kdgen: str = Field(description="version of kdgen that wrote it")
    name: str = Field(description="what the model is called")
    net: Spec = Field(description="the architecture and its arguments")
    channels: int = Field(description="channels of its images: 1 grey, 3 colour")
    task: dict[str, Plain | list[Plain] | list[Damage]] = Field(
        default_factory=dict, description="what it was made for"
    )


OTHERS = {"_class_name", "pretrained_cfg"}
"""Of these keys diffusers' and timm's configurations have one, and kdgen's none."""


def is_student(folder: Path) -> bool:
    """Whether a folder's configuration is kdgen's, not one that diffusers or timm wrote."""
    config = folder / "config.json"
    if not config.is_file():
        return False
    try:
        content = json.loads(config.read_bytes())
    except (ValueError, RecursionError):
        return True
    return not isinstance(content, dict) or not content.keys() & OTHERS


def read_config(folder: Path) -> Config:
    """The configuration in a student folder.

    Raises:
        UserError: if it is damaged, says what no configuration says, or is of a format newer or older than is read.
    """
    file = folder / "config.json"
    try:
        written = read_json_text(file)
        data = json.loads(written)
    except UserError:
        raise
    except (ValueError, RecursionError):
        raise UserError(text("json_damaged", "{file} is damaged or no JSON: fetch it again", file=file)) from None
    found = data.get("format", FORMAT) if isinstance(data, dict) else FORMAT
    if isinstance(found, int) and found != FORMAT:
        writer = str(data.get("kdgen", "?"))[:20]
        if found > FORMAT:
            raise UserError(text("format_newer", "{file} is of format {found}, written by kdgen {writer}; this one "
                                 "reads format {format}: upgrade with `pip install --upgrade kdgen`", file=file,
                                 found=str(found), writer=str(writer), format=FORMAT))  # fmt: skip
        raise UserError(text("format_older", "{file} is of format {found}, written by kdgen {writer}, which is no "
                             "longer read: load and save it with that version's successor, or ask its author for "
                             "format {format}", file=file, found=str(found), writer=str(writer),
                             format=FORMAT))  # fmt: skip
    try:
        return Config.model_validate_json(written)
    except ValidationError as error:
        raise UserError(text("at_key", "{key}: {message}", key=file, message=explain_error(error, Config))) from None


def check_net(net: Net, config: Config, folder: Path) -> None:
    """Refuse a loaded net that cannot be what its configuration says.

    Raises:
        UserError: for weights that are not finite, and images of other channels than the net's.
    """
    check_finite(net, str(folder))
    own = net.channels if isinstance(net, Channelled) else config.channels
    if own != config.channels:
        raise UserError(text("config_channels", "{file} is damaged: it says {channels} channels of a net of {own}",
                             file=folder / 'config.json', channels=config.channels, own=str(own)))  # fmt: skip
