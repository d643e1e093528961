"""ONNX files that a visitor may bring, as an attacker would make them."""

import sys
from importlib.util import find_spec

import pytest

if find_spec("onnx") is None or find_spec("onnxruntime") is None:
    pytest.skip("no onnx here: pip install 'kdgen[onnx]'", allow_module_level=True)

import itertools

import numpy as np
import onnx
from bringing import zipped
from onnx import TensorProto, helper
from onnx_files import FLOAT, saved, style

from kdgen.types import UserError
from kdgen.ui import graphs, teacher_files

MOST = 5_000_000
IMAGE = [("image", FLOAT, [1, 3, None, None])]
OUT = [("y", FLOAT, [1, 3, None, None])]


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "kept"
    made.mkdir()
    return made


def kept(path, folder):
    return teacher_files.keep([path], None, MOST, folder)


def looping(kind):
    """A graph that repeats a part of itself ``2 ** 62`` times."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["a"], ["b"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("a", FLOAT, None)],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("b", FLOAT, None)],
    )  # fmt: skip
    node = helper.make_node("Loop", ["times", "always", "image"], ["y"], body=body)
    if kind == "hidden":
        inner = helper.make_graph([node], "inner", [], [helper.make_tensor_value_info("y", FLOAT, None)])
        other = helper.make_graph([helper.make_node("Identity", ["image"], ["y"])], "other", [],
                                  [helper.make_tensor_value_info("y", FLOAT, None)])  # fmt: skip
        node = helper.make_node("If", ["always"], ["y"], then_branch=inner, else_branch=other)
    return [node], {"times": np.array(2**62), "always": np.array(True)}


def of_functions(path):
    saved(path, [helper.make_node("Twice", ["image"], ["y"], domain="own")], IMAGE, OUT)
    model = onnx.load(path)
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.functions.append(helper.make_function("own", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    onnx.save(model, path)


def apart(path):
    style(path, end="clip", save_as_external_data=True, location="style.data", size_threshold=0)


def apart_in_sparse_values(path):
    values = TensorProto(name="v", data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    values.external_data.add(key="location", value="about.json")
    places = onnx.numpy_helper.from_array(np.arange(1), "i")
    sparse = helper.make_node("Constant", [], ["s"], sparse_value=helper.make_sparse_tensor(values, places, [1]))
    saved(path, [sparse, helper.make_node("Add", ["image", "s"], ["y"])], IMAGE, OUT)


def relus(count):
    names = ["image", *(f"x{number}" for number in range(1, count)), "y"]
    return [helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(names)]


@pytest.mark.parametrize(("make", "line"), [
    (apart, "keeps weights in other files: export it as one file"),
    (apart_in_sparse_values, "keeps weights in other files"),
    (lambda p: saved(p, [helper.make_node("Warp", ["image"], ["y"], domain="acme")], IMAGE, OUT),
     "the operation Warp of acme, and those of ONNX itself alone are run here"),
    (lambda p: saved(p, [helper.make_node("FastGelu", ["image"], ["y"], domain="com.microsoft")], IMAGE, OUT),
     "FastGelu of com.microsoft"),
    (of_functions, "defines operations of its own"),
    (lambda p: saved(p, looping("plain")[0], IMAGE, OUT, looping("plain")[1]), r"repeats a part of itself \(Loop\)"),
    (lambda p: saved(p, looping("hidden")[0], IMAGE, OUT, looping("hidden")[1]), r"repeats a part of itself \(Loop\)"),
    (lambda p: saved(p, relus(graphs.NODES + 1), IMAGE, OUT), "20,001 operations"),
    (lambda p: style(p, size=(1000, 2000), batch=1, end="clip"), "reads 6,000,000 values at once"),
    (lambda p: style(p, size=(2**31, 2**31), batch=2**31, end="clip"), "values at once"),
    (lambda p: style(p, size=(-4, -4), batch=1, end="clip"), "values at once"),
    (lambda p: style(p, size=(512, 512), batch=1, end="clip"), "takes pictures of 512 x 512 alone, and 256 a side"),
    (lambda p: style(p, scale=16, end="clip"), "scale is at most 8 here, not 16"),
    (lambda p: saved(p, [helper.make_node("Relu", ["i" * 200], ["y"])], [("i" * 200, *IMAGE[0][1:])], OUT),
     "names of these that are none"),
    (lambda p: p.write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/pwned'\ntR."), "damaged or no ONNX file"),
    (lambda p: p.write_bytes(b""), "is empty"),
])  # fmt: skip
def test_what_a_file_may_do_is_judged_before_it_is_run(make, line, tmp_path, folder):
    make(path := tmp_path / "a.onnx")
    with pytest.raises(UserError, match=line) as refused:
        kept(path, folder)
    assert "\n" not in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_one_that_asks_for_more_memory_than_there_is_gets_a_line(tmp_path, runs):
    from kdgen.ui.worker import Worker

    path, kept = tmp_path / "a.onnx", tmp_path / "kept"
    kept.mkdir()
    sizes = {"shape": np.array([2**18, 2**18, 4])}
    fill = helper.make_node("ConstantOfShape", ["shape"], ["all"])
    nodes = [fill, helper.make_node("ReduceMax", ["all"], ["most"], keepdims=0),
             helper.make_node("Add", ["image", "most"], ["y"])]  # fmt: skip
    saved(path, nodes, IMAGE, OUT, sizes)
    worker = Worker(runs.limits)
    try:
        with pytest.raises(UserError) as refused:
            worker.call("keep_teacher", [path], None, MOST, kept)
        assert "\n" not in str(refused.value)
    finally:
        worker.end()


def test_one_in_a_zip_is_to_be_uploaded_by_itself(tmp_path, folder):
    style(tmp_path / "a.onnx")
    packed = zipped(tmp_path / "a.zip", {"config.json": b"{}", "net/a.onnx": (tmp_path / "a.onnx").read_bytes()})
    with pytest.raises(UserError, match=r"this zip holds a.onnx: upload the .onnx file itself"):
        kept(packed, folder)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_what_opens_it_one_line_says_so(package, tmp_path, folder, monkeypatch):
    style(tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"onnx and onnxruntime, which open .onnx files, are not installed here"):
        kept(tmp_path / "a.onnx", folder)
