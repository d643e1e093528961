"""ONNX files that tests make."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, OCTETS = TensorProto.FLOAT, TensorProto.UINT8


def saved(path: Path, nodes: Any, inputs: Any, outputs: Any, weights: Any = (), **options: Any) -> str:
    """Write a graph; inputs and outputs are (name, kind of numbers, shape), weights arrays by name."""
    graph = helper.make_graph(
        nodes, "test", [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(weights).items()],
    )  # fmt: skip
    domains = {node.domain for node in nodes}
    opsets = [helper.make_opsetid(each, 17 if each in ("", "ai.onnx") else 1) for each in {"", *domains}]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path, **options)
    return str(path)


def style(
    path: Path, *, batch: Any = "n", size: Any = ("h", "w"), whole: float = 1.0, low: float = 0.0, end: str = "",
    nhwc: bool = False, octets: bool = False, more: bool = False, scale: int = 1, channels: int = 3,
    wasted: int = 0, **options: Any,
) -> str:  # fmt: skip
    """A net that swaps red and blue and softens: of images in [low, whole], with an option for what files differ in."""
    kernel = np.zeros((channels * scale**2, channels, 3, 3), np.float32)
    for out in range(channels):
        kernel[out * scale**2 : (out + 1) * scale**2, channels - 1 - out] = 1 / 18
        kernel[out * scale**2 : (out + 1) * scale**2, channels - 1 - out, 1, 1] += 0.5
    middle = np.array((low + whole) / 2, np.float32)
    weights: dict[str, Any] = {"kernel": kernel, "middle": middle}
    shape = [batch, *size, channels] if nhwc else [batch, channels, *size]
    sides = [side * scale if isinstance(side, int) else None for side in size]
    kind = OCTETS if octets else FLOAT
    nodes, x = [], "image"
    if octets:
        nodes, x = [*nodes, helper.make_node("Cast", [x], ["floats"], to=FLOAT)], "floats"
    if nhwc:
        nodes, x = [*nodes, helper.make_node("Transpose", [x], ["first"], perm=[0, 3, 1, 2])], "first"
    nodes += [
        helper.make_node("Sub", [x, "middle"], ["centred"]),
        helper.make_node("Conv", ["centred", "kernel"], ["soft"], pads=[1] * 4),
        helper.make_node("DepthToSpace", ["soft"], ["large"], blocksize=scale, mode="CRD"),
        helper.make_node("Add", ["large", "middle"], ["back"]),
    ]
    x = "back"
    if more:
        nodes, x = [*nodes, helper.make_node("Mul", [x, "strength"], ["strong"])], "strong"
    if wasted:
        there, back = np.zeros((wasted, channels, 3, 3), np.float32), np.zeros((channels, wasted, 3, 3), np.float32)
        weights |= {"there": there, "nothing": back}
        nodes += [
            helper.make_node("Conv", [x, "there"], ["wide"], pads=[1] * 4),
            helper.make_node("Conv", ["wide", "nothing"], ["narrow"], pads=[1] * 4),
            helper.make_node("Add", [x, "narrow"], ["same"]),
        ]
        x = "same"
    if end == "clip":
        weights |= {"least": np.array(low, np.float32), "most": np.array(whole, np.float32)}
        nodes, x = [*nodes, helper.make_node("Clip", [x, "least", "most"], ["clipped"])], "clipped"
    if nhwc:
        nodes, x = [*nodes, helper.make_node("Transpose", [x], ["last"], perm=[0, 2, 3, 1])], "last"
    last = "Cast" if octets else "Identity"
    nodes.append(helper.make_node(last, [x], ["styled"], **({"to": OCTETS} if octets else {})))
    given = [("image", kind, shape), *([("strength", FLOAT, [1])] if more else [])]
    answer = [None, *sides, channels] if nhwc else [None, channels, *sides]
    return saved(path, nodes, given, [("styled", kind, answer)], weights, **options)
