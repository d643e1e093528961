"""What a net, a task, a term of the loss or a source of images can do is a protocol or an attribute, never a guess."""

import ast
from pathlib import Path

import kdgen

OTHERS = {
    "errno": "an exception of any kind",
    "exit_code": "an exception of typer",
    "lineno": "an exception of a user's file",
    "n_frames": "a picture of PIL",
    "tile": "a picture of PIL",
    "SIGHUP": "signal, by platform",
    "sched_getaffinity": "os, by platform",
    "key": "what is registered, which may be of a user: by the attributes that are looked for",
    "variable": "a node of autograd",
    "ListFields": "a message of protobuf",
    "__args__": "a type hint",
    "__func__": "a method of any class",
    "__metadata__": "a type hint",
}
"""Names that somebody else's objects have or lack, and whose they are."""


def test_only_objects_of_others_are_asked_for_attributes_by_name():
    asked = set()
    for file in Path(kdgen.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
                name, *default = node.args[1:]
                if default or ast.unparse(node.func) == "hasattr":
                    asked.add(name.value if isinstance(name, ast.Constant) else ast.unparse(name))
    assert asked == OTHERS.keys()
