"""An ONNX file opened: which of its inputs is the image, in what order and range of values, tried on a picture."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdgen.data.photographs import Photographs
from kdgen.models.adapters.onnx_graph import Graph, Port, line_of
from kdgen.models.adapters.onnx_model import Layout, OnnxModel, Way
from kdgen.models.input_shape import InputShape, declared, middle, mirrored
from kdgen.recipe import RANGES, Checkpoint
from kdgen.types import UserError, text
from kdgen.utils.onnx_session import Session

LAYOUTS: tuple[Layout, ...] = ("nchw", "nhwc")
CHANNELS = (3, 1)
SIDES = (128, 192, 256, 224, 512, 64)
"""Heights and widths of the picture that it is tried on, where the file does not say one."""

LEAST = 16
"""Sizes below this are numbers of channels, where nothing says what they are."""

LIKE = 0.35
"""Root mean squared difference, of images in [-1, 1], up to which an answer is the picture itself, nearly."""

NEARER = 0.9
"""How much nearer the picture another range has to bring the answer, to be taken before the usual one."""


def open_onnx(spec: Checkpoint) -> tuple[OnnxModel, int]:
    """Open an ONNX file that makes images of images.

    Its inputs and outputs, their order and sizes are read from the file and tried on a picture; the range of their
    values is told by the kind of its numbers, by its last operation, or else by the picture, with a warning.

    Args:
        spec: the file, and what is declared of it.

    Returns:
        the net in evaluation mode, and how many times higher and wider images become.

    Raises:
        UserError: as ``Graph`` does; for a file that reads more than an image or makes no image, with what it has; and
            for a declaration that does not fit.
    """
    graph = Graph(Path(spec.file).expanduser())
    session = graph.session()
    image, given = _inputs(graph, spec)
    way, shown = _tried(graph, session, image, given, spec)
    way = replace(way, residual=spec.predicts == "residual")
    way = replace(way, ranges=_ranges(graph, session, way, shown, spec))
    sizes = _sizes(image, way, spec)
    net = OnnxModel(graph, session, replace(way, batch=_batch(graph, session, way, shown)), sizes).eval()
    out = net(shown)
    if not out.isfinite().all():
        raise UserError(text("images_not_finite", "{name} makes images that are not finite: its weights are damaged, "
                             "or not of this architecture", name=graph.path.name))  # fmt: skip
    return net, out.shape[-1] // shown.shape[-1]


def _inputs(graph: Graph, spec: Checkpoint) -> tuple[Port, dict[str, NDArray[Any]]]:
    """The image among the inputs, and the others as declared."""
    ports = {port.name: port for port in graph.inputs}
    if unknown := next((name for name in spec.inputs if name not in ports), None):
        raise UserError(text("onnx_no_input", "{path} has no input {name!r}: it has {ports:, }", path=graph.path,
                             name=unknown, ports=[*map(str, ports.values())]))  # fmt: skip
    free = [port for name, port in ports.items() if name not in spec.inputs]
    images = [port for port in free if (port.shape is None or len(port.shape) == 4) and port.dtype is not None]
    images = images if len(images) < 2 else [port for port in images if _orders(port, spec)]
    if others := [port for port in free if port not in images[:1]] if images else []:
        needs = {port.name: "..." for port in others}
        raise UserError(text("onnx_more_inputs", "{path} reads more than an image: declare what else it is given, in a "
                             'JSON file {{"file": "{name}", "inputs": {needs}}} with a number or nested lists of them '
                             "for each; it reads {ports:, }", path=graph.path, name=graph.path.name,
                             needs=str(needs).replace("'", '"').replace('"..."', "..."),
                             ports=[*map(str, free)]))  # fmt: skip
    if not images:
        raise UserError(text("onnx_no_image", "{path} is an ONNX file that reads no image (B, C, H, W): it reads "
                             "{ports:, }, and gives {outputs:, }", path=graph.path, ports=[*map(str, free)],
                             outputs=[*map(str, graph.outputs)]))  # fmt: skip
    return images[0], {name: _constant(graph, ports[name], value) for name, value in spec.inputs.items()}


def _constant(graph: Graph, port: Port, value: Any) -> NDArray[Any]:
    """A declared input as an array: a number fills all of a shape that is known."""
    try:
        array = np.asarray(value, dtype=port.dtype)
        if array.ndim == 0 and port.shape is not None:
            array = np.full([size or 1 for size in port.shape], array)
        fits = port.shape is None or (array.ndim == len(port.shape) and all(
            wanted in (None, size) for size, wanted in zip(array.shape, port.shape, strict=True)))  # fmt: skip
    except (ValueError, TypeError):
        fits = False
    if not fits:
        raise UserError(text("onnx_unfit_input", "{path}: the declared input {name} is not of shape {port}",
                             path=graph.path, name=port.name, port=str(port)))  # fmt: skip
    return array


def _orders(image: Port, spec: Checkpoint) -> list[tuple[Layout, int]]:
    """Orders of axes and numbers of channels that an input may take, the likeliest first."""
    shape = image.shape or (None,) * 4
    sure, likely = [], []
    for layout, axis in zip(LAYOUTS, (1, 3), strict=True):
        if spec.layout in (None, layout) and len(shape) == 4:
            sure += [(layout, n) for n in CHANNELS if shape[axis] == n]
            likely += [(layout, n) for n in CHANNELS if shape[axis] is None and (shape[4 - axis] or LEAST) >= LEAST]
    return sure or likely


def _tried(
    graph: Graph, session: Session, image: Port, given: Mapping[str, NDArray[Any]], spec: Checkpoint
) -> tuple[Way, Tensor]:
    """The first way in which a picture gives a picture, and the picture."""
    orders, reason = _orders(image, spec), ""
    if not orders:
        raise UserError(text("onnx_channels", "{path} reads {port}: images of 1 or 3 channels are handled",
                             path=graph.path, port=str(image)))  # fmt: skip
    for layout, channels in orders:
        for x in _pictures(image, layout, channels):
            way = Way(image=image, output="", layouts=(layout, layout), channels=channels, given=given)
            net = OnnxModel(graph, session, way)
            try:
                answers = session.run(net._inputs(x))
            except Exception as error:  # whatever onnxruntime raises
                reason = reason or line_of(error)
                continue
            for name, answer in zip(session.outputs, answers, strict=True):
                found = _order(answer, layout, channels, x) if spec.output in (None, name) else None
                if found is not None:
                    return replace(way, output=name, layouts=(layout, found)), x[:1]
            made = [f"{name} {np.shape(answer)}" for name, answer in zip(session.outputs, answers, strict=True)]
            raise UserError(text("onnx_makes_no_image", "{path} makes no image as large as its input or larger: of "
                                 "{shown} it makes {made:, }", path=graph.path, shown=str(tuple(x.shape)),
                                 made=made))  # fmt: skip
    raise UserError(text("onnx_not_tried", "{path} does not take a picture: {reason}", path=graph.path, reason=reason))


def _pictures(image: Port, layout: Layout, channels: int) -> Iterator[Tensor]:
    """A photograph at the size that an input says, or at each of several; as many as it says, ``(B, C, H, W)``."""
    shape = image.shape or (None,) * 4
    height, width = shape[2:] if layout == "nchw" else shape[1:3]
    clean = next(Photographs().images(channels))[1]
    for side in SIDES if height is None or width is None else SIDES[:1]:
        size = height or side, width or side
        x = mirrored(middle(clean, min(size[0], clean.shape[-2]), min(size[1], clean.shape[-1])), *size)
        yield x.expand(shape[0] or 1, -1, -1, -1)


def _order(answer: NDArray[Any], layout: Layout, channels: int, x: Tensor) -> Layout | None:
    """The order of the axes of an answer; None where it is no image for ``x``."""
    if answer.ndim != 4 or len(answer) != len(x):
        return None
    for order in sorted(LAYOUTS, key=lambda order: order != layout):
        count, *sides = answer.shape[1:] if order == "nchw" else (answer.shape[3], *answer.shape[1:3])
        times = [divmod(side, own) for side, own in zip(sides, x.shape[-2:], strict=True)]
        if count == channels and times[0] == times[1] and times[0][0] >= 1 and times[0][1] == 0:
            return order
    return None


def _ranges(
    graph: Graph, session: Session, way: Way, x: Tensor, spec: Checkpoint
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The values that images and answers take: declared, told by the file, or those that suit a picture best."""
    answer = next(port for port in graph.outputs if port.name == way.output)
    told = graph.ends_within(way.output)
    read = spec.range or _octets(way.image) or told
    made = spec.output_range or _octets(answer) or told or spec.range
    if read is not None and made is not None:
        return read, made
    pairs = [(read, each) for each in RANGES] if read is not None else [(each, made or each) for each in RANGES]
    scores: dict[tuple[tuple[float, float], tuple[float, float]], float] = {}
    for pair in pairs:
        net = OnnxModel(graph, session, replace(way, ranges=pair, batch=_fixed(way)))
        scores[pair] = _unlike(net(x), x)
    best = next(iter(scores))
    for pair, score in scores.items():
        best = pair if score < NEARER * scores[best] else best
    warnings.warn(text("onnx_range", "{path}: took its images to be in [{low:g}, {high:g}] and its answers in "
                       "[{least:g}, {most:g}], which suits a picture best: declare range and output_range if that is "
                       "wrong", path=graph.path, low=best[0][0], high=best[0][1], least=best[1][0],
                       most=best[1][1]), stacklevel=4)  # fmt: skip
    return best


