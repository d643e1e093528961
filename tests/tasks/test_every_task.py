"""What every registered task keeps to, small and with every value that the types of its arguments name."""

import inspect
import os
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, get_type_hints

import documented
import numpy as np
import pytest
import torch
from latent_pipelines import whole
from torch import Tensor, nn

import kdgen.training.registered  # noqa: F401
from kdgen import registry
from kdgen.models.model import Model, load
from kdgen.registry import Spec
from kdgen.tasks.compatibility import check_fit
from kdgen.tasks.parties import Party
from kdgen.types import Batch, Task, UserError
from kdgen.utils.references import Names

MODELS = ("denoiser", "gan", "diffusion", "vae", "vae#encoder", "vae#decoder")
CLASSES = 3


@cache
def model(name: str) -> Model:
    return load(name).eval()


@cache
def references() -> tuple[str, ...]:
    """The bundled models, and a tiny pipeline of latents that is told a class."""
    folder = Path(os.environ["HF_HOME"]) / "pipeline-of-classes"
    whole("DiTPipeline").save_pretrained(folder)
    return (*MODELS, str(folder))


class Answer(nn.Module):
    """Answers in the shape that a task wants, with values that follow the input a little."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.bias = task, nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        shape = self.task.answer_shape(Batch(x=x))
        assert shape is not None
        mean = x.flatten(1).mean(1).view(-1, *[1] * len(shape))
        return mean * torch.linspace(0, 1, shape[-1]).expand(1, *shape) + self.bias


def write_idx(path: Path, values: np.ndarray[Any, Any]) -> Path:
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
                     + values.astype(np.uint8).tobytes())  # fmt: skip
    return path


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Arguments that name images: labelled ones to train and to evaluate on, a model's with their noise, none."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    images = write_idx(folder / "images", random.integers(0, 255, (40, 16, 16)))
    labels = write_idx(folder / "labels", np.arange(40) % CLASSES)
    data = {"name": "idx", "args": {"images": str(images), "labels": str(labels)}}
    drawn = {"name": "rollouts", "args": {"model": "diffusion", "num_images": 4, "num_steps": 2}}
    return [{"images": data, "evaluate": data}, {"images": data}, {"images": data, "num_classes": CLASSES},
            {"images": drawn, "size": 32}, {},
            {"tasks": {"restore": {"name": "denoise"}, "classify": {"name": "classify", "args": {
                "images": data, "channels": 1, "patch": 16}}}}]  # fmt: skip


def required(name: str) -> Iterator[dict[str, Any]]:
    """Arguments without default: those that name a model, by each of the bundled ones and a pipeline."""
    thing: Any = registry.get("task", name)
    hints = get_type_hints(thing.__init__, include_extras=True)
    missing = [key for key, p in inspect.signature(thing).parameters.items() if p.default is p.empty]
    named = [key for key in missing if any(isinstance(each, Names) and each.what == "model"
                                           for each in getattr(hints[key], "__metadata__", ()))]  # fmt: skip
    assert missing == named, f"{name} has an argument without default that names no model: say here what it may be"
    for reference in references() if missing else ("",):
        yield dict.fromkeys(missing, reference)


_built: dict[str, tuple[Task, Spec]] = {}


def builds(name: str, args: Mapping[str, Any], sources: list[dict[str, Any]]) -> tuple[Task, Spec]:
    """The task with the first images and models that it takes; it refuses others in one line."""
    key = repr((name, args))
    if key not in _built:
        _built[key] = _first_built(name, args, sources)
    return _built[key]


def _first_built(name: str, args: Mapping[str, Any], sources: list[dict[str, Any]]) -> tuple[Task, Spec]:
    refusals = []
    for more in sources:
        if not all(registry.accepts("task", name, key) for key in more):
            continue
        for models in required(name):
            spec = Spec(name=name, args={**documented.shrunk("task", name), "num_images": 12, **more, **models, **args})
            spec = Spec(name=name, args=registry.accepted("task", name, spec.args))
            try:
                task: Task = registry.build("task", spec)
                next(iter(task.batches(batch_size=2, seed=0)))
            except UserError as error:
                refusals.append(str(error))
            else:
                if not models or next(nets(task, spec), None) is not None:
                    assert not any("\n" in refusal for refusal in refusals)
                    return task, spec
    raise AssertionError(f"{name} {args} was never built: {refusals}")


def nets(task: Task, spec: Spec) -> Iterator[nn.Module]:
    """Nets that fit a task: the bundled ones and one that gives any shape; others are refused in one line."""
    batch = next(iter(task.batches(batch_size=2, seed=0)))
    shape = task.answer_shape(batch)
    made = [Answer(task)] if shape is not None else []
    for net in (*made, *(model(name).net for name in references())):
        try:
            check_fit(Spec(name=spec.name), task, [batch], [Party(called="a net", net=net)])
        except UserError:
            continue
        yield net


def tensors(batch: Batch) -> list[Tensor]:
    told = [t for each in batch.conditions().values() for t in each.values()]
    return [t for t in (batch.x, batch.teacher_x, batch.y, batch.real, batch.weight, *told) if t is not None]


def same(ours: Batch, theirs: Batch) -> bool:
    return ours.cond.keys() == theirs.cond.keys() and all(map(torch.equal, tensors(ours), tensors(theirs)))


@pytest.mark.parametrize("name", documented.own("task"))
def test_every_task_declares_all_of_the_contract(name: str, sources: list[dict[str, Any]]) -> None:
    task, _ = builds(name, {}, sources)
    assert isinstance(task, Task)
    assert task.channels in (1, 3)
    assert task.quick_eval_images > 0
    assert registry.summary("task", name).endswith(".")


@pytest.mark.parametrize(("name", "args"), documented.cases("task"), ids=documented.label)
def test_batches_depend_on_seed_and_number_alone(
    name: str, args: dict[str, Any], sources: list[dict[str, Any]]
) -> None:
    task, spec = builds(name, args, sources)
    again: Task = registry.build("task", spec)
    first = list(islice(task.batches(batch_size=2, seed=3), 3))
    assert same(first[2], next(iter(again.batches(batch_size=2, seed=3, start=2))))
    assert not torch.equal(first[0].x, first[1].x)
    assert not torch.equal(first[0].x, next(iter(again.batches(batch_size=2, seed=4))).x)
    assert task.fingerprint() == again.fingerprint()
    anew = [task.resample_noise(first[0], seed=seed) for seed in (1, 1, 2)]
    assert same(anew[0], anew[1])
    assert all(len(t) == 2 for t in tensors(anew[2]))
    example = task.example()
    assert len(example.x) == 1
    assert example.x.shape[1] in {batch.x.shape[1] for batch in first}


@pytest.mark.parametrize(("name", "args"), documented.cases("task"), ids=documented.label)
def test_what_a_task_says_of_itself_builds_it_again(
    name: str, args: dict[str, Any], sources: list[dict[str, Any]]
) -> None:
    task, spec = builds(name, args, sources)
    known = dict(task.describe())
    told = {**known, **({"patch": known["size"]} if "size" in known else {})}
    again: Task = registry.build("task", Spec(name=name, args={**spec.args, **registry.accepted("task", name, told)}))
    assert again.describe() == known


@pytest.mark.parametrize("name", documented.own("task"))
def test_every_task_measures_a_net_the_same_twice_and_says_how(name: str, sources: list[dict[str, Any]]) -> None:
    task, spec = builds(name, {}, sources)
    fitting = list(nets(task, spec))
    assert fitting, f"none of the nets fits the task {name}"
    net = fitting[0]
    reference = fitting[-1]
    taught, own = task.taught_primary_metric, task.primary_metric
    figures = [task.evaluate(net, reference=reference, limit=2) for _ in range(2)]
    assert figures[0] == figures[1]
    assert figures[0]
    of_many = own.startswith(("fd_", "fid"))  # distances between distributions are not measured on two images
    assert of_many or {taught, own} & set(figures[0]), figures[0].keys()
    assert task.describe_evaluation(reference=reference).endswith(".")
