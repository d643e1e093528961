"""Published segmenters: their files are loaded strictly, and what they see on real pictures is what is there."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from kdgen.data.pictures import to_tensor
from kdgen.models.model import load
from kdgen.models.nets.inputs import bgr
from kdgen.models.nets.segmenter import segmenter
from kdgen.presets import preset
from kdgen.presets.segmenters import CITYSCAPES
from kdgen.recipe import Checkpoint
from kdgen.registry import Spec
from kdgen.tasks.segment import labels_of
from kdgen.types import Batch

ROAD, BUILDING, CAR = (CITYSCAPES.index(name) for name in ("road", "building", "car"))


def labels(spec: Checkpoint, file: Path, picture: np.ndarray) -> Tensor:
    return labels_of(load(spec.model_copy(update={"file": str(file)})).net, Batch(x=to_tensor(picture, 3)))[0]


def declared(name: str) -> Checkpoint:
    teacher = preset(name).teacher
    assert isinstance(teacher, Checkpoint)
    return teacher


@pytest.mark.parametrize("encoder", [False, True])
def test_espnet_sees_the_street(shared_data: Path, encoder: bool) -> None:
    spec, file = declared("segment-street"), "espnet_p_2_q_8.pth"
    if encoder:
        spec, file = spec.model_copy(update={"net": Spec(name="espnet_c")}), "espnet_c_p_2_q_3.pth"
    folder = shared_data / "segment-espnet"
    frame = Image.open(folder / "frankfurt_000576.jpg").convert("RGB").resize((512, 256))
    seen = labels(spec, folder / file, np.asarray(frame))
    assert seen.shape == (256, 512)
    assert (seen[150:190, 200:330] == ROAD).float().mean() > 0.9, "the lane ahead"
    assert (seen[100:140, 70:120] == CAR).float().mean() > 0.7, "the car parked at the left"
    assert (seen[20:60, 10:80] == BUILDING).float().mean() > 0.7, "the house above it"


def test_sinet_sees_the_person(shared_data: Path) -> None:
    picture = np.asarray(Image.fromarray(skimage.data.astronaut()).resize((224, 224)))
    seen = labels(declared("segment-portrait"), shared_data / "segment-portrait" / "SINet.pth", picture)
    assert seen[20:130, 90:110].float().mean() > 0.95, "head and breast"
    assert seen[:100, 150:].float().mean() < 0.05, "the wall"


def test_the_little_w_net_sees_vessels(shared_data: Path) -> None:
    picture = np.asarray(Image.fromarray(skimage.data.retina()).resize((512, 512)))
    seen = labels(declared("vessels"), shared_data / "vessels-lwnet" / "wnet_drive.pth", picture).bool()
    assert 0.08 < seen.float().mean() < 0.14
    green = torch.from_numpy(picture[..., 1].copy()).float()
    around = F.avg_pool2d(green[None, None], 15, 1, 7)[0, 0]
    assert (green < around)[seen].float().mean() > 0.8, "vessels are darker than what lies around them"


def test_nets_that_learned_from_opencv_see_blue_first_in_their_own_units() -> None:
    image = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    seen = bgr(image, (255, 0, 10), (1, 0.5, 2)).flatten()
    torch.testing.assert_close(seen, torch.tensor([0.0, 127.5 / 127.5, -10 / 510]))
    assert bgr(image[:, :1], (0, 0, 0), (1, 1, 1)).shape == (1, 3, 1, 1)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_segmenter_gives_each_place_its_logits(stride: int) -> None:
    torch.manual_seed(0)
    net = segmenter(1, 5, [4, 8], 1, stride).eval()
    assert net(torch.zeros(2, 1, 21, 13)).shape == (2, 5, 21, 13)
    shifted = torch.zeros(1, 1, 64, 64)
    shifted[..., 32:] = 1
    flat = net(shifted)
    assert not torch.equal(flat[..., 10], flat[..., 50]), "it sees what lies around"
