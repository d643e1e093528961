"""LoRA students in the one loop: the teacher's weights are held once, the matrices alone learn and are kept."""

from pathlib import Path
from typing import Any

import pytest
import torch
from latent_pipelines import LORA, WORDS, reopened, whole
from support import drain, interrupt, trained
from torch import Tensor, nn

from kdgen.methods.few_step.distribution_matching import DistributionMatching
from kdgen.models import loading
from kdgen.models.adapters.lora import Lora
from kdgen.models.adapters.pipeline_images import image_seeds
from kdgen.models.model import load
from kdgen.recipe import Recipe, parse
from kdgen.report.report import Report
from kdgen.training import run
from kdgen.training.checkpoint import Checkpoints
from kdgen.types import UserError

pytestmark = LORA
FAST = {"num_latents": 8, "num_steps": 2, "num_images": 4, "picture": 8}


def recipe(teacher: Path, *, method: dict[str, Any] | None = None, **more: Any) -> Recipe:
    words = {} if teacher.name == "DiTPipeline" else {"prompts": ["red heart", "blue cat"]}
    return parse({
        "name": "small", "task": {"name": "latent_diffusion", "args": {"model": str(teacher), **FAST, **words}},
        "teacher": str(teacher), "student": {"name": "lora", "args": {"model": str(teacher), "rank": 2, "alpha": 8}},
        "stages": [{"methods": [method or {"name": "output"}], "ratio": {"name": "fixed", "args": {"alpha": 0.5}},
                    "lr": 0.03}],
        "steps": 3, "batch_size": 4, "cache": {"inputs": 8}, "controls": False, "precision": "float32",
        "evaluate_every": None, **more,
    })  # fmt: skip


