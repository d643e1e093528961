"""Teachers that are ONNX files: what is told by the file, what is tried on a picture, and what is refused."""

import contextlib
import copy
import json
from importlib.util import find_spec

import pytest
import torch

if find_spec("onnx") is None or find_spec("onnxruntime") is None:
    pytest.skip("no onnx here: pip install 'kdgen[onnx]'", allow_module_level=True)

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx_files import FLOAT, saved, style
from torch.nn import functional as F

import kdgen
import kdgen.training.registered
from kdgen.metrics import cost
from kdgen.models.model import load
from kdgen.models.tiling import whole
from kdgen.types import UserError
from kdgen.utils.cache import fingerprint


def expected(x):
    """What ``style`` does."""
    kernel = torch.full((3, 1, 3, 3), 1 / 18)
    kernel[:, :, 1, 1] += 0.5
    return F.conv2d(F.pad(x.flip(1), [1] * 4), kernel, groups=3)


IMAGE = [("image", FLOAT, [1, 3, None, None])]
X = torch.rand(2, 3, 20, 28, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8


@pytest.mark.parametrize(("options", "guessed"), [
    ({}, True), ({"end": "clip"}, False), ({"low": -1.0, "end": "clip"}, False),
    ({"whole": 255.0, "end": "clip"}, False), ({"nhwc": True, "end": "clip"}, False),
    ({"batch": 1, "end": "clip"}, False), ({"batch": 4, "end": "clip"}, False),
    ({"whole": 255.0, "octets": True}, False), ({"whole": 255.0, "octets": True, "nhwc": True}, False),
])  # fmt: skip
def test_ranges_layouts_and_batches_are_found_out(options, guessed, tmp_path):
    path = style(tmp_path / "style.onnx", **options)
    with pytest.warns(UserWarning, match="which suits a picture best") if guessed else contextlib.nullcontext():
        model = load(path)
    assert (model.name, model.channels) == ("style", 3)
    assert model.task == {"name": "translate", "channels": 3}
    tolerance = 4 / 255 if "octets" in options else 1e-5
    torch.testing.assert_close(model.net(X), expected(X), atol=tolerance, rtol=0)
    assert not model.net(X.requires_grad_()).requires_grad


@pytest.mark.parametrize("limits", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_a_range_that_the_file_does_not_tell_is_told_by_a_picture(limits, tmp_path):
    weights = {"middle": sum(limits) / 2, "half": (limits[1] - limits[0]) / 2, "a": 1.5, "b": -0.5}
    nodes = [
        helper.make_node(kind, [*read], [made]) for kind, read, made in [
            ("Sub", ("image", "middle"), "c"), ("Div", ("c", "half"), "d"), ("Mul", ("d", "d"), "e"),
            ("Mul", ("e", "b"), "f"), ("Add", ("f", "a"), "g"), ("Mul", ("g", "d"), "h"), ("Mul", ("h", "half"), "i"),
            ("Add", ("i", "middle"), "y"),
        ]
    ]  # fmt: skip
    path = saved(tmp_path / "contrast.onnx", nodes, IMAGE, [("y", FLOAT, [1, 3, None, None])],
                 {name: np.array(value, np.float32) for name, value in weights.items()})  # fmt: skip
    with pytest.warns(UserWarning, match=rf"images to be in \[{limits[0]:g}, {limits[1]:g}\]"):
        model = load(path)
    torch.testing.assert_close(model.net(X), X * (1.5 - 0.5 * X.square()), atol=1e-5, rtol=0)


def test_a_file_of_one_size_is_asked_in_tiles(tmp_path):
    model = load(style(tmp_path / "style.onnx", size=(32, 32), batch=1, end="clip"))
    assert model.net.input_shape.fixed == (32, 32)
    x = torch.rand(1, 3, 50, 70) * 1.6 - 0.8
    inner = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(whole(model.net, x)[inner], expected(x)[inner], atol=0.05, rtol=0)


def test_one_that_enlarges_is_an_upscaler(tmp_path):
    model = load(style(tmp_path / "4x.onnx", scale=4, end="clip"))
    assert (model.task["name"], model.task["scale"]) == ("restore", 4)
    out = model.net(X)
    assert out.shape == (2, 3, 80, 112)
    torch.testing.assert_close(out[..., ::4, ::4], expected(X), atol=1e-5, rtol=0)
    grey = load(style(tmp_path / "grey.onnx", channels=1, end="clip"))
    assert grey.channels == 1


def test_what_it_costs_is_counted_from_the_graph(tmp_path):
    model = load(style(tmp_path / "style.onnx", end="clip"))
    conv = torch.nn.Conv2d(3, 3, 3, padding=1, bias=False)
    assert cost.macs(model.net, X[:1]) == cost.macs(conv, X[:1]) == 9 * 9 * 20 * 28
    assert cost.num_params(model.net) == 81 + 3
    assert cost.size_bytes(model.net) == (tmp_path / "style.onnx").stat().st_size
    assert cost.latency_ms(model.net, X[:1], rounds=1) > 0
    fixed = load(style(tmp_path / "fixed.onnx", end="clip", batch=4))
    assert cost.macs(fixed.net, X[:1]) == 4 * 9 * 9 * 20 * 28, "four are computed whether or not four are given"


def test_costs_that_cannot_be_counted_are_not_stated(tmp_path):
    nodes = [helper.make_node("Einsum", ["image", "mix"], ["out"], equation="nchw,cd->ndhw")]
    path = saved(tmp_path / "a.onnx", [*nodes, helper.make_node("Sigmoid", ["out"], ["y"])],
                 [("image", FLOAT, [1, 3, None, None])], [("y", FLOAT, [1, 3, None, None])],
                 {"mix": np.eye(3, dtype=np.float32)})  # fmt: skip
    assert cost.macs(load(path).net, X[:1]) == 0


def test_another_file_is_another_net_and_copies_share_it(tmp_path):
    first = load(style(tmp_path / "a.onnx", end="clip")).net
    second = load(style(tmp_path / "b.onnx", low=-1.0, end="clip")).net
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint(copy.deepcopy(first)) == fingerprint(first)
    torch.testing.assert_close(copy.deepcopy(first)(X), first(X))


def test_more_inputs_are_declared(tmp_path):
    path = style(tmp_path / "style.onnx", more=True, end="clip")
    with pytest.raises(UserError, match="reads more than an image: declare") as refused:
        load(path)
    assert '{"file": "style.onnx", "inputs": {"strength": ...}}' in str(refused.value)
    assert "image (any, 3, any, any), strength (1)" in str(refused.value)
    (tmp_path / "style.json").write_text(json.dumps({"file": "style.onnx", "name": "red", "inputs": {"strength": 1}}))
    model = load(tmp_path / "style.json")
    assert model.name == "red"
    torch.testing.assert_close(model.net(X), expected(X), atol=1e-5, rtol=0)
    doubled = load({"file": path, "inputs": {"strength": [2]}, "range": [0, 1]})
    assert fingerprint(doubled.net) != fingerprint(model.net)


@pytest.mark.parametrize(("told", "line"), [
    ({"inputs": {"force": 1}}, "has no input 'force': it has image"),
    ({"inputs": {"strength": [1, 2]}}, r"the declared input strength is not of shape strength \(1\)"),
    ({"inputs": {"strength": "much"}}, "the declared input strength is not"),
    ({"net": {"name": "dncnn"}}, "an .onnx file holds its net: leave out net"),
    ({"prefix": "module."}, "an .onnx file holds its net"),
    ({"range": [2, 0]}, r"range is the value of black and, above it, that of white"),
    ({"layout": "chwn"}, "layout"),
    ({"layout": "nhwc", "inputs": {"strength": 1}}, "images of 1 or 3 channels are handled"),
    ({"output": "other", "inputs": {"strength": 1}}, "makes no image as large as its input"),
    ({"task": {"name": "generate", "latent": [8]}, "inputs": {"strength": 1}}, "not to generate"),
])  # fmt: skip
def test_what_is_declared_wrongly_is_refused(told, line, tmp_path):
    path = style(tmp_path / "style.onnx", more=True, end="clip")
    with pytest.raises(UserError, match=line) as refused:
        load({"file": path, **told})
    assert "\n" not in str(refused.value)


def test_a_declared_range_is_taken_as_it_is_and_what_is_subtracted_is(tmp_path):
    path = style(tmp_path / "style.onnx", whole=255.0)
    model = load({"file": path, "range": [0, 255]})
    torch.testing.assert_close(model.net(X), expected(X), atol=1e-5, rtol=0)
    residual = load({"file": path, "range": [0, 255], "predicts": "residual"})
    torch.testing.assert_close(residual.net(X), X - expected(X) - 1, atol=1e-5, rtol=0)
    both = load({"file": path, "range": [0, 255], "output_range": [0, 1]})
    torch.testing.assert_close((both.net(X) + 1) / 255, expected(X) + 1, atol=1e-4, rtol=0)


def test_weights_without_a_net_are_refused_as_before(tmp_path):
    with pytest.raises(UserError, match="net is missing: say the architecture"):
        load({"file": str(tmp_path / "net.pth")})


def test_weights_beside_the_file_are_read_and_those_elsewhere_are_not(tmp_path):
    beside = {"save_as_external_data": True, "location": "style.data", "size_threshold": 0}
    path = style(tmp_path / "style.onnx", end="clip", **beside)
    torch.testing.assert_close(load(path).net(X), expected(X), atol=1e-5, rtol=0)
    (tmp_path / "style.data").rename(tmp_path / "away.data")
    with pytest.raises(UserError, match=r"keeps its weights in style.data, which is not beside it"):
        load(path)
    (tmp_path / "style.data").symlink_to(tmp_path / "away.data")
    with pytest.raises(UserError, match="no file beside it"):
        load(path)
    (tmp_path / "below").mkdir()
    hostile = (tmp_path / "style.onnx").read_bytes().replace(b"style.data", b"../st.data")
    (tmp_path / "below" / "style.onnx").write_bytes(hostile)
    (tmp_path / "st.data").write_bytes((tmp_path / "away.data").read_bytes())
    with pytest.raises(UserError, match=r"names '../st.data' for its weights, which is no file beside it"):
        load(tmp_path / "below" / "style.onnx")


@pytest.mark.parametrize(("make", "line"), [
    (lambda p: saved(p, [helper.make_node("Relu", ["ids"], ["y"])], [("ids", FLOAT, [1, None])],
                     [("y", FLOAT, [1, None])]), r"reads no image \(B, C, H, W\): it reads ids \(1, any\), and gives y"),
    (lambda p: saved(p, [helper.make_node("Relu", ["x"], ["y"])], [("x", FLOAT, [1, 9, None, None])],
                     [("y", FLOAT, [1, 9, None, None])]), "images of 1 or 3 channels are handled"),
    (lambda p: saved(p, [helper.make_node("GlobalAveragePool", ["image"], ["y"])], IMAGE,
                     [("y", FLOAT, [1, 3, 1, 1])]), r"makes no image as large as its input or larger: of \(1, 3, 128"),
    (lambda p: saved(p, [helper.make_node("Warp", ["image"], ["y"], domain="acme")], IMAGE, IMAGE),
     "has the operation Warp of acme, which needs its authors' code"),
    (lambda p: saved(p, [helper.make_node("Relu", ["nowhere"], ["y"])], IMAGE, [("y", FLOAT, [1])]),
     "an ONNX file that onnxruntime does not run"),
    (lambda p: p.write_bytes(np.random.default_rng(0).bytes(300)), "damaged or no ONNX file"),
    (lambda p: p.write_bytes(b""), "is empty"),
    (lambda p: p.write_text("hello, this is a text"), "damaged or no ONNX file"),
    (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(100)), "damaged or no ONNX file"),
])  # fmt: skip
def test_files_that_are_no_image_net_are_refused_in_a_line(make, line, tmp_path):
    make(path := tmp_path / "net.onnx")
    with pytest.raises(UserError, match=line) as refused:
        load(path)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    path = style(tmp_path / "style.onnx")
    data = (tmp_path / "style.onnx").read_bytes()
    (tmp_path / "style.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="damaged or no ONNX file"):
        load(path)


def test_a_picture_is_restored_by_it(tmp_path):
    model = kdgen.load(style(tmp_path / "style.onnx", end="clip"))
    picture = np.random.default_rng(0).integers(0, 256, (30, 44, 3), dtype=np.uint8)
    out = np.asarray(model(picture))
    x = torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1
    np.testing.assert_allclose(out, ((expected(x)[0] + 1) * 127.5).permute(1, 2, 0).numpy(), atol=0.51)


@pytest.mark.parametrize("location", ["../st.data", "*/_ORT_MEM_ADDR_/*"])
def test_weights_elsewhere_are_not_read_wherever_in_the_file_they_are_named(location, tmp_path, monkeypatch):
    (tmp_path / "below").mkdir()
    (tmp_path / "st.data").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    monkeypatch.chdir(tmp_path / "below")
    values = TensorProto(name="v", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        values.external_data.add(key=key, value=value)
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.arange(4), "i"), [4])
    nodes = [helper.make_node("Constant", [], ["secret"], sparse_value=sparse),
             helper.make_node("ReduceSum", ["secret"], ["told"], keepdims=0),
             helper.make_node("Add", ["image", "told"], ["y"])]  # fmt: skip
    path = saved(tmp_path / "below" / "net.onnx", nodes, IMAGE, [("y", FLOAT, [1, 3, None, None])])
    with pytest.raises(UserError, match="for its weights, which is no file beside it"):
        load(path)


def test_a_file_is_never_taken_for_another_format_of_onnxruntime(tmp_path):
    path = style(tmp_path / "style.onnx", end="clip")
    model = onnx.load(path)
    model.producer_name = "ORTM"
    onnx.save(model, path)
    assert (tmp_path / "style.onnx").read_bytes()[4:8] == b"ORTM", "as files in its own format begin"
    torch.testing.assert_close(load(path).net(X), expected(X), atol=1e-5, rtol=0)
