"""A checkpoint that somebody else trained, made a net by its declaration alone."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kdgen import registry
from kdgen.models.adapters.module import Foreign
from kdgen.models.adapters.reading import Way, check_reading
from kdgen.models.adapters.state_dict import find_weights, plain, some
from kdgen.models.adapters.weight_files import part_of, read_weights_file
from kdgen.models.input_shape import declared
from kdgen.models.task_arguments import task_class
from kdgen.recipe import Checkpoint
from kdgen.types import Text, UserError, text
from kdgen.utils.validation import check_finite, check_numbers

UNIT = (0.0, 1.0)
"""Values that images take where nothing is declared."""

DECLARE_THAT = text("declare_that", "declare that")


@runtime_checkable
class Around(Protocol):
    """A net around one of another library, by whose names files hold its weights.

    Attributes:
        around: that one.
    """

    @property
    def around(self) -> nn.Module: ...  # noqa: D102


def load_checkpoint(spec: Checkpoint, probe: Tensor | None = None) -> nn.Module:
    """Load a declared checkpoint.

    Args:
        spec: its file, architecture, range and prediction.
        probe: a clean image ``(1, C, H, W)`` in [-1, 1] to check the declared range and prediction on, with noise.

    Returns:
        a net in evaluation mode on the CPU, called on images in [-1, 1].

    Raises:
        UserError: if the file is missing, damaged, not of plain tensors or of values that are not finite, or does not
            fit its declaration.
    """
    if "predicts" in spec.net.args:
        raise UserError(text("predicts_beside_range", "declare predicts beside range, not among the arguments of the "
                             "net"))  # fmt: skip
    weights, prefix = find_weights(read_weights_file(Path(spec.file).expanduser()), spec)
    spec = spec.model_copy(update={"prefix": prefix})
    net = _built(spec, weights)
    if probe is not None:

        def read_as(way: Way) -> nn.Module:
            return _built(spec.model_copy(update={"range": way[0], "predicts": way[1]}), weights)

        declared_way = (spec.range or UNIT, spec.predicts)
        check_reading(spec.file, str(spec.net), read_as, declared_way, probe, lambda way: DECLARE_THAT)
    return net


def _built(spec: Checkpoint, weights: Mapping[str, Tensor]) -> nn.Module:
    """The declared net with its weights, as ``load_checkpoint`` returns it."""
    predicting = registry.accepts("net", spec.net.name, "predicts")
    net: nn.Module = registry.build("net", spec.net, **({"predicts": spec.predicts} if predicting else {}))
    _fill(net.around if isinstance(net, Around) else net, weights, spec)
    task = task_class(spec.task)
    latents: Literal["in", "out"] | None = "in" if task.reads != "images" else "out" if task.gives != "images" else None
    sizes = declared(spec.multiple, spec.min_size, spec.size)
    predicts = "image" if predicting else spec.predicts
    return Foreign(net, range=spec.range or UNIT, predicts=predicts, latents=latents, input_shape=sizes).eval()


def _fill(net: nn.Module, weights: Mapping[str, Tensor], spec: Checkpoint) -> None:
    """Load weights strictly, with errors that say what to declare."""
    expected = net.state_dict()
    weights = plain(weights, expected)
    optional = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = [key for key in expected if key not in weights and key not in optional]
    unexpected = [key for key in weights if key not in expected]
    if missing or unexpected:
        prefix = _common_prefix(unexpected, missing)
        lacks = [text("keys_missing", "missing {keys}", keys=some(dict.fromkeys(missing), 2))] if missing else []
        if unexpected:
            lacks.append(text("keys_unexpected", "unexpected {keys}", keys=some(dict.fromkeys(unexpected), 2)))
        if prefix:
            advice = text("declare_prefix", "declare prefix {prefix!r}", prefix=spec.prefix + prefix)
        elif part_of(spec.file):
            advice = text("declare_index", "it is one of several files: declare their .index.json")
        elif any("parametrizations." in key for key in unexpected):
            advice = text("remove_parametrizations", "in its own code call torch.nn.utils.parametrize."
                          "remove_parametrizations, and save it again")  # fmt: skip
        else:
            advice = _check_arguments(spec)
        raise UserError(text("checkpoint_keys", "{file} does not fit {net}: {names:; }: {advice}", file=spec.file,
                             net=str(spec.net), names=[*lacks], advice=advice))  # fmt: skip
    for key, value in weights.items():
        if value.shape != expected[key].shape:
            advice = _likely_argument(spec, value.shape, expected[key].shape)
            raise UserError(text("checkpoint_shape", "{file} does not fit {net}: {key} is {held} in the file and "
                                 "{wanted} in the net: {advice}", file=spec.file, net=str(spec.net), key=key,
                                 held=str(tuple(value.shape)), wanted=str(tuple(expected[key].shape)),
                                 advice=advice))  # fmt: skip
    check_numbers(weights, expected, spec.file)
    net.load_state_dict(weights)
    check_finite(net, spec.file)


def _common_prefix(unexpected: list[str], missing: list[str]) -> str:
    """What the missing keys lack to be among the unexpected ones; empty if there is nothing of the kind.

    Of several that of most keys, as a parametrised weight has several for each, and the shortest of those.
    """
    ends = [key.removesuffix(missing[0]) for key in unexpected if missing and key.endswith(missing[0])]
    fit = [end for end in ends if all(key.startswith(end) for key in unexpected)
           or all(end + key in unexpected for key in missing)]  # fmt: skip
    return min(fit, key=lambda end: (-sum(key.startswith(end) for key in unexpected), len(end)), default="")


def _arguments(spec: Checkpoint) -> dict[str, Any]:
    """The arguments of the declared architecture with their values."""
    parameters = inspect.signature(registry.get("net", spec.net.name)).parameters
    return {name: spec.net.args.get(name, p.default) for name, p in parameters.items() if name != "predicts"}


def _check_arguments(spec: Checkpoint) -> Text:
    return text("check_net_arguments", "check the arguments of {net} ({names:, })", net=spec.net.name,
                names=[*_arguments(spec)])  # fmt: skip


def _likely_argument(spec: Checkpoint, shape: torch.Size, expected: torch.Size) -> Text:
    """Which argument to change for a shape in the file: one whose value is the size that differs."""
    differ = {built: size for size, built in zip(shape, expected, strict=False) if size != built}
    for name, value in _arguments(spec).items():
        if type(value) is int and value in differ:
            return text("declare_argument", "declare {name} {value}", name=name, value=differ[value])
    return _check_arguments(spec)