@pytest.fixture
def teacher(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of a whole tiny pipeline."""
    whole(request.param).save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


def matrices(folder: Path) -> bytes:
    (file,) = (folder / "student").glob("*.safetensors")
    return file.read_bytes()


def addresses(*nets: nn.Module) -> dict[int, int]:
    """How many values lie at each place in memory."""
    return {p.data_ptr(): p.numel() for net in nets for p in net.parameters()}


SD, XL = "StableDiffusionPipeline", "StableDiffusionXLPipeline"
DRAWN = [pytest.param(name, marks=[WORDS, *more]) for name, more in
         ((SD, []), *((name, [pytest.mark.slow]) for name in (XL, "StableDiffusion3Pipeline", "SanaPipeline")))]  # fmt: skip


@pytest.mark.parametrize("teacher", DRAWN, indirect=True)
def test_a_lora_learns_and_plain_diffusers_draws_with_it_what_kdgen_does(teacher: Path, tmp_path: Path) -> None:
    drain(run.distill(recipe(teacher), tmp_path / "run"))
    model = load(tmp_path / "run")
    ours = model.draw(1, seed=3, num_steps=2, prompt="red heart")
    plain = reopened(teacher.name, teacher)
    called = {"prompt": ["red heart"], "num_inference_steps": 2, "output_type": "np"}
    called |= model.net.called_with(plain, 1.0)  # type: ignore[operator]

    def drawn() -> Tensor:
        (generator,) = (torch.Generator().manual_seed(seed) for seed in image_seeds(3, 1))
        return torch.from_numpy(plain(**called, generator=[generator]).images).movedim(-1, 1) * 2 - 1

    before = drawn()
    plain.load_lora_weights(tmp_path / "run" / "student")
    torch.testing.assert_close(drawn(), ours, atol=1e-4, rtol=0)
    assert (before - ours).abs().max() > 1e-3
    kept = sorted(path.relative_to(tmp_path / "run" / "student").as_posix()
                  for path in (tmp_path / "run" / "student").rglob("*") if path.is_file())  # fmt: skip
    assert kept == ["README.md", "config.json", "pytorch_lora_weights.safetensors", "scheduler/scheduler_config.json"]
    rows = {row.role: row for row in Report.read(tmp_path / "run").rows}
    own = sum(p.numel() for p in model.net.parameters() if p.requires_grad)
    assert rows["student"].num_params == rows["teacher"].num_params + own
    assert f"{own:,} were trained" in (tmp_path / "run" / "report.md").read_text()
    assert "load_lora_weights" in (tmp_path / "run" / "student" / "README.md").read_text()


@pytest.mark.parametrize(
    "teacher",
    ["DiTPipeline", pytest.param(SD, marks=[WORDS, pytest.mark.slow]),
     pytest.param("PixArtAlphaPipeline", marks=[WORDS, pytest.mark.slow])],
    indirect=True,
)  # fmt: skip
def test_one_copy_of_the_teacher_is_held_and_nothing_of_it_changes(teacher: Path, tmp_path: Path) -> None:
    made = run._Run(tmp_path / "run", recipe(teacher))
    assert made.original is not None
    learner, asked, batch = made.link.learner, made.link.teacher, made.place.probe
    assert learner is not None
    assert asked is not None
    own = [p for p in learner.student.parameters() if p.requires_grad]
    held = addresses(made.original.net, asked.net, learner.student, learner.average.net)
    assert sum(held.values()) == sum(addresses(made.original.net).values()) + 2 * sum(p.numel() for p in own)
    learner.enter(0)
    assert learner.optimizer is not None
    assert {id(p) for p in learner.optimizer.parameters} == {id(p) for p in own}
    answers = asked.answer(batch).output.clone()
    with torch.no_grad():
        assert torch.equal(learner.student.eval()(batch.x, **batch.cond), answers)
    trained(made.events())  # type: ignore[arg-type]
    assert torch.equal(asked.answer(batch).output, answers)
    assert not torch.equal(load(tmp_path / "run").net(batch.x, **batch.cond), answers)
    (state, _) = Checkpoints(tmp_path / "run" / "checkpoints" / "student").load()
    assert state is not None
    assert all("lora_" in key for part in (state["student"], state["average"]["net"]) for key in part)
    assert len(state["student"]) == len(state["optimizer"][0]["state"]) == len(own)


@pytest.mark.parametrize("teacher", ["DiTPipeline"], indirect=True)
def test_a_run_that_was_stopped_ends_with_the_same_lora(teacher: Path, tmp_path: Path) -> None:
    told = recipe(teacher, repeatable=True, checkpoint_every=1e-6)
    trained(run.distill(told, tmp_path / "whole"))
    interrupt(told, tmp_path / "run", step=1)
    trained(run.resume(tmp_path / "run"))
    assert matrices(tmp_path / "whole") == matrices(tmp_path / "run")


@pytest.mark.parametrize("teacher", ["DiTPipeline"], indirect=True)
def test_a_critic_that_starts_as_the_student_is_a_lora_too(teacher: Path, tmp_path: Path) -> None:
    args = {"model": str(teacher), "rank": 2, "alpha": 8, "scheduler": {"timestep_spacing": "trailing"}}
    told = recipe(teacher, method={"name": "distribution_matching", "args": {"critic": "student"}},
                  student={"name": "lora", "args": args}, cache={"inputs": 0})  # fmt: skip
    made = run._Run(tmp_path / "run", told)
    assert made.original is not None
    assert made.link.teacher is not None
    learner = made.link.learner
    assert learner is not None
    (method,) = learner.losses[0].methods.values()
    assert isinstance(method, DistributionMatching)
    before, own = made.original.fingerprint(), sum(p.numel() for p in learner.student.parameters() if p.requires_grad)
    nets = made.original.net, made.link.teacher.net, learner.student, learner.average.net, method.fake
    assert sum(addresses(*nets).values()) == sum(addresses(made.original.net).values()) + 3 * own
    trained(made.events())  # type: ignore[arg-type]
    assert made.original.fingerprint() == before
    up = [value for key, value in method.fake.state_dict().items() if "lora_B" in key]
    assert up
    assert all(value.any() for value in up)
    (state, _) = Checkpoints(tmp_path / "run" / "checkpoints" / "student").load()
    assert state is not None
    assert {key.rpartition(".")[2] for key in state["methods"] if "lora_" not in key} == {"count"}


@pytest.mark.parametrize("teacher", ["DiTPipeline"], indirect=True)
def test_controls_begin_alike_and_other_starts_are_refused(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    real = loading.open_folder
    monkeypatch.setattr(loading, "open_folder", lambda folder: opened.append(folder) or real(folder))
    drain(run.distill(recipe(teacher, controls=True, init="teacher"), tmp_path / "run"))
    assert opened == [teacher], "by the task, which lends it to all"
    rows = Report.read(tmp_path / "run").rows
    assert [row.role for row in rows] == ["teacher", "student", "control_steps", "control_seconds"]
    assert len({row.num_params for row in rows[1:]}) == 1
    further = recipe(teacher, init=str(tmp_path / "run"))
    start = run._Run(tmp_path / "more", further).link.learner
    assert start is not None
    assert isinstance(start.student, Lora)
    saved = load(tmp_path / "run").net.state_dict()
    assert all(torch.equal(value, saved[key]) for key, value in start.student.state_dict().items())
    with pytest.raises(UserError, match="lora cannot start from DiTPipeline: a copy is of the same net"):
        run._Run(tmp_path / "more", recipe(teacher, init="copy"))
