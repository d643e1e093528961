"""ONNX files of strangers, judged by what stands in them before any of it is run.

Such a file holds no code, but may name other files, repeat itself without end and ask for any amount of memory. What is
let through runs where all that strangers bring does: in a process that is bounded in time and memory.
"""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from kdgen.models.adapters.onnx_graph import held, read_model
from kdgen.models.adapters.onnx_model import OnnxModel
from kdgen.types import UserError, text
from kdgen.ui.visitors import LARGEST, check_facts

NODES, PORTS, NAME = 20_000, 16, 100
"""Operations, inputs and outputs, and characters of the name of one, at most."""

VALUES = 2**22
"""Values of an input whose size the file says, at most."""

DOMAINS = ("", "ai.onnx")
"""Whose operations are run: those of ONNX itself."""

LOOPS = ("Loop", "Scan")
"""What repeats a part of the file."""


def check_file(path: Path) -> None:
    """Refuse an ONNX file that names other files, needs code, repeats itself or is too large.

    Args:
        path: of a file that a visitor uploaded.

    Raises:
        UserError: for these, and as ``read_model`` does.
    """
    model = read_model(path)
    graph = model.graph
    if len(graph.node) > NODES:
        raise _too_many(path, len(graph.node))
    if any(each.external_data or each.data_location for each in held(model, "TensorProto")):
        raise UserError(text("graph_apart", "{file} keeps weights in other files: export it as one file",
                             file=path.name))  # fmt: skip
    if model.functions:
        raise UserError(text("graph_functions", "{file} defines operations of its own: export it with these inlined",
                             file=path.name))  # fmt: skip
    for count, node in enumerate(held(model, "NodeProto")):
        if count >= NODES:
            raise _too_many(path, count + 1)
        if node.domain not in DOMAINS:
            raise UserError(text("graph_domain", "{file} has the operation {name} of {domain}, and those of ONNX "
                                 "itself alone are run here: export it without", file=path.name,
                                 name=node.op_type[:60], domain=node.domain[:60]))  # fmt: skip
        if node.op_type in LOOPS:
            raise UserError(text("graph_loop", "{file} repeats a part of itself ({name}), which is not run here: "
                                 "export it unrolled", file=path.name, name=node.op_type))  # fmt: skip
    given = {each.name for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in given]
    ports = [*inputs, *graph.output]
    if len(ports) > PORTS or any(len(each.name) > NAME or not each.name.isprintable() for each in ports):
        raise UserError(text("graph_ports", "{file} has more than {most} inputs and outputs, or names of these that "
                             "are none: export it again", file=path.name, most=PORTS))  # fmt: skip
    for each in inputs:
        sizes = [size.dim_value or 1 for size in each.type.tensor_type.shape.dim]
        if min(sizes, default=1) < 0 or prod(sizes) > VALUES:
            raise UserError(text("graph_input", "{file} reads {values:,} values at once: {most:,} are the most",
                                 file=path.name, values=prod(sizes), most=VALUES))  # fmt: skip


def check_net(net: OnnxModel, facts: Mapping[str, Any]) -> None:
    """Refuse an ONNX file that takes larger pictures than are trained on here, or enlarges them too much.

    Args:
        net: the file, opened.
        facts: what is known of its task.

    Raises:
        UserError: for these.
    """
    check_facts(facts)
    fixed = None if net.input_shape is None else net.input_shape.fixed
    most = LARGEST["patch"] // int(facts.get("scale", 1))
    if fixed is not None and max(fixed) > most:
        raise UserError(text("graph_size", "{file} takes pictures of {width} x {height} alone, and {most} a side are "
                             "the most that are trained on here: export it with free sizes", file=net.graph.path.name,
                             width=fixed[1], height=fixed[0], most=most))  # fmt: skip


def _too_many(path: Path, count: int) -> UserError:
    return UserError(text("graph_nodes", "{file} has {count:,} operations or more: {most:,} are the most",
                          file=path.name, count=count, most=NODES))  # fmt: skip


__all__ = ["check_file", "check_net"]
