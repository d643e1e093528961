"""What a step of training takes of memory: the step itself, on tensors that have a shape and no content."""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from kdgen import registry
from kdgen.models.adapters.lora_base import lend
from kdgen.models.model import build_net, load
from kdgen.models.teachers import asked_together, parts_of_teachers
from kdgen.models.weightless import Folders, weightless
from kdgen.recipe import Recipe
from kdgen.tasks.abilities import opened_by
from kdgen.tasks.drawing import Drawing
from kdgen.training.teacher import Teacher
from kdgen.training.train_step import Learner
from kdgen.types import Batch, Net, Task
from kdgen.utils.devices import lay_out
from kdgen.utils.distributed import Team, blocks
from kdgen.utils.schema import Strict

CPU = torch.device("cpu")


class Footprint(Strict):
    """Bytes that the training of a recipe's student takes where it takes most."""

    teacher: int = Field(description="weights of the teacher and of others")
    task: int = Field(description="weights that the task holds by itself: an encoder's, a pipeline's")
    student: int = Field(description="weights of the student")
    masters: int = Field(description="the same in float32, where they are kept in bfloat16 beside")
    average: int = Field(description="the moving average of the student")
    terms: int = Field(description="weights of methods and objectives: discriminators, regressors")
    gradients: int = Field(description="of all that learns")
    states: int = Field(description="what optimisers keep")
    step: int = Field(description="what is left of the peak: activations above all")

    @property
    def total(self) -> int:
        """The peak."""
        return sum(self.model_dump().values())