def _octets(port: Port) -> tuple[float, float] | None:
    """The range of an input or output of whole numbers."""
    return RANGES[-1] if np.issubdtype(port.dtype, np.integer) else None


def _unlike(out: Tensor, x: Tensor) -> float:
    """How unlike a picture an answer is: pixel by pixel, or where it is another picture by how its values are spread.

    What is spread as the values of a picture is better than what is not, and the picture itself is best.
    """
    x = x.expand(-1, out.shape[1], -1, -1)
    small = nn.functional.adaptive_avg_pool2d(out, (x.shape[-2], x.shape[-1]))
    apart = float((small - x).square().mean().sqrt())
    spread = float((small.flatten().sort().values - x.flatten().sort().values).square().mean().sqrt())
    return apart if apart < LIKE else LIKE + spread


def _fixed(way: Way) -> int | None:
    return None if way.image.shape is None else way.image.shape[0]


def _sizes(image: Port, way: Way, spec: Checkpoint) -> InputShape | None:
    shape = image.shape or (None,) * 4
    height, width = shape[2:] if way.layouts[0] == "nchw" else shape[1:3]
    if height is not None and width is not None:
        return InputShape(fixed=(height, width))
    return declared(spec.multiple, spec.min_size, spec.size)


def _batch(graph: Graph, session: Session, way: Way, x: Tensor) -> int | None:
    """How many images it takes at once; None where two together give what each gives alone."""
    if (fixed := _fixed(way)) is not None:
        return fixed
    net = OnnxModel(graph, session, way)
    pair = torch.cat([x, x.flip(-1)])
    alone = torch.cat([net(each) for each in torch.split(pair, 1)])
    try:
        together = net(pair)
    except UserError:
        return 1
    return None if together.shape == alone.shape and torch.allclose(together, alone, rtol=0, atol=1e-2) else 1


__all__ = ["open_onnx"]
