"""Files of weights as people have them: read without running code, or said for what they are."""

import argparse
import json
import pathlib
import pickle
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

import kdgen.zoo  # noqa: F401
from kdgen.adapters.checkpoint import load_checkpoint
from kdgen.adapters.weight_files import read_weights_file
from kdgen.recipe import Checkpoint
from kdgen.registry import Use, build
from kdgen.types import UserError

SMALL = Use(name="dncnn", args={"depth": 3, "width": 4, "norm": True})


@pytest.fixture
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(build("net", SMALL).state_dict())


def declare(file: Path, **changes: Any) -> Checkpoint:
    return Checkpoint(file=str(file), **{"net": SMALL, **changes})


def said(spec: Checkpoint) -> str:
    with pytest.raises(UserError) as error:
        load_checkpoint(spec)
    assert "\n" not in str(error.value)
    return str(error.value)


def loads(spec: Checkpoint, weights: dict[str, Tensor]) -> bool:
    """Whether the net has these weights, folded ones within rounding."""
    own = load_checkpoint(spec).net.state_dict()
    return all(torch.allclose(own[key].float(), value.float(), atol=1e-6) for key, value in weights.items())


class AttributeDict(dict[str, Any]):
    """Hyper-parameters as Lightning keeps them: a class that is gone when the file is read."""

    def __init__(self, *args: Any) -> None:
        raise AssertionError("code of a checkpoint was run")


class Config:
    def __setstate__(self, state: Any) -> None:
        raise AssertionError("code of a checkpoint was run")


def strangers() -> dict[str, Any]:
    """What stands beside weights in files that trainers write."""
    hyper: Any = AttributeDict.__new__(AttributeDict)
    dict.__setitem__(hyper, "lr", 1e-3)
    config = Config()
    config.__dict__ |= {"path": pathlib.Path("logs"), "seed": 0}
    return {
        "hyper_parameters": hyper,
        "args": argparse.Namespace(lr=1e-3, out=pathlib.Path("runs")),
        "config": config,
        "metrics": {"best": np.float64(1.5), "curve": np.arange(3.0)},
        "counts": defaultdict(list, {"a": [1]}),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": np.float32(1)}]},
    }


