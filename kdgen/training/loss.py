"""What a student is trained on: the terms of a stage, weighted by its ratio."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kdgen import registry
from kdgen.models.teachers import answering, part_of, path_of
from kdgen.recipe import Recipe, Stage
from kdgen.registry import Spec
from kdgen.training.guides import Guide, Panel
from kdgen.training.loss_weighting import TASK, Ratio, Statistics, gradient_norms
from kdgen.types import (
    ROLE_WORDS,
    Batch,
    DistillationInputs,
    LossInputs,
    Method,
    Net,
    Objective,
    Task,
    UserError,
    text,
)
from kdgen.utils.hooks import NoLayer
from kdgen.utils.seed import derive

Term = Method | Objective


def make_losses(recipe: Recipe, task: Task, student: Net, teacher: Net | None, batch: Batch) -> list["Loss"]:
    """The loss of every stage, its terms attached to the nets on a probe batch.

    Raises:
        UserError: for a term that does not fit, and for terms that their stage's ratio never lets count.
    """
    ratios: list[Ratio] = [registry.build("ratio", stage.ratio) for stage in recipe.stages]
    for number, (stage, ratio) in enumerate(zip(recipe.stages, ratios, strict=True)):
        check_ratio(number, stage, ratio)
    terms, guides = _make_terms(recipe, task, student, teacher, batch)
    return [Loss(number, stage, terms, guides, task, ratio)
            for number, (stage, ratio) in enumerate(zip(recipe.stages, ratios, strict=True))]  # fmt: skip


def _make_terms(
    recipe: Recipe, task: Task, student: Net, teacher: Net | None, batch: Batch
) -> tuple[dict[str, Term], dict[str, Guide]]:
    """Methods by keys ``STAGE.NUMBER.NAME``, objectives by ``STAGE.own.NUMBER.NAME``; what guides the methods."""
    terms, guides = dict[str, Term](), dict[str, Guide]()
    for number, stage in enumerate(recipe.stages):
        for position, use in enumerate(stage.methods):
            assert teacher is not None, "a recipe with methods has a teacher"
            method: Method = registry.build("method", use)
            key = f"{number}.{position}.{use.name}"
            guide = Guide(path_of(teacher, use.teacher), part_of(task, use.teacher, use.part))
            own, seen = teacher.get_submodule(guide.path), guide.seen(task, batch)
            with torch.random.fork_rng(devices=[]), _named(f"stages.{number}.methods.{position}", use, own):
                torch.manual_seed(derive(recipe.seed, "method", number, position))
                with answering(student, task, guide.part):
                    method.attach(student, own, seen)
            terms[key], guides[key] = method, guide
        for position, own_use in enumerate(stage.objectives):
            objective: Objective = registry.build("objective", own_use)
            with torch.random.fork_rng(devices=[]), _named(f"stages.{number}.objectives.{position}", own_use, teacher):
                torch.manual_seed(derive(recipe.seed, "objective", number, position))
                objective.attach(student, batch)
            terms[f"{number}.own.{position}.{own_use.name}"] = objective
    return terms, guides


def check_ratio(number: int, stage: Stage, ratio: Ratio) -> None:
    """Refuse terms that never count. Raises UserError naming the key of the ratio."""
    least, largest = ratio.bounds()
    methods, objectives = ([use.name for use in uses if use.weight] for uses in (stage.methods, stage.objectives))
    if methods and objectives and least == 1:
        raise UserError(text("objectives_never_count", "stages.{stage}.ratio, {ratio}, leaves alpha at 1, so that the "
                             "objectives of that stage ({names:, }) would never count: lower its alpha, say to 0.9, "
                             "or leave them out", stage=number, ratio=str(stage.ratio), names=objectives))  # fmt: skip
    if methods and largest == 0:
        raise UserError(text("methods_never_count", "stages.{stage}.ratio, {ratio}, leaves alpha at 0, so that the "
                             "methods of that stage ({names:, }) would never count: raise its alpha, or leave them "
                             "out", stage=number, ratio=str(stage.ratio), names=methods))  # fmt: skip


@contextmanager
def _named(key: str, use: Spec, teacher: Net | None) -> Iterator[None]:
    """Errors of a term say which key of the recipe it stands at, and whose a missing layer is."""
    try:
        yield
    except NoLayer as error:
        owner = text("the_role", "the {role}", role=ROLE_WORDS["teacher" if error.net is teacher else "student"])
        raise UserError(text("layer_of_part", "{key} ({name}) names a layer of {owner}, and {error}", key=key,
                             name=use.name, owner=owner, error=error.text)) from None  # fmt: skip
    except UserError as error:
        raise UserError(text("part_refused", "{key} ({name}): {error}", key=key, name=use.name,
                             error=error.text)) from None  # fmt: skip


class Loss:
    """The loss of one stage: ``(1 - alpha) * (task + sum(v_j * objective_j)) + alpha * sum(w_i * method_i)``.

    Where there is nothing beside the methods alpha is 1, without methods it is 0; a stage without truth has no task in
    it. A term whose factor is 0 is neither computed nor shown, and its critics rest.

    Args:
        index: number of the stage.
        stage: names the terms, their weights and the ratio.
        terms: those of all stages.
        guides: of each method its teacher, and the part of the task that it is about.
        task: its own loss is the term called ``task``.
        ratio: between the methods and the rest.

    Attributes:
        own: the stage's terms by key.
        methods, objectives, terms: those with a weight; both together.
        regressors, critics: parameters that learn with the student, and from ``discriminator_losses``.
        student_paths, teacher_paths: the layers that the terms want.
        reads: which of the outputs of ``student`` and ``teacher`` are to be computed.
        statistics: norms of the terms' gradients, for adaptive ratios.
        compared: the weights of the student at whose gradients an adaptive ratio looks.
    """

    def __init__(
        self, index: int, stage: Stage, terms: Mapping[str, Term], guides: Mapping[str, Guide], task: Task, ratio: Ratio
    ) -> None:
        self.guides, self.task, self.ratio, self.name, self.truth = guides, task, ratio, stage.name, stage.truth
        own = self.own = {key: term for key, term in terms.items() if key.startswith(f"{index}.")}
        methods = {key: term for key, term in own.items() if isinstance(term, Method)}
        objectives = {key: term for key, term in own.items() if isinstance(term, Objective)}
        self.weights = {key: use.weight for key, use in zip(methods, stage.methods, strict=True)}
        self.weights |= {key: use.weight for key, use in zip(objectives, stage.objectives, strict=True)}
        self.methods = {key: method for key, method in methods.items() if self.weights[key]}
        self.objectives = {key: objective for key, objective in objectives.items() if self.weights[key]}
        self.terms: dict[str, Term] = {**self.methods, **self.objectives}
        self.panel = Panel(stage.weighting, {key: guides[key] for key in self.methods}, task)
        self.begin()
        self.student_paths = {path for term in self.terms.values() for path in term.student_layers}
        self.teacher_paths = self._paths(self.methods)
        self.reads = self.panel.reads.union(*(term.reads for term in self.terms.values()))
        if self.student_paths or (self.truth and (not self.methods or self.ratio.bounds()[0] < 1)):
            self.reads |= {"student"}
        self.critics = [p for term in self.terms.values() for p in term.critics()]
        criticising = {id(p) for p in self.critics}
        learned = [p for term in self.terms.values() for p in term.parameters() if id(p) not in criticising]
        self.regressors: list[nn.Parameter] = [p for p in learned if p.requires_grad]

    @property
    def all_teacher_paths(self) -> set[str]:
        """The teachers' layers that its methods want, those with no weight too."""
        return self._paths({key: term for key, term in self.own.items() if isinstance(term, Method)})

    def _paths(self, methods: Mapping[str, Method]) -> set[str]:
        """What methods read inside the net that is asked: layers, and the outputs of teachers that are not its own."""
        paths = {self.guides[key].within(path) for key, each in methods.items() for path in each.teacher_layers}
        asked = {self.guides[key] for key, each in methods.items() if "teacher" in each.reads} | self.panel.asked
        return paths | {guide.path for guide in asked if guide.of_other}

    @property
    def lives(self) -> dict[str, tuple[float, float]]:
        """Between what the losses of methods normally lie whose value says little, by shown names."""
        return {_shown(key): method.lives for key, method in self.methods.items() if method.lives is not None}

    @property
    def mutes_truth(self) -> bool:
        """Whether methods are all that counts, however the ratio moves."""
        alone = not self.truth and not self.objectives
        return bool(self.methods) and (alone or self.ratio.bounds()[0] == 1)

    def begin(self, compared: Sequence[Tensor] = ()) -> None:
        """Begin the stage: nothing was measured of its gradients yet; they are those at these weights."""
        self.statistics, self.compared = Statistics(self.ratio.ema), compared

    def __call__(
        self, inputs: LossInputs, within: float, step: int, *, measure: bool = True
    ) -> tuple[Tensor | None, dict[str, Tensor], float]:
        """The loss of a step.

        Args:
            inputs: the step; a ``DistillationInputs`` where there are methods.
            within: progress within the stage, in [0, 1].
            step: its number, for ratios that measure every few steps.
            measure: whether such a ratio may measure now.

        Returns:
            the loss, None where all terms that count say that the student is not to learn from this step; its terms by
            the names they are shown under, each a mean over the batch; and alpha.

        Raises:
            UserError: where there is nothing to learn from.
        """
        losses, alpha = self._losses(inputs, self._alpha(within))
        if self.ratio.adaptive and measure and self.statistics.due(losses, step, self.ratio.every):
            self.statistics.update(gradient_norms(losses, self.compared), step)
        scales = self.ratio(within, self.statistics.norms).scales

        def factor(key: str) -> float:
            share = alpha if key in self.methods else 1 - alpha
            return share * self.weights.get(key, 1.0) * scales.get(key, 1.0)

        parts = [factor(key) * loss for key, loss in losses.items()]
        total = torch.stack(parts).sum() if parts else None
        return total, {_shown(key): loss for key, loss in losses.items()}, alpha

    def discriminator_losses(self, inputs: LossInputs, alpha: float) -> dict[str, Tensor]:
        """The losses of the critics on the same step, by the names they are shown under."""
        losses: dict[str, Tensor | None] = {}
        if alpha < 1:
            losses |= {key: term.discriminator_loss(inputs) for key, term in self.objectives.items()}
        if alpha > 0:
            losses |= {key: method.discriminator_loss(self._view(inputs, key)) for key, method in self.methods.items()}
        return {f"{_shown(key)}_critic": loss.mean() for key, loss in losses.items() if loss is not None}

    def _alpha(self, within: float) -> float:
        return self.ratio(within, self.statistics.norms).alpha if self.methods else 0.0

    def _losses(self, inputs: LossInputs, alpha: float) -> tuple[dict[str, Tensor], float]:
        """The terms that count and have something to say, means over the batch, and alpha by what there is."""
        losses: dict[str, Tensor | None] = {}
        if alpha < 1:
            truth = self.task.loss(inputs.student, inputs.batch) if self.truth else None
            losses = {} if truth is None else {TASK: _mean(truth, inputs.batch, True)}
            losses |= {
                key: _mean(term.loss(inputs), inputs.batch, term.weighted) for key, term in self.objectives.items()
            }
            alpha = alpha if losses else 1.0
        if alpha > 0:
            shares = self.panel(inputs)
            losses |= {
                key: _mean(method.loss(self._view(inputs, key)), inputs.batch, method.weighted, shares.get(key))
                for key, method in self.methods.items()
            }
        if not losses:
            raise UserError(text("nothing_to_learn", "this stage has no methods, and its images have no ground truth "
                                 "and no objectives: nothing to learn from"))  # fmt: skip
        return {key: loss for key, loss in losses.items() if loss is not None}, alpha

    def _view(self, inputs: LossInputs, key: str) -> DistillationInputs:
        """A step as a method sees it."""
        assert isinstance(inputs, DistillationInputs), "a step of a stage with methods has a teacher"
        return self.guides[key].view(inputs, self.task)


def _mean(loss: Tensor | None, batch: Batch, weighted: bool, shares: Tensor | None = None) -> Tensor | None:
    """The mean of losses per example ``(B,)``, weighted as the batch says where they are errors of outputs.

    ``shares`` ``(B,)`` say how much each example counts beside that.
    """
    if loss is None:
        return None
    loss = loss if shares is None else shares * loss
    return (batch.weight * loss).mean() if weighted and batch.weight is not None else loss.mean()


def _shown(key: str) -> str:
    """What a term is called in events: its name, with ``own_`` before it if it is an objective."""
    name = key.rpartition(".")[2]
    return f"own_{name}" if ".own." in key else name
