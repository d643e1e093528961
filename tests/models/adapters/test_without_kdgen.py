"""A diffusers pipeline folder in, a diffusers pipeline folder out, opened where kdgen is not installed."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image
from support import call, drain

from kdgen.recipe import parse
from kdgen.report.compare import Report
from kdgen.training import run

SAMPLE = """
import importlib.util, sys
import torch
assert importlib.util.find_spec("kdgen") is None, "kdgen is installed here"
from diffusers import DDPMPipeline
pipe = DDPMPipeline.from_pretrained(sys.argv[1])
seeds = torch.randint(2**63 - 1, (4,), generator=torch.Generator().manual_seed(7)).tolist()
images = pipe(4, generator=[torch.Generator().manual_seed(seed) for seed in seeds], num_inference_steps=5).images
for number, image in enumerate(images):
    image.save(f"{sys.argv[2]}/{number:05}.png")
"""


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The Python of an environment that has all packages of this one but kdgen."""
    home = tmp_path / "bare"
    venv.create(home, with_pip=False, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    known = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "shared.pth").write_text("\n".join(known) + "\n")
    return home / "bin" / "python"


def test_the_student_of_a_pipeline_folder_is_one_that_needs_no_kdgen(bare: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )  # fmt: skip
    DDPMPipeline(unet=unet, scheduler=DDPMScheduler()).save_pretrained(tmp_path / "teacher")
    images = {"name": "dead_leaves"}
    student = {"size": 16, "block_out_channels": [8, 16], "pipeline": "DDPMPipeline"}
    recipe = {
        "name": "small",
        "task": {"name": "diffuse", "args": {"images": images, "size": 16, "num_images": 4, "num_steps": 2}},
        "teacher": str(tmp_path / "teacher"),
        "student": {"name": "unet2d", "args": student},
        "stages": [{"methods": [{"name": "output"}]}],
        "steps": 3,
        "batch_size": 4,
        "cache": {"inputs": 16, "dir": str(tmp_path / "cache")},
        "controls": False,
        "device": "cpu",
    }
    drain(run.distill(parse(recipe), tmp_path / "run"))
    report = Report.read(tmp_path / "run")
    assert [row.role for row in report.rows] == ["teacher", "student"]
    assert report.rows[0].macs > 2 * report.rows[1].macs
    folder = tmp_path / "run" / "student"
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == "DDPMPipeline"
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    theirs.mkdir()
    assert call("generate", str(folder), str(ours), "--num-images", "4", "--seed", "7", "--num-steps", "5") == 0
    lean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [bare, "-c", SAMPLE, folder, theirs], cwd=tmp_path, env=lean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for number in range(4):
        pair = [np.asarray(Image.open(home / f"{number:05}.png")) for home in (ours, theirs)]
        assert pair[0].shape == (16, 16)
        assert pair[0].std() > 1
        assert np.array_equal(*pair)
