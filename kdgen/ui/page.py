"""The page as Gradio holds it, but every value that a browser or a program sends is judged before anything sees it."""

import copy
import errno
import math
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio.to_thread
import gradio as gr

from kdgen.types import UserError, text
from kdgen.ui import disk
from kdgen.ui.uploads import Uploads
from kdgen.ui.words import translated, words_for

TEXT = 400_000
"""Characters of a text, bounded more closely by whoever reads it."""

CHOICE, CHOICES, DEPTH, NODES, FILES, LAYERS = 300, 64, 12, 5000, 200, 4


class Page(gr.Blocks):
    """A page whose endpoints, private ones too, take values of bounded size and of the kind of their field.

    Files come in by ``gr.File`` and ``gr.UploadButton`` alone, and as what was painted by ``gr.ImageEditor``: as the
    paths of what was uploaded, and only from the folder of uploads, which Gradio itself does not know.

    Args:
        uploads: where uploaded files lie.
        options: those of ``gradio.Blocks``.
    """

    def __init__(self, uploads: Uploads, **options: Any) -> None:
        super().__init__(**options)
        self.uploads = uploads

    async def process_api(
        self, block_fn: Any, inputs: list[Any], state: Any = None, request: Any = None, *args: Any, **options: Any
    ) -> dict[str, Any]:
        """What an endpoint answers. Raises gradio.Error, in the words of whoever asks, for what a visitor can mend."""
        try:
            answer: dict[str, Any] = await super().process_api(block_fn, inputs, state, request, *args, **options)
        except UserError as error:
            raise _refused(translated(error, _words(request))) from None
        return answer

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Values as handlers take them. Raises UserError, a line, for what is none of its field's."""
        if explicit_call:
            return list(await super().preprocess_data(block_fn, inputs, state, explicit_call))
        if len(inputs) != len(block_fn.inputs):
            raise UserError(text("values_differ", "this takes {most} values, not {count}", most=len(block_fn.inputs),
                                 count=len(inputs)))  # fmt: skip
        plain, files = list[Any](), dict[int, Any]()
        for index, (block, value) in enumerate(zip(block_fn.inputs, inputs, strict=True)):
            if isinstance(block, gr.File | gr.UploadButton):
                files[index] = self._files(value, several=block.file_count != "single")
                plain.append(None)
            elif isinstance(block, gr.ImageEditor):
                files[index] = self._painted(value)
                plain.append(None)
            else:
                _check(block, value)
                plain.append(value)
        unprocessed = copy.copy(block_fn)
        unprocessed.preprocess = False
        values = await super().preprocess_data(unprocessed, plain, state, explicit_call)
        blocks = enumerate(zip(block_fn.inputs, values, strict=True))
        return [files[index] if index in files else await _processed(block, value) for index, (block, value) in blocks]

    async def call_function(
        self, block_fn: Any, processed_input: list[Any], iterator: Any = None, requests: Any = None, *args: Any,
        **options: Any,
    ) -> Any:  # fmt: skip
        """What a handler gives. Raises gradio.Error, a line, for whatever breaks in it, which the log tells.

        A UserError stays one.
        """
        try:
            return await super().call_function(block_fn, processed_input, iterator, requests, *args, **options)
        except (gr.Error, UserError, StopAsyncIteration):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(disk.FULL) from None
            where = traceback.extract_tb(error.__traceback__)[-1]
            name = f"{block_fn.name}: {type(error).__name__}: {str(error)[:200]}"
            print(f"kdgen: {name} ({Path(where.filename).name}:{where.lineno})", file=sys.stderr, flush=True)
            raise _refused(_words(requests)["not_done"]) from None

    def _files(self, value: Any, *, several: bool) -> Any:
        """The path of an uploaded file, a list of them for a list, None for none."""
        if several and isinstance(value, list):
            if len(value) > FILES:
                raise UserError(text("too_many_files", "at most {most} files are taken at once, not {count}",
                                     most=FILES, count=len(value)))  # fmt: skip
            return [self._files(each, several=False) for each in value]
        if value is None:
            return None
        try:
            return str(self.uploads.find(value["path"] if isinstance(value, Mapping) else value))
        except KeyError:
            raise UserError(text("no_uploaded_file", "this is no uploaded file")) from None

    def _painted(self, value: Any) -> list[str]:
        """The paths of the layers that were painted; what they were painted on is known, and its upload removed."""
        if not isinstance(value, Mapping):
            return []
        for name in ("background", "composite"):
            with suppress(UserError):
                if (path := self._files(value.get(name), several=False)) is not None:
                    Path(path).unlink(missing_ok=True)
        layers = value.get("layers") or []
        if not isinstance(layers, list) or len(layers) > LAYERS:
            raise UserError(text("no_file_here", "no file is taken here"))
        return [path for path in self._files(layers, several=True) if path]


