"""The curves of training, drawn from a run's log."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdgen.report.loss_curves import curves, curves_of, smooth


def test_smoothing_starts_without_bias_and_keeps_a_constant() -> None:
    assert smooth([3.0] * 5, 0.9) == pytest.approx([3.0] * 5)
    assert smooth([1.0, 0.0], 0.5) == pytest.approx([1.0, 1 / 3])


def log(path: Path, *events: tuple[str, str, int, dict[str, float]]) -> Path:
    keys = ("kind", "phase", "step", "data")
    path.write_text("".join(json.dumps(dict(zip(keys, e, strict=True))) + "\n" for e in events) + '{"kind": "st')
    return path


def test_curves_are_drawn_from_a_log_cut_short(tmp_path: Path) -> None:
    steps = [
        ("step", "student", i, {"loss": 1 / i, "output": 2 / i, "lr": 0.1, "seconds": float(i)}) for i in range(1, 80)
    ]
    quick = [("evaluate", "student", 40, {"psnr": 25.0}), ("evaluate", "student", 79, {"psnr": 27.0})]
    curves(tmp_path / "a.png", log(tmp_path / "a.jsonl", *steps, *quick))
    curves(tmp_path / "b.png", log(tmp_path / "b.jsonl", *steps[:40]))
    curves(tmp_path / "c.png", log(tmp_path / "c.jsonl"))
    signs = {"saturation": 0.1, "contrast": 0.9, "diversity_ratio": 0.7}
    drawn = [("evaluate", "student", step, {"fd": None, **signs, "seconds": float(step)}) for step in (1, 2)]
    curves(tmp_path / "d.png", log(tmp_path / "d.jsonl", *steps, *drawn), primary_metric="fd")
    with Image.open(tmp_path / "d.png") as d:
        assert d.size == (1560, 1008), "a row of panels for what spoils images"
    a, b, c = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in "abc")
    assert a.shape == b.shape == c.shape == (576, 1560, 3)
    assert not np.array_equal(a, b)
    assert not np.array_equal(b, c)


def test_steps_done_again_after_a_resume_count_once() -> None:
    events = [{"kind": "step", "phase": "student", "step": s, "data": {"loss": v, "seconds": v}}
              for s, v in ((10, 1.0), (20, 2.0), (30, 3.0), (20, 2.5), (25, 2.7))]  # fmt: skip
    steps = curves_of(events)["student"]["step"]
    assert [(each["step"], each["seconds"]) for each in steps] == [(10, 1.0), (20, 2.5), (25, 2.7)]
