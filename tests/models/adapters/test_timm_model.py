"""Classifiers of timm: by name, from a file, in the layout of the Hub, and what they say where something is amiss."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from latent_pipelines import TIMM
from safetensors.torch import save_file

from kdgen.models.adapters import timm_model
from kdgen.models.adapters.timm_model import Timm, timm
from kdgen.models.model import load
from kdgen.types import UserError

SMALL: dict[str, Any] = {"architecture": "resnet10t", "num_classes": 4}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.5]


@pytest.fixture
def net() -> Timm:
    torch.manual_seed(0)
    return timm(**SMALL, mean=MEAN, std=STD).eval()


def published(folder: Path, net: Timm, **changes: Any) -> str:
    """A folder as `timm.models.push_to_hf_hub` fills it."""
    save_file(net.model.state_dict(), folder / "model.safetensors")
    images = {"input_size": [3, 32, 32], "mean": MEAN, "std": STD, "num_classes": 4}
    config = {**SMALL, "num_features": 512, "pretrained_cfg": images, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@TIMM
def test_images_are_normalised_as_the_model_was_trained(net: Timm) -> None:
    x = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD))
    torch.testing.assert_close(net(2 * x - 1), net.model((x - mean) / std))
    assert net.feature_layers()[-1] == "model.layer4"
    grey = timm(**SMALL, channels=1)
    assert grey.mean.flatten().tolist() == pytest.approx([2 * (0.485 + 0.456 + 0.406) / 3 - 1])


@TIMM
def test_a_folder_of_the_hub_is_opened_with_its_task(net: Timm, tmp_path: Path) -> None:
    opened = load(published(tmp_path, net))
    assert opened.task == {"name": "classify", "num_classes": 4, "size": 32, "channels": 3}
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(opened.net(x), net(x))
    opened.save(tmp_path / "again")
    torch.testing.assert_close(load(str(tmp_path / "again")).net(x), net(x))
    published(tmp_path, net, num_classes=5)
    with pytest.raises(UserError, match=r"damaged or do not fit its config\.json"):
        load(str(tmp_path))


@TIMM
def test_a_file_of_weights_is_declared_by_the_name_of_the_architecture(net: Timm, tmp_path: Path) -> None:
    torch.save({"state_dict": net.model.state_dict()}, tmp_path / "mine.pth")
    args = {**SMALL, "mean": MEAN, "std": STD}
    declared = {"file": "mine.pth", "net": {"name": "timm", "args": args}, "range": [-1, 1],
                "task": {"name": "classify", "num_classes": 4, "size": 32}}  # fmt: skip
    (tmp_path / "mine.json").write_text(json.dumps(declared))
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(load(str(tmp_path / "mine.json")).net(x), net(x))


@TIMM
def test_what_timm_does_not_know_is_refused_in_a_line() -> None:
    with pytest.raises(UserError, match="timm makes no resnet999 of these arguments"):
        timm("resnet999")
    with pytest.raises(UserError, match="unexpected keyword argument 'colour'"):
        timm(**SMALL, model_args={"colour": 1})


@pytest.mark.skipif(find_spec("timm") is not None, reason="timm is here")
def test_without_timm_it_is_said_how_to_get_it() -> None:
    with pytest.raises(UserError, match=r"pip install 'kdgen\[timm\]'"):
        timm("resnet18")


def test_a_folder_of_timm_is_told_from_a_student_and_from_one_of_diffusers(tmp_path: Path) -> None:
    config = {"architecture": "resnet18", "num_classes": 7, "pretrained_cfg": {"input_size": [1, 64, 64]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert timm_model.is_timm(tmp_path)
    use, task = timm_model.timm_use(tmp_path)
    assert use.args == {"architecture": "resnet18", "num_classes": 7, "channels": 1}
    assert task["size"] == 64
    (tmp_path / "config.json").write_text(json.dumps({**config, "pretrained_cfg": {"input_size": [4, 64, 64]}}))
    with pytest.raises(UserError, match="images of 4 channels"):
        timm_model.timm_use(tmp_path)
