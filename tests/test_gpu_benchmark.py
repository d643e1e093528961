"""The benchmark for GPUs, run whole where there is none."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
FAULTY = '''
from kdgen.registry import register
from kdgen.types import Method


@register("method")
class Breaks(Method):
    """Cannot be computed."""

    def loss(self, view):
        raise RuntimeError("broken on purpose")


@register("method")
class Drifts(Method):
    """Is another with every net that it meets."""

    met = 0

    def attach(self, student, teacher, batch):
        Drifts.met += 1
        self.scale = Drifts.met

    def loss(self, view):
        return self.scale * (view.student - view.teacher).square().mean((1, 2, 3))
'''


def benchmark(out: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, results and output of the command."""
    command = [sys.executable, "benchmarks/gpu.py", "--quick", "--limit", "3000", "--out", str(out), *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert (out / "gpu.json").exists(), done.stderr
    return done.returncode, json.loads((out / "gpu.json").read_text()), done.stdout


def ended(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {row["name"]: row["status"] for row in rows}


@pytest.mark.slow
def test_the_whole_of_it_runs_without_a_gpu(tmp_path: Path) -> None:
    code, told, said = benchmark(tmp_path, "--device", "cpu")
    assert code == 0, said
    parts = {part: [row for row in told["rows"] if row["part"] == part] for part in ("methods", "runs", "speed",
                                                                                    "pipelines", "presets")}  # fmt: skip
    assert ended(parts["methods"])["method output"] == "ok"
    assert ended(parts["runs"])["resumed on the CPU"] == "ok"
    assert next(row for row in parts["speed"] if row["name"] == "gan, float32, kdgen")["figures"]["steps/s"] > 0
    assert set(ended(parts["speed"]).values()) <= {"ok", "absent"}
    assert ended(parts["pipelines"])["LoRA by DMD2"] == "ok"
    assert [row["name"] for row in parts["presets"]] == ["gan-gpu", "diffusion-gpu"]
    assert told["machine"]["threads"] == 1
    table = (tmp_path / "table.md").read_text()
    assert table in said
    assert table.count("\n| ") == len(told["rows"]) + 1


def test_what_fails_or_is_off_is_a_row_and_an_exit_code(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    code, told, said = benchmark(tmp_path, "--device", "cpu", "--only", "methods", "--start", "spawn",
                                 "--code", f"{tmp_path}/faulty.py")  # fmt: skip
    known = ended(told["rows"])
    assert code == 1
    assert known.pop("method breaks") == "failed"
    assert known.pop("method drifts") == "off"
    assert set(known.values()) == {"ok"}
    assert "| methods | method breaks | failed | RuntimeError: broken on purpose |" in said
