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
from declarations import SMALL, declare, loads, said
from safetensors.torch import save_file
from torch import Tensor, nn

from kdgen.models.adapters.state_dict import find_weights
from kdgen.models.adapters.weight_files import read_weights_file
from kdgen.registry import build


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
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for name, count in least.items():
            file = shared_data / name
            assert len(find_weights(read_weights_file(file), declare(file))[0]) >= count, name
    assert [str(each.message).partition(": ")[2] for each in told] == [
        "took the average of the weights, 'params_ema'; to take others, declare their key, of 'params'"
    ]
