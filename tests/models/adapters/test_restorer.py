"""Files of other people's restorers, opened by what they hold alone."""

import contextlib
import json
import sys
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import save_file
from support import call

from kdgen.metrics.cost import num_params
from kdgen.models.adapters.restorer import InterpolationMode, normalize, rotate
from kdgen.models.model import load
from kdgen.models.nets.compact import compact
from kdgen.types import UserError

pytestmark = pytest.mark.skipif(
    find_spec("spandrel") is None, reason="no spandrel here: pip install 'kdgen[restorers]'"
)

SET5 = {"realesr-animevideov3/realesr-animevideov3-x4.safetensors": 28.25,
        "realesrgan/x4plus-anime-6B.safetensors": 25.22, "sr-ntire2024/team34_craft.pth": 32.39}  # fmt: skip
"""PSNR in dB on Set5 x4, of luma without a border of 4, by the authors' nets."""


@pytest.fixture
def student():
    torch.manual_seed(0)
    return compact(channels=3, width=8, depth=2, scale=2).eval()


@pytest.mark.parametrize("way", ["safetensors", "params_ema", "module", "half"])
def test_a_compact_student_is_opened_by_its_weights_alone_and_gives_the_same(way, student, tmp_path):
    weights, path = student.state_dict(), tmp_path / "mine.pth"
    if way == "safetensors":
        save_file(weights, path := tmp_path / "mine.safetensors")
    elif way == "params_ema":
        torch.save({"params_ema": weights, "params": weights, "optimizer": {"state": {}}}, path)
    elif way == "module":
        torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}, "epoch": 3}, path)
    else:
        torch.save({key: value.half() for key, value in weights.items()}, path)
    with pytest.warns(UserWarning, match="average") if way == "params_ema" else contextlib.nullcontext():
        opened = load(str(path))
    assert (opened.name, opened.channels, opened.task["scale"]) == ("mine", 3, 2)
    assert num_params(opened.net) == num_params(student)
    x = torch.rand(2, 3, 19, 26) * 1.6 - 0.8
    with torch.inference_mode():
        expected = student(x).clamp(-1, 1)
        torch.testing.assert_close(opened.net(x), expected, atol=3e-3 if way == "half" else 1e-5, rtol=0)


def test_what_stands_in_for_torchvision_is_what_its_names_say():
    image = torch.rand(2, 3, 8, 8)
    turned = rotate(image, 90.0, InterpolationMode.BILINEAR)
    torch.testing.assert_close(turned, torch.rot90(image, 1, (-2, -1)), atol=1e-5, rtol=0)
    mean, std = [0.5, 0.4, 0.3], [0.5, 0.25, 1.0]
    expected = torch.stack([(image[:, i] - mean[i]) / std[i] for i in range(3)], 1)
    torch.testing.assert_close(normalize(image, mean, std), expected)


def test_no_module_stands_in_for_torchvision_afterwards(student, tmp_path):
    save_file(student.state_dict(), tmp_path / "mine.safetensors")
    load(str(tmp_path / "mine.safetensors"))
    module = sys.modules.get("torchvision")
    assert module is None or module.__file__


@pytest.mark.parametrize(("weights", "line"), [
    ({"lora_unet_down.lora_up.weight": torch.zeros(4, 4)}, "the weights of no net that is known by its keys"),
    ({"exp_avg": torch.zeros(3)}, "the weights of no net that is known by its keys"),
    ({"model.embed_tokens.weight": torch.zeros(10, 4)}, "known by its keys"),
])  # fmt: skip
def test_weights_of_something_else_are_refused_in_a_line(weights, line, tmp_path):
    save_file(weights, path := tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=line) as refused:
        load(str(path))
    assert "\n" not in str(refused.value)


def test_damaged_files_and_pickles_are_refused(student, tmp_path):
    save_file(student.state_dict(), path := tmp_path / "mine.safetensors")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match="damaged"):
        load(str(path))
    torch.save({"body.0.weight": torch.full((8, 3, 3, 3), float("nan"))}, tmp_path / "nan.pth")
    with pytest.raises(UserError):
        load(str(tmp_path / "nan.pth"))
    (tmp_path / "evil.pth").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match="run code"):
        load(str(tmp_path / "evil.pth"))


@pytest.mark.parametrize("file", SET5)
def test_published_upscalers_give_their_published_figures(file, shared_data, capsys):
    pairs = shared_data / "sr-sets" / "Set5"
    assert call("evaluate", str(shared_data / file), "--data", str(pairs / "LR_bicubic" / "X4"), "--clean",
                str(pairs / "HR"), "--num-images", "5", "--json") == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["metrics"]["psnr_y"] == pytest.approx(SET5[file], abs=0.02)