def footprint(recipe: Recipe, folders: Folders, *, parts: int = 1, processes: int = 1) -> Footprint:
    """Count what a step of the last net of a recipe's chain takes, by its configuration alone.

    The step computes in bfloat16 unless the recipe says float32. What fragmentation and libraries take is not in it.

    Args:
        recipe: what to do.
        folders: with the configurations of models of the Hub.
        parts: how many the batch is taken in.
        processes: that share a batch; of one of them is told, which holds a slice of what lies in slices.

    Raises:
        UserError: for whatever the run itself would refuse of its nets.
    """
    with weightless(folders) as mode:
        recipe = recipe.links()[-1][1]
        task = registry.build("task", recipe.task)
        share = recipe.model_copy(update={"batch_size": -(-recipe.batch_size // processes)})
        batch, live = batch_of(task, share), Live()
        dtype = torch.float32 if recipe.precision == "float32" else torch.bfloat16
        teacher = None
        if recipe.teacher is not None:
            others = {name: load(other).net for name, other in recipe.teachers.items()}
            alone = Team()  # which holds it as it is
            opened = opened_by(task, recipe.teacher) or load(recipe.teacher)
            if not recipe.shard_teacher:
                lay_out(opened.net, dtype)  # once for all who hold its weights, a LoRA say
            lend(recipe.teacher, opened.net)
            asked = asked_together(opened.net, others, parts_of_teachers(task, recipe.guides()))
            teacher = Teacher(asked, batch, device=CPU, slices=alone)
            teacher.dtype = dtype
        student = build_net(recipe.student, task.channels, task.describe())[0]
        with live:
            probe = batch.split(-(-len(batch.x) // 2))[0]
            learner = Learner(recipe, task=task, student=student, teacher=teacher, probe=probe, device=CPU,
                              dtype=dtype, team=Team())  # fmt: skip
            learner.parts = parts
            learner.enter(0)
        held = {
            "teacher": weights_of([teacher.net] if teacher else []),
            "task": weights_of(each for each in vars(task).values() if isinstance(each, nn.Module)),
            "student": weights_of([learner.student]),
            "masters": list(learner.masters.state_dict()),
            "average": weights_of([learner.average.net]),
            "terms": weights_of([learner.module]),
        }
        counted, seen = dict[str, int](), set[int]()
        for name, tensors in held.items():
            sizes = live.count(tensors)
            counted[name] = sum(size for key, size in sizes.items() if key not in seen)  # a LoRA's base is its teacher
            seen |= sizes.keys()
        with mode, live, live.before_updates() as before:
            learner.step(batch, None, number=0, progress=0.0, retries=0)
        assert learner.optimizer is not None
        own = {"gradients": bytes_of(learner.optimizer.parameters), "states": _states(learner.optimizer.parts)}
        critics = {"gradients": bytes_of(learner.loss.critics),
                   "states": _states([learner.critics] if learner.critics else [])}  # fmt: skip
        counted |= {key: size + critics[key] for key, size in own.items()}
        # the first step has no states yet when it goes backward, all others do
        peak = max((before or [live.peak])[0] + counted["states"], live.peak)
    step = max(peak - sum(counted.values()), 0)
    if recipe.shard_student and processes > 1:
        slices = {key: counted[key] for key in ("student", "average")} | own
        counted |= {key: counted[key] - size + size // processes for key, size in slices.items()}
        step += gathered(learner.student, gradients=True)
    if recipe.shard_teacher and teacher is not None and processes > 1:
        counted["teacher"] //= processes
        step += gathered(teacher.net, gradients=False)
    return Footprint(**counted, step=step)


def gathered(net: Net, *, gradients: bool) -> int:
    """Bytes of a net in slices that are put together at a time: a block and those around it, and one in exchange."""
    sizes = {module: bytes_of(weights) for module, weights in blocks(net)}
    path = max(sum(size for around, size in sizes.items() if module in set(around.modules())) for module in sizes)
    return (2 if gradients else 1) * path + max(sizes.values())


def batch_of(task: Task, recipe: Recipe) -> Batch:
    """A batch of a task, of no content where an example is as large as what the task trains on."""
    if not isinstance(task, Drawing):
        return next(iter(task.batches(batch_size=recipe.batch_size, seed=0)))
    example = task.example()

    def many(shape: Iterable[int], dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(recipe.batch_size, *shape, dtype=dtype)

    shape = task.answer_shape(example)
    return Batch(
        x=many(example.x.shape[1:]),
        y=None if shape is None else many(shape),
        cond={name: many(value.shape[1:], value.dtype) for name, value in example.cond.items()},
    )


def weights_of(nets: Iterable[nn.Module]) -> list[Tensor]:
    """Parameters and buffers of nets."""
    return [tensor for net in nets for tensor in chain(net.parameters(), net.buffers())]


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of all of them."""
    return sum(map(num_bytes, tensors))


def _states(optimizers: Iterable[torch.optim.Optimizer]) -> int:
    return bytes_of(tree_leaves([dict(each.state) for each in optimizers]))


def num_bytes(value: Any) -> int:
    """Bytes of a tensor, of one that is made of others too; 0 of anything else."""
    if not isinstance(value, Tensor):
        return 0
    if is_traceable_wrapper_subclass(value):
        return sum(num_bytes(getattr(value, name)) for name in value.__tensor_flatten__()[0])
    return value.nbytes


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors while they live. A number that is asked of one without content is 1.

    Attributes:
        live, peak: bytes now, and the most so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What an operation gives, counted."""
        from torch._subclasses.fake_tensor import FakeTensor

        if func is torch.ops.aten._local_scalar_dense.default:
            if not isinstance(args[0], FakeTensor):  # a counter of a module's own
                with _disable_current_modes():
                    return args[0].item()
            return True if args[0].dtype == torch.bool else (1.0 if args[0].is_floating_point() else 1)
        out = func(*args, **(kwargs or {}))
        self.count(leaf for leaf in tree_leaves(out) if isinstance(leaf, FakeTensor) and leaf.device.type != "meta")
        return out

    def count(self, tensors: Iterable[Tensor]) -> dict[int, int]:
        """Bytes of each stretch of memory that tensors lie in; from now on they count while they live."""
        found = {}
        for tensor in tensors:
            storage = tensor.untyped_storage()
            found[storage._cdata] = storage.nbytes()
            if storage not in self._known:
                self._known.add(storage)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._free, storage.nbytes())
        return found

    def _free(self, size: int) -> None:
        self.live -= size

    @contextmanager
    def before_updates(self) -> Iterator[list[int]]:
        """Forget the peak; while open, it is noted whenever an optimiser begins to step."""
        self.peak, peaks = self.live, list[int]()
        handle = register_optimizer_step_pre_hook(lambda *_: peaks.append(self.peak))
        try:
            yield peaks
        finally:
            handle.remove()


__all__ = ["Footprint", "Live", "footprint"]
