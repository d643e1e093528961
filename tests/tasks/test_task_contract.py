"""What stands in a task's own file is what all other rooms do for it: no room knows tasks by their names."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kdgen
import kdgen.training.registered
from kdgen import registry
from kdgen.data.photographs import Photographs
from kdgen.hub.gallery import gallery
from kdgen.models.config import Config
from kdgen.models.model import Model
from kdgen.registry import Spec
from kdgen.report.compare import Contender, assess
from kdgen.report.model_card import card
from kdgen.tasks import Denoise, Generate
from kdgen.types import Batch, Metrics, Net, Task
from kdgen.ui import comparing

SOURCES = Path(kdgen.__file__).parent
TASKS = [name for name in registry.names("task") if registry.get("task", name).__module__.startswith("kdgen.")]


class Enlarge(Task):
    """Images twice as large."""

    pipeline_tag = "image-to-image"
    channels, equivariant, quick_eval_images, needs = 1, True, 1, frozenset[str]()
    primary_metric = taught_primary_metric = "psnr"

    def example(self) -> Batch:
        return Batch(x=torch.zeros(1, 1, 16, 16))

    def answer_shape(self, batch: Batch) -> tuple[int, ...]:
        return 1, 2 * batch.x.shape[-2], 2 * batch.x.shape[-1]

    def evaluation_images(self, *, seed: int = 0, limit: int | None = None) -> Iterator[tuple[str, Batch]]:
        y = next(Photographs().images(1))[1][..., :64, :64]
        yield "crop", Batch(x=F.avg_pool2d(y, 2), y=y)

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        ((_, batch),) = self.evaluation_images()
        assert batch.y is not None
        return {"psnr": -10 * float(((net(batch.x).detach() - batch.y) / 2).square().mean().log10())}

    def describe_evaluation(self, *, reference: Net | None = None, seed: int = 0) -> str:
        return "Measured on a crop."

    def describe(self) -> dict[str, Any]:
        return {"name": "enlarge"}

    @classmethod
    def degrade(cls, images: Tensor, facts: Any, *, random: torch.Generator, **how: float) -> Batch:
        return Batch(x=F.avg_pool2d(images, 2), y=images)

    @classmethod
    def limits(cls, facts: Any) -> str:
        return "It enlarges by 2 and by nothing else."


class Repeat(nn.Module):
    """Each pixel four times."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x * self.gain, scale_factor=2)


@pytest.fixture
def enlarge(monkeypatch: pytest.MonkeyPatch) -> Enlarge:
    monkeypatch.setitem(registry._registered["task"], "enlarge", Enlarge)
    return Enlarge()


@pytest.mark.parametrize("name", TASKS)
def test_no_room_knows_a_task_by_its_name(name: str) -> None:
    literal = re.compile(rf"""["']{name}["']""")
    others = [path for path in SOURCES.rglob("*.py") if not {"tasks", "presets"} & set(path.parts)]
    known = {path.name for path in others if literal.search(path.read_text(encoding="utf-8"))}
    # the default of a model that does not say, an example in a description, and the preset that the interface begins with
    assert known <= {"denoise": {"task.py", "api.py"}, "generate": {"parts.py"}}.get(name, set())


@pytest.mark.parametrize("name", TASKS)
def test_every_task_states_the_contract(name: str) -> None:
    task = registry.get("task", name)
    assert isinstance(task, type)
    assert Task in task.__mro__
    assert task.limits({}).endswith(".")
    assert (task.draws is None) == (task.draw_model.__func__ is Task.draw_model.__func__)  # type: ignore[attr-defined]
    assert task.usual_preset is None or task.usual_preset.replace("-", "_") in registry.names("preset")
    assert set(task.usual_methods) <= {*registry.names("method"), *registry.names("objective")}
    assert set(task.alike) <= set(registry.names("task"))


def test_the_baseline_is_the_input_or_the_input_enlarged() -> None:
    x = torch.rand(2, 1, 8, 8)
    assert Denoise().baseline(Batch(x=x)) is x
    enlarged = Enlarge().baseline(Batch(x=x))
    assert enlarged is not None
    assert torch.equal(enlarged, F.interpolate(x, (16, 16), mode="bicubic", antialias=True))
    assert Generate(latent=4).baseline(Batch(x=torch.rand(2, 4))) is None


def test_the_baseline_of_videos_is_enlarged_frame_by_frame() -> None:
    class Videos(Enlarge):
        def answer_shape(self, batch: Batch) -> tuple[int, ...]:
            return *batch.x.shape[1:-2], 16, 16

    x = torch.rand(2, 3, 5, 8, 8)
    enlarged = Videos().baseline(Batch(x=x))
    assert enlarged is not None
    assert torch.equal(enlarged[1, 2], F.interpolate(x[1, 2][None], (16, 16), mode="bicubic", antialias=True)[0])


def test_a_task_of_larger_answers_is_reported_with_its_baseline(enlarge: Enlarge) -> None:
    report = assess(enlarge, [Contender(role="student", name="repeat", net=Repeat(), label="repeat")], title="enlarge")
    first, second = report.rows
    assert (first.role, first.name) == ("input", "input")
    assert first.metrics["psnr"] > second.metrics["psnr"], "bicubic beats repeated pixels"


def test_a_task_of_the_users_own_stands_on_the_card_and_in_the_pictures(enlarge: Enlarge, tmp_path: Path) -> None:
    model = Model(Repeat(), name="repeat", channels=1, task=enlarge.describe())
    config = Config(kdgen="0", name="repeat", net=Spec(name="repeat"), channels=1, task=model.task)
    assert "It enlarges by 2 and by nothing else." in card(None, None, config=config)
    gallery(model, tmp_path / "gallery.png")
    assert (tmp_path / "gallery.png").is_file()
    options = comparing.Options(sigma=25, seed=0, num_images=1, num_steps=1)
    shown = comparing.on_photograph({"repeat": model}, next(iter(comparing.photographs().values())), options)
    assert shown.largest > 0


def test_a_task_of_the_users_own_says_how_models_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flat(Task):
        draws = "latents"
        needed_facts = ("shade",)

        @classmethod
        def draw_model(cls, net: Net, facts: Any, num_images: int, **how: Any) -> Tensor:
            return torch.full((num_images, facts["channels"], 4, 4), facts["shade"])

    monkeypatch.setitem(registry._registered["task"], "flat", Flat)
    model = Model(Repeat(), name="flat", channels=3, task={"name": "flat", "shade": 0.5})
    assert torch.equal(model.draw(2), torch.full((2, 3, 4, 4), 0.5))
    with pytest.raises(kdgen.UserError, match=r"shade it draws with: declare task\.shade"):
        Model(Repeat(), name="flat", channels=3, task={"name": "flat"}).draw(2)


def test_loading_a_model_by_the_public_name_knows_its_task() -> None:
    code = "import kdgen; print(kdgen.load('gan').draw(1).shape, kdgen.load('vae#decoder').task['name'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "decode"