def test_what_stands_beside_weights_is_passed_over_and_never_run(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save({"epoch": 3, **strangers(), "state_dict": weights}, tmp_path / "net.ckpt")
    assert loads(declare(tmp_path / "net.ckpt"), weights)


def test_a_module_saved_whole_is_read_without_its_class(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    net = build("net", SMALL)
    net.load_state_dict(weights)
    torch.save(net, tmp_path / "whole.pt")
    torch.save({"model": net, "optimizer": {}}, tmp_path / "kept.pt")
    assert loads(declare(tmp_path / "whole.pt"), weights)
    assert loads(declare(tmp_path / "kept.pt"), weights)


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (lambda thing, file: torch.save(thing, file, pickle_protocol=4), "torch.load('net.pth'"),
        (lambda thing, file: torch.save(thing, file, _use_new_zipfile_serialization=False), "torch.load('net.pth'"),
        (lambda thing, file: file.write_bytes(pickle.dumps(thing)), "torch.load('net.pth'"),
        (lambda thing, file: np.savez(file.open("wb"), config=np.array(thing, dtype=object)), "numpy.load('net.pth'"),
        (lambda thing, file: np.save(file.open("wb"), np.array(thing, dtype=object)), "numpy.load('net.pth'"),
        (lambda thing, file: torch.jit.script(nn.Conv2d(1, 1, 1)).save(file), "torch.jit.load('net.pth')"),
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.jit.script")
def test_what_only_code_can_read_is_refused_with_the_lines_that_convert(tmp_path: Path, write: Any, named: str) -> None:
    write({"config": argparse.Namespace(lr=1)}, tmp_path / "net.pth")
    told = said(declare(tmp_path / "net.pth"))
    assert named in told
    assert "torch.save(" in told
    assert "'net-plain.pth'" in told
    assert "fetch it again" not in told


def test_the_lines_that_convert_do_so(tmp_path: Path, weights: dict[str, Tensor], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": weights, **strangers()}, "net.pth", _use_new_zipfile_serialization=False)
    monkeypatch.setattr(Config, "__setstate__", lambda self, state: None)
    monkeypatch.setattr(AttributeDict, "__init__", lambda self, *args: None)
    first, second = said(declare(Path("net.pth"))).split("`")[1:4:2]
    exec(f"{first}\n{second}", {})
    assert loads(declare(Path("net-plain.pth")), weights)


def test_arrays_of_an_npz_are_weights(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    np.savez(tmp_path / "net.npz", **{key.replace(".", "/"): value for key, value in weights.items()}, words=["a"])
    rename = {key.replace(".", "/"): key for key in weights}
    assert loads(declare(tmp_path / "net.npz", rename=rename), weights)
    (tmp_path / "net.npz").write_bytes((tmp_path / "net.npz").read_bytes()[:-200])
    assert "is damaged: fetch it again" in said(declare(tmp_path / "net.npz"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page, not weights"),
        (b"<html>not found</html>", "a web page, not weights"),
        (b'{"error": "not found"}', "JSON text, not weights"),
        (b"", "is empty"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "is no file of weights that is read"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_saved_in_the_place_of_weights_is_said_for_what_it_is(
    tmp_path: Path, content: bytes, told: str, suffix: str
) -> None:
    (tmp_path / f"net{suffix}").write_bytes(content)
    if suffix == ".safetensors" and content.startswith(b"\x89HDF"):
        told = "no safetensors file"
    assert told in said(declare(tmp_path / f"net{suffix}"))


@pytest.mark.parametrize(
    "names", [("a.safetensors", "model.safetensors"), ("pytorch_model-00001-of-00002.bin", "x.bin")]
)
def test_an_index_is_read_with_all_its_files(
    tmp_path: Path, weights: dict[str, Tensor], names: tuple[str, str]
) -> None:
    half = len(weights) // 2
    parts = dict(zip(names, (dict(list(weights.items())[:half]), dict(list(weights.items())[half:])), strict=True))
    for name, part in parts.items():
        (save_file if name.endswith(".safetensors") else torch.save)(part, tmp_path / name)
    listed = {key: name for name, part in parts.items() for key in part}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    assert loads(declare(index), weights)
    if "-of-" in names[0]:
        assert "declare their .index.json" in said(declare(tmp_path / names[0]))
    (tmp_path / names[1]).rename(tmp_path / "elsewhere")
    assert f"names {names[1]}, which is not beside it" in said(declare(index))
    index.write_text(json.dumps({"weight_map": dict.fromkeys(weights, "../elsewhere")}))
    assert "no file beside it" in said(declare(index))
    index.write_text("{}")
    assert "no index of weights" in said(declare(index))


@pytest.mark.parametrize(
    ("around", "key"),
    [
        (lambda w: {"model": {"state_dict": w}, "epoch": 1}, None),
        (lambda w: {"state_dict": {"net": w}}, None),
        (lambda w: {"module": {"generator": w, "critic": {}}}, "module.generator"),
        (lambda w: {"nets.g": {"weights": w}}, "nets.g.weights"),
        (lambda w: {"nets.g": {"weights": w}}, "nets.g"),
    ],
)
def test_weights_are_found_under_nested_and_dotted_keys(
    tmp_path: Path, weights: dict[str, Tensor], around: Any, key: str | None
) -> None:
    torch.save(around(weights), tmp_path / "net.pth")
    assert loads(declare(tmp_path / "net.pth", key=key), weights)


def other(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value + 1 for key, value in weights.items()}


@pytest.mark.parametrize(
    ("around", "live"),
    [
        (lambda w, ema: {"model": w, "model_ema": ema}, {"key": "model"}),
        (lambda w, ema: {"state_dict_ema": ema, "state_dict": w}, {"key": "state_dict"}),
        (lambda w, ema: {"state_dict": w, "ema": {"module": ema, "decay": 0.9}}, {"key": "state_dict"}),
        (lambda w, ema: {"state_dict": w, "ema_state_dict": ema}, {"key": "state_dict"}),
        (lambda w, ema: {"params": w, "params_ema": ema}, {"key": "params"}),
        (lambda w, ema: {"g": w, "g_ema": ema, "d": {"0.weight": torch.ones(1)}}, {"key": "g"}),
        (lambda w, ema: {"model": {"params": w, "ema": {"shadow": ema}}}, {"key": "model.params"}),
        (
            lambda w, ema: {
                "initted": torch.ones(()),
                **{f"online_model.{key}": value for key, value in w.items()},
                **{f"ema_model.{key}": value for key, value in ema.items()},
            },
            {"prefix": "online_model."},
        ),
    ],
)
def test_the_average_is_taken_and_said(
    tmp_path: Path, weights: dict[str, Tensor], around: Any, live: dict[str, str]
) -> None:
    torch.save(around(weights, other(weights)), tmp_path / "net.pth")
    with pytest.warns(UserWarning, match=r"took the average of the weights, .*ema.*declare (their|the|key)") as told:
        assert loads(declare(tmp_path / "net.pth"), other(weights))
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if "prefix" in live else "error")
        assert loads(declare(tmp_path / "net.pth", **live), weights)


def test_live_weights_beside_an_average_are_never_taken_in_silence(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    flat = {f"model.{key}": value for key, value in weights.items()}
    flat |= {f"model_ema.{key.replace('.', '')}": value for key, value in weights.items()}
    flat |= {"model_ema.decay": torch.ones(()), "model_ema.num_updates": torch.ones(())}
    torch.save({"state_dict": flat}, tmp_path / "latent.ckpt")
    with pytest.warns(UserWarning, match="an average of the weights lies beside.*'model_ema.'"):
        assert loads(declare(tmp_path / "latent.ckpt", prefix="model."), weights)
    torch.save({"model": weights, "ema": {"decay": 0.9, "shadow_params": list(weights.values())}}, tmp_path / "list.pt")
    with pytest.warns(UserWarning, match="took the live weights, 'model': their average 'ema' has no names"):
        assert loads(declare(tmp_path / "list.pt"), weights)


def test_an_average_whose_names_lost_their_dots_is_taken(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    flat = {f"model.{key}": value for key, value in weights.items()}
    flat |= {f"model_ema.{key.replace('.', '')}": value for key, value in other(weights).items()}
    flat |= {"model_ema.decay": torch.ones(()), "model_ema.num_updates": torch.ones(())}
    torch.save({"state_dict": flat}, tmp_path / "latent.ckpt")
    with pytest.warns(UserWarning, match=r"took the average of the weights, those of prefix 'model_ema\.'"):
        assert loads(declare(tmp_path / "latent.ckpt"), other(weights))


@pytest.mark.parametrize(
    ("heads", "prefix"),
    [
        (("net.", "loss.vgg."), "net."),
        (("model.module.", "ema_model.module."), "ema_model.module."),
        (("_orig_mod.", "criterion."), "_orig_mod."),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_prefix_that_fits_is_suggested_whatever_lies_beside(
    tmp_path: Path, weights: dict[str, Tensor], heads: tuple[str, str], prefix: str
) -> None:
    torch.save({f"{head}{key}": value for head in heads for key, value in weights.items()}, tmp_path / "net.ckpt")
    with pytest.raises(UserError, match=f"declare prefix {prefix!r}"):
        load_checkpoint(declare(tmp_path / "net.ckpt"))
    assert loads(declare(tmp_path / "net.ckpt", prefix=prefix), weights)


def test_counters_beside_weights_are_left_out(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    counted = {**weights, "total_ops": torch.zeros(1, dtype=torch.float64), "0.total_params": torch.zeros(1)}
    torch.save({"n_averaged": torch.ones(()), **{f"module.{k}": v for k, v in counted.items()}}, tmp_path / "net.pth")
    assert loads(declare(tmp_path / "net.pth", prefix="module."), weights)
    plain = Use(name="dncnn", args={"depth": 3, "width": 4})
    own = dict(build("net", plain).state_dict())
    torch.save({**own, "2.num_batches_tracked": torch.ones((), dtype=torch.int64)}, tmp_path / "net.pth")
    assert loads(declare(tmp_path / "net.pth", net=plain), own)


@pytest.mark.parametrize(
    "normalise",
    [
        weight_norm,
        lambda m: weight_norm(m, dim=None),
        spectral_norm,
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm")
def test_parametrised_weights_are_folded(tmp_path: Path, normalise: Any) -> None:
    torch.manual_seed(0)
    use = Use(name="dncnn", args={"depth": 3, "width": 4})
    own = build("net", use)
    expected = {}
    for layer in own.modules():
        if isinstance(layer, nn.Conv2d):
            normalise(layer)
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.mul_(1.5)
            own.train()(torch.rand(1, 1, 8, 8))
    own.eval()(torch.rand(1, 1, 8, 8))
    for name, layer in own.named_modules():
        if isinstance(layer, nn.Conv2d):
            expected[f"{name}.weight"] = layer.weight.detach().clone()
    torch.save(own.state_dict(), tmp_path / "net.pth")
    assert not any(key.endswith(".weight") for key in own.state_dict())
    assert loads(declare(tmp_path / "net.pth", net=use), expected)


def test_a_transposed_convolution_is_folded_along_its_output(tmp_path: Path) -> None:
    from kdgen.adapters.state_dict import plain

    torch.manual_seed(0)
    for normalise in (spectral_norm, parametrizations.spectral_norm):
        layer = normalise(nn.ConvTranspose2d(6, 6, 3)).train()
        for _ in range(20):
            layer(torch.rand(1, 6, 4, 4))
        layer.eval()(torch.rand(1, 6, 4, 4))
        assert torch.allclose(plain(layer.state_dict(), ["weight", "bias"])["weight"], layer.weight, atol=1e-6)


def test_another_parametrisation_is_refused_with_what_removes_it(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    split = {key.replace("0.weight", "0.parametrizations.weight.original"): value for key, value in weights.items()}
    torch.save(split, tmp_path / "net.pth")
    assert "remove_parametrizations" in said(declare(tmp_path / "net.pth"))


@pytest.mark.parametrize("kind", [torch.int8, torch.complex64, torch.bool])
def test_weights_that_are_no_floats_are_refused(tmp_path: Path, weights: dict[str, Tensor], kind: torch.dtype) -> None:
    torch.save({**weights, "0.weight": weights["0.weight"].to(kind)}, tmp_path / "net.pth")
    assert "0.weight is of " + str(kind).removeprefix("torch.") in said(declare(tmp_path / "net.pth"))


@pytest.mark.parametrize("name", ["0.weight", "3.running_var"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, weights: dict[str, Tensor], name: str) -> None:
    torch.save({**weights, name: torch.full_like(weights[name], float("nan"))}, tmp_path / "net.pth")
    assert f"{name} is not finite" in said(declare(tmp_path / "net.pth"))


def test_published_files_are_read(shared_data: Path) -> None:
    least = {
        "uvadlc/tutorial5_ResNet.ckpt": 119,
        "jpeg-waifu2x/vgg7_noise2_rgb.npz": 14,
        "lowlight-neuro/best_model.pth": 14,
        "sr-ntire2024/team23_safmnpp.pth": 32,
        "gan-vae-csinva/G--300.ckpt": 6,
        "vessels-lwnet/wnet_drive.pth": 240,
        "resnet-cifar10/resnet20-12fca82f.th": 97,
    }
    from kdgen.adapters.state_dict import find_weights

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for name, count in least.items():
            file = shared_data / name
            assert len(find_weights(read_weights_file(file), declare(file))[0]) >= count, name
    assert [str(each.message).partition(": ")[2] for each in told] == [
        "took the average of the weights, 'params_ema'; to take others, declare their key, of 'params'"
    ]
