"""The net of diffusers' UNet2DModel: conditions, learning, and starting from a larger one."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kdgen.models.adapters import open_folder
from kdgen.models.adapters.unet2d import Unet2d, unet2d
from kdgen.types import UserError
from kdgen.utils.hooks import capture_outputs

TINY = {"size": 8, "block_out_channels": (8, 16), "norm_num_groups": 4}


def tiny(seed: int = 0, **args: Any) -> Unet2d:
    torch.manual_seed(seed)
    return unet2d(**{**TINY, **args}).eval()


def test_a_class_conditional_net(tmp_path: Path) -> None:
    net = tiny(num_class_embeds=3)
    x, sigma, label = torch.randn(2, 1, 8, 8), torch.ones(2), torch.tensor([0, 2])
    with torch.no_grad():
        v = net.unet(x * 0.5**0.5, net.timesteps.timestep(sigma), class_labels=label).sample
        assert torch.allclose(net(x, sigma=sigma, label=label), x / 2 - 0.5**0.5 * v, atol=1e-5)
    with pytest.raises(UserError, match="label"):
        net(x, sigma=sigma)
    net.save_files(tmp_path)
    opened, _, _, task = open_folder(tmp_path)
    assert task["num_classes"] == 3
    drawn = opened.generate(4, seed=2, num_steps=2)  # type: ignore[operator]
    assert torch.equal(drawn, opened.generate(4, seed=2, num_steps=2, label=torch.tensor([0, 1, 2, 0])))  # type: ignore[operator]
    assert not torch.equal(drawn, opened.generate(4, seed=2, num_steps=2, label=torch.ones(4).long()))  # type: ignore[operator]


def test_an_unconditional_net_refuses_labels_and_needs_sigma() -> None:
    net, x = tiny(), torch.zeros(1, 1, 8, 8)
    with pytest.raises(UserError, match="does not read 'label'"):
        net(x, sigma=torch.ones(1), label=torch.ones(1).long())
    with pytest.raises(UserError, match="sigma"):
        net(x)


def test_it_learns_and_is_copied_and_tapped() -> None:
    net = copy.deepcopy(tiny(attention_levels=0).train())
    with capture_outputs(net, net.feature_layers()) as seen:
        net(torch.randn(2, 1, 8, 8), sigma=torch.ones(2)).square().mean().backward()
    assert [tuple(seen[path].shape[1:]) for path in net.feature_layers()] == [
        (8, 4, 4),
        (16, 4, 4),
        (16, 4, 4),
        (16, 8, 8),
        (8, 8, 8),
    ]
    assert list(seen) == net.feature_layers()
    assert all(parameter.grad is not None for parameter in net.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert net(torch.randn(2, 1, 8, 8), sigma=torch.ones(2)).dtype == torch.float32


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"size": 9}, "multiple of 2"),
        ({"norm_num_groups": 3}, "no UNet2DModel can be made"),
        ({"prediction_type": "noise"}, "epsilon, v_prediction, sample"),
        ({"beta_schedule": "steep"}, "no DDIMScheduler can be made"),
        ({"pipeline": "StableDiffusionPipeline"}, "DDIMPipeline or DDPMPipeline"),
    ],
)
def test_arguments_that_do_not_fit(args: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        tiny(**args)


def test_impossible_numbers_of_steps() -> None:
    with pytest.raises(UserError, match="from 1 to 20"):
        tiny(num_train_timesteps=20).generate(1, num_steps=21)


def test_a_shallower_student_starts_from_the_blocks_that_stay() -> None:
    teacher, student = tiny(layers_per_block=2), tiny(seed=1, layers_per_block=1)
    student.inherit(teacher)
    given = teacher.unet.state_dict()
    for key, value in student.unet.state_dict().items():
        source = key
        if key.startswith("up_blocks"):
            source = key.replace("resnets.1", "resnets.2").replace("attentions.1", "attentions.2")
        assert torch.equal(value, given[source]), key


def test_a_student_of_fewer_levels_counts_them_from_the_image() -> None:
    teacher = tiny(block_out_channels=(8, 16, 16), attention_levels=0)
    student = tiny(seed=1, block_out_channels=(8, 16), attention_levels=0)
    student.inherit(teacher)
    for mine, yours in (("down_blocks.1.resnets", "down_blocks.1.resnets"), ("up_blocks.1", "up_blocks.2")):
        mine_weights = student.unet.get_submodule(mine).state_dict()
        assert all(torch.equal(v, mine_weights[k]) for k, v in teacher.unet.get_submodule(yours).state_dict().items())


def test_a_narrower_student_starts_from_evenly_spaced_channels() -> None:
    teacher, student = tiny(block_out_channels=(16, 32)), tiny(block_out_channels=(8, 16))
    first = {key: value.square().mean().sqrt() for key, value in student.unet.state_dict().items()}
    student.inherit(teacher)
    wide, narrow = teacher.unet.state_dict(), student.unet.state_dict()
    for key, chosen in (
        ("conv_in.weight", wide["conv_in.weight"][::2]),
        ("up_blocks.1.resnets.0.conv1.weight", wide["up_blocks.1.resnets.0.conv1.weight"][::2, ::2]),
    ):
        torch.testing.assert_close(narrow[key], chosen * first[key] / chosen.square().mean().sqrt())
    assert torch.equal(narrow["down_blocks.0.resnets.0.conv1.bias"], wide["down_blocks.0.resnets.0.conv1.bias"][::2])
    assert torch.equal(narrow["conv_out.bias"], wide["conv_out.bias"])


def test_what_cannot_start_from_it() -> None:
    with pytest.raises(UserError, match="prediction_type"):
        tiny().inherit(tiny(prediction_type="epsilon"))
    with pytest.raises(UserError, match="not from Linear"):
        tiny().inherit(nn.Linear(1, 1))
    with pytest.raises(UserError, match="no wider"):
        tiny(block_out_channels=(16, 16)).inherit(tiny())
