"""What a student is trained on: the terms of a stage, weighted by its ratio."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from kdgen import registry
from kdgen.data.seed import derive
from kdgen.ratio import TASK, Ratio, Statistics, gradient_norms
from kdgen.recipe import Recipe, Stage
from kdgen.types import Batch, Method, Net, Objective, Sight, Task, UserError, View

Term = Method | Objective


def make_terms(recipe: Recipe, student: Net, teacher: Net | None, batch: Batch) -> dict[str, Term]:
    """What every stage adds to the loss, attached to the nets on a probe batch.

    Methods have keys ``STAGE.NUMBER.NAME``, objectives ``STAGE.own.NUMBER.NAME``.
    """
    terms: dict[str, Term] = {}
    for number, stage in enumerate(recipe.stages):
        for position, use in enumerate(stage.methods):
            assert teacher is not None, "a recipe with methods has a teacher"
            method: Method = registry.build("method", use)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive(recipe.seed, "method", number, position))
                method.attach(student, teacher, batch)
            terms[f"{number}.{position}.{use.name}"] = method
        for position, use in enumerate(stage.objectives):
            objective: Objective = registry.build("objective", use)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive(recipe.seed, "objective", number, position))
                objective.attach(student, batch)
            terms[f"{number}.own.{position}.{use.name}"] = objective
    return terms


class Loss:
    """The loss of one stage: ``(1 - alpha) * (task + sum(v_j * objective_j)) + alpha * sum(w_i * method_i)``.

    Args:
        index: number of the stage.
        stage: names the terms, their weights and the ratio.
        terms: those of all stages, as ``make_terms`` gave them.
        task: its own loss is the term called ``task``.

    Attributes:
        methods, objectives: the stage's terms by key.
        regressors, critics: parameters that learn with the student, and from ``of_critics``.
        student_paths, teacher_paths: the taps that the terms want.
        reads: which of ``student`` and ``teacher`` some term reads.
        statistics: norms of the terms' gradients, for adaptive ratios.
    """

    def __init__(self, index: int, stage: Stage, terms: Mapping[str, Term], task: Task) -> None:
        self.task = task
        self.terms = {key: term for key, term in terms.items() if key.startswith(f"{index}.")}
        self.methods = {key: term for key, term in self.terms.items() if isinstance(term, Method)}
        self.objectives = {key: term for key, term in self.terms.items() if isinstance(term, Objective)}
        self.weights = {key: use.weight for key, use in zip(self.methods, stage.methods, strict=True)}
        self.weights |= {key: use.weight for key, use in zip(self.objectives, stage.objectives, strict=True)}
        self.ratio: Ratio = registry.build("ratio", stage.ratio)
        self.statistics = Statistics(self.ratio.ema)
        self.student_paths = {path for term in self.terms.values() for path in term.student_taps}
        self.teacher_paths = {path for method in self.methods.values() for path in method.teacher_taps}
        self.reads = frozenset(name for term in self.terms.values() for name in term.reads)
        taught = self.methods and not self.ratio.adaptive and all(self.ratio(at, {}).alpha == 1 for at in (0, 0.5, 1))
        if not taught or self.student_paths:
            self.reads |= {"student"}
        self.critics = [p for term in self.terms.values() for p in term.critics()]
        criticising = {id(p) for p in self.critics}
        learned = [p for term in self.terms.values() for p in term.parameters() if id(p) not in criticising]
        self.regressors = [p for p in learned if p.requires_grad]

    def __call__(
        self, sight: Sight, within: float, step: int, *, measure: bool = True
    ) -> tuple[Tensor, dict[str, Tensor], float]:
        """The loss of a step.

        Args:
            sight: the step; a ``View`` where there are methods.
            within: progress within the stage, in [0, 1].
            step: its number, for ratios that measure every few steps.
            measure: whether such a ratio may measure now.

        Returns:
            the loss, its terms by the names they are shown under, each a mean over the batch, and alpha.

        Raises:
            UserError: where there is nothing to learn from.
        """
        losses = self._losses(sight)
        if self.ratio.adaptive and measure and (not self.statistics.norms or step % self.ratio.every == 0):
            compared = [sight.student, *(sight.student_taps[path] for path in sorted(sight.student_taps))]
            self.statistics.update(gradient_norms(losses, compared))
        weights = self.ratio(within, self.statistics.norms)

        def weighted(keys: Iterable[str]) -> list[Tensor]:
            factors = {key: self.weights.get(key, 1.0) * weights.scales.get(key, 1.0) for key in keys if key in losses}
            return [factor * losses[key] for key, factor in factors.items() if factor]

        own, transfer = weighted([TASK, *self.objectives]), weighted(self.methods)
        if not own and not transfer:
            raise UserError("this stage has no methods, and its images have no ground truth and no objectives: "
                            "nothing to learn from")  # fmt: skip
        alpha = (weights.alpha if own else 1.0) if transfer else 0.0
        parts = [(1 - alpha) * term for term in own if alpha < 1] + [alpha * term for term in transfer if alpha > 0]
        return torch.stack(parts).sum(), {_shown(key): loss for key, loss in losses.items()}, alpha

    def of_critics(self, sight: Sight) -> dict[str, Tensor]:
        """The losses of the critics on the same step, by the names they are shown under."""
        losses: dict[str, Tensor | None] = {key: term.critic_loss(sight) for key, term in self.objectives.items()}
        if isinstance(sight, View):
            losses |= {key: method.critic_loss(sight) for key, method in self.methods.items()}
        return {f"{_shown(key)}_critic": loss.mean() for key, loss in losses.items() if loss is not None}

    def _losses(self, sight: Sight) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        own = self.task.loss(sight.student, sight.batch) if "student" in self.reads else None
        if own is not None:
            losses[TASK] = _mean(own, sight.batch)
        losses |= {key: _mean(term.loss(sight), sight.batch, term.weighted) for key, term in self.objectives.items()}
        if isinstance(sight, View):
            losses |= {
                key: _mean(method.loss(sight), sight.batch, method.weighted) for key, method in self.methods.items()
            }
        return losses


def _mean(loss: Tensor, batch: Batch, weighted: bool = True) -> Tensor:
    """The mean of losses per example ``(B,)``, weighted as the batch says unless told otherwise."""
    return (batch.weight * loss).mean() if weighted and batch.weight is not None else loss.mean()


def _shown(key: str) -> str:
    """What a term is called in events: its name, with ``own_`` before it if it is an objective."""
    name = key.rpartition(".")[2]
    return f"own_{name}" if ".own." in key else name