def _words(requests: Any) -> Mapping[str, str]:
    """The words of whoever asks; English for a program."""
    return words_for(requests if isinstance(requests, gr.Request) else None)


async def _processed(block: Any, value: Any) -> Any:
    """A value as its field gives it; of a choice as it is, for what is offered changes while a page stays open."""
    if block.stateful or isinstance(block, gr.Dropdown | gr.Radio):
        return value
    try:
        return await anyio.to_thread.run_sync(block.preprocess, value)
    except Exception:
        raise UserError(text("no_fit", "this does not fit its field: {value!r}", value=str(value)[:60])) from None


def _check(block: Any, value: Any) -> None:
    """Raises UserError for a value that is too large, or of another kind than its field."""
    if block.stateful or value is None:
        return
    if isinstance(block, gr.Number | gr.Slider):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(_float(value)):
            raise UserError(text("no_field_number", "this is no number: {value!r}", value=str(value)[:40]))
        if block.minimum is not None and value < block.minimum:
            raise UserError(text("below_minimum", "Value {value} is less than minimum value {least}.", value=value,
                                 least=block.minimum))  # fmt: skip
        if block.maximum is not None and value > block.maximum:
            raise UserError(text("above_maximum", "Value {value} is greater than maximum value {most}.", value=value,
                                 most=block.maximum))  # fmt: skip
    elif isinstance(block, gr.Checkbox):
        if not isinstance(value, bool):
            raise UserError(text("yes_or_no", "this is yes or no, not {value!r}", value=str(value)[:40]))
    elif isinstance(block, gr.Dropdown | gr.Radio):
        chosen = value if isinstance(value, list) else [value]
        if len(chosen) > CHOICES or not all(_choice(each) for each in chosen):
            raise UserError(text("no_choice", "this is no choice, or too many of them: {value!r}",
                                 value=str(value)[:40]))  # fmt: skip
        if isinstance(value, list) and not (isinstance(block, gr.Dropdown) and block.multiselect):
            raise UserError(text("one_choice", "one of the list is chosen here, not several"))
    elif isinstance(value, str):
        if len(value) > TEXT:
            raise _too_long()
    else:
        _bounded(value)


def _choice(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= CHOICE


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _bounded(value: Any) -> None:
    """Raises UserError for data that is nested deeply, large, or names a file."""
    level, count = [value], 0
    for _ in range(DEPTH):
        count += len(level)
        inner: list[Any] = []
        for each in level:
            if isinstance(each, Mapping) and ("path" in each or "meta" in each):
                raise UserError(text("no_file_here", "no file is taken here"))
            if isinstance(each, str) and len(each) > TEXT:
                raise _too_long()
            inner += each.values() if isinstance(each, Mapping) else each if isinstance(each, list) else ()
        if not inner:
            break
        level = inner[: NODES + 1]
        if count + len(inner) > NODES:
            raise UserError(text("value_too_large", "this is too large"))
    else:
        raise UserError(text("value_too_deep", "this is nested too deeply"))


def _too_long() -> UserError:
    return UserError(text("text_too_long", "this text is longer than {most:,} characters", most=TEXT))


def _refused(words: str) -> gr.Error:
    return gr.Error(words, print_exception=False)
