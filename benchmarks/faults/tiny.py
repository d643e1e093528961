"""A run of a few seconds: a tiny denoiser taught by a tiny teacher, measured on one tiny picture."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kdgen.models.model import Model, build_net
from kdgen.registry import Spec


def make(folder: Path, **changes: Any) -> dict[str, Any]:
    """Write what the run needs into a folder, and give its recipe as data."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    net, use = build_net(Spec(name="dncnn", args={"depth": 3, "width": 24}), channels=1)
    Model(net, name="teacher", channels=1, task={"name": "denoise", "sigma": 25}, use=use).save(folder / "teacher")
    (folder / "pictures").mkdir(exist_ok=True)
    ramp = np.add.outer(np.arange(24), 7 * np.arange(24)).astype(np.uint8)
    Image.fromarray(ramp).save(folder / "pictures" / "ramp.png")
    pictures = {"name": "folder", "args": {"path": str(folder / "pictures")}}
    return {
        "name": "tiny",
        "task": {"name": "denoise", "args": {"sigma": 25, "patch": 16, "evaluate": pictures}},
        "teacher": str(folder / "teacher"),
        "student": {"name": "dncnn", "args": {"depth": 3, "width": 16}},
        "stages": [{"methods": [{"name": "output"}]}],
        "steps": 60,
        "batch_size": 4,
        "cache": {"inputs": 128, "dir": str(folder / "cache")},
        "precision": "float32",
        "checkpoint_every": 0.1,
        "evaluate_every": 30,
        "device": "cpu",
        **changes,
    }
