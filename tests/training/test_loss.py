"""The loss of a stage: its terms, how they are weighted, and what its critics want."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import kdgen.methods
import kdgen.objectives
import kdgen.presets  # noqa: F401
from kdgen import registry
from kdgen.models.loading import is_teacher_file
from kdgen.recipe import Recipe, parse
from kdgen.training.loss import Loss, check_ratio, make_losses
from kdgen.types import Batch, DistillationInputs, LossInputs, Method, Objective, Task, UserError


class Brightness(Objective):
    """Be as dark as can be: the mean of each image."""

    def loss(self, inputs: LossInputs) -> Tensor:
        return inputs.student.flatten(1).mean(1)


class Watched(Objective):
    """Please a critic: one factor that learns from how far it is from 2; beside it a regressor that learns not."""

    def attach(self, student: nn.Module, batch: Batch) -> None:
        self.critic = nn.Parameter(torch.rand(()))
        self.regressor = nn.Parameter(torch.zeros(()))
        self.fixed = nn.Parameter(torch.zeros(()), requires_grad=False)

    def critics(self):
        return iter([self.critic])

    def loss(self, inputs: LossInputs) -> Tensor:
        return self.critic.detach() * inputs.student.flatten(1).mean(1)

    def discriminator_loss(self, inputs: LossInputs) -> Tensor:
        return (self.critic - 2).square().expand(len(inputs.student))


class Distant(Method):
    """Ten times the squared distance to the teacher."""

    weighted = True

    def loss(self, inputs: DistillationInputs) -> Tensor:
        return 10 * (inputs.student - inputs.teacher).square().flatten(1).mean(1)


class Truth(Task):
    """A task with ground truth, or without."""

    def __init__(self, known: bool = True) -> None:
        self.known = known

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        return (out - batch.y).square().flatten(1).mean(1) if self.known else None


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"objective": {"brightness": Brightness, "watched": Watched}, "method": {"distant": Distant}}
    for kind, things in kinds.items():
        monkeypatch.setitem(registry._registered, kind, {**registry._registered[kind], **things})


def make(stage: dict[str, object], *, known: bool = True, index: int = 0, seed: int = 0) -> Loss:
    recipe = recipe_of(stage, seed=seed)
    probe = Batch(x=torch.zeros(2, 1, 4, 4))
    return make_losses(recipe, Truth(known), nn.Identity(), nn.Identity(), probe)[index]  # type: ignore[arg-type]


def recipe_of(*stages: dict[str, object], seed: int = 0) -> Recipe:
    return parse({"name": "r", "task": {"name": "denoise"}, "teacher": "t", "student": {"name": "dncnn"}, "steps": 1,
                  "stages": stages, "seed": seed})  # fmt: skip


def inputs(*values: float, weight: Tensor | None = None, taught: bool = True) -> LossInputs:
    """Flat images of these values; the truth is 0 and the teacher says 1."""
    x = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).clone().requires_grad_()
    batch = Batch(x=x.detach(), y=torch.zeros_like(x), weight=weight)
    seen = {"batch": batch, "student_output": x, "student_features": {}, "student_net": nn.Identity()}
    if not taught:
        return LossInputs(**seen)
    return DistillationInputs(**seen, teacher_output=torch.ones_like(x), teacher_features={}, teacher_net=nn.Identity(),
                student_ema=nn.Identity())  # fmt: skip


HALF = {"name": "fixed", "args": {"alpha": 0.5}}
TWO = {"methods": [{"name": "distant", "weight": 3}], "objectives": [{"name": "brightness", "weight": 0.5}],
       "ratio": HALF}  # fmt: skip


def test_the_loss_is_what_its_formula_says() -> None:
    loss, terms, alpha = make({**TWO, "ratio": {"name": "fixed", "args": {"alpha": 0.25}}})(inputs(2.0, 4.0), 0.0, 0)
    assert alpha == 0.25
    assert {key: value.item() for key, value in terms.items()} == {
        "task": 10.0, "own_brightness": 3.0, "distant": 50.0,
    }  # fmt: skip
    assert loss.item() == pytest.approx(0.75 * (10 + 0.5 * 3) + 0.25 * 3 * 50)


def test_alpha_follows_what_there_is() -> None:
    moving = {"name": "linear", "args": {"start": 1, "end": 0.2}}
    made = make({**TWO, "ratio": moving})
    assert [made(inputs(2.0), within, 0)[2] for within in (0, 0.5, 1)] == pytest.approx([1.0, 0.6, 0.2])
    assert make({"methods": [{"name": "distant"}], "ratio": HALF}, known=False)(inputs(2.0), 0, 0)[2] == 1.0
    assert make({"objectives": [{"name": "brightness"}], "ratio": HALF})(inputs(2.0, taught=False), 0, 0)[2] == 0.0
    loss, _, alpha = make({"methods": [{"name": "distant", "weight": 0}]})(inputs(2.0), 0, 0)
    assert (loss.item(), alpha) == (4.0, 0.0)


@pytest.mark.parametrize("stage", [{}, {"objectives": [{"name": "brightness", "weight": 0}]}])
def test_nothing_to_learn_from_is_refused_in_one_line(stage: dict[str, object]) -> None:
    with pytest.raises(UserError, match="nothing to learn from") as refused:
        make(stage, known=False)(inputs(2.0, taught=False), 0.0, 0)
    assert "\n" not in str(refused.value)


def test_a_batch_weighs_squared_errors_of_outputs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = inputs(2.0, 4.0, weight=torch.tensor([1.0, 0.0]))
    _, terms, _ = make(TWO)(seen, 0.0, 0)
    assert [value.item() for value in terms.values()] == [4 / 2, (2 + 4) / 2, 10 / 2]
    monkeypatch.setattr(Distant, "weighted", False)
    _, terms, _ = make(TWO)(seen, 0.0, 0)
    assert [value.item() for value in terms.values()] == [4 / 2, (2 + 4) / 2, (10 + 90) / 2]


def test_of_all_terms_the_square_of_output_alone_is_weighted() -> None:
    known = {name: registry.build("method", registry.Spec(name=name)) for name in registry.names("method")}
    weighted = {name for name, method in known.items() if method.weighted and type(method) is not Distant}
    assert weighted == {"output"}
    assert not registry.build("method", registry.Spec(name="output", args={"loss": "l1"})).weighted
    assert not any(registry.get("objective", name).weighted for name in registry.names("objective"))


def test_adaptive_scaling_makes_gradients_alike() -> None:
    adaptive = {"name": "adaptive", "args": {"alpha": 0.5, "every": 3, "ema": 0}}
    made, seen = make({**TWO, "ratio": adaptive}), inputs(3.0)
    made.compared = [seen.student]
    loss, _, _ = made(seen, 0.0, 0)
    assert loss is not None
    shares = {"task": 6 / 16, "0.own.0.brightness": 1 / 16, "0.0.distant": 40 / 16}
    assert made.statistics.norms == pytest.approx({key: 4 * share for key, share in shares.items()})
    (gradient,) = torch.autograd.grad(loss, seen.student)
    torch.testing.assert_close(gradient, torch.full_like(gradient, (1 + 0.5 + 3) * 0.5 * 6 / 16))
    known = made.statistics.norms
    for step, measured in ((1, False), (2, False), (3, True), (5, False), (6, True)):
        seen = inputs(5.0 + step)
        made.compared = [seen.student]
        made(seen, 0.0, step)
        assert (made.statistics.norms != known) == measured
        known = made.statistics.norms


def test_terms_that_never_count_are_refused_and_the_key_is_named() -> None:
    with pytest.raises(UserError, match=r"stages\.0\.ratio, fixed\(alpha=1\.0\), .* \(brightness\) would never count"):
        make({key: TWO[key] for key in ("methods", "objectives")})
    with pytest.raises(
        UserError, match=r"stages\.0\.ratio.* 0, .* methods of that stage \(distant\) would never count"
    ):
        make({**TWO, "ratio": {"name": "linear", "args": {"start": 0, "end": 0}}})
    for ratio in ({"name": "linear"}, {"name": "cosine", "args": {"start": 0, "end": 1}}, {"name": "adaptive"}):
        make({**TWO, "ratio": ratio})


def test_all_terms_of_presets_and_examples_count() -> None:
    files = [path for path in (Path(__file__).parents[2] / "examples").glob("*.json") if not is_teacher_file(path)]
    recipes = [registry.get("preset", name)() for name in registry.names("preset")]
    recipes += [parse(file.read_text(encoding="utf-8")) for file in files]
    stages = [stage for recipe in recipes for _, link in recipe.links() for stage in link.stages]
    assert len(stages) > 30
    for number, stage in enumerate(stages):
        check_ratio(number, stage, registry.build("ratio", stage.ratio))


def test_what_does_not_count_is_neither_computed_nor_shown_and_its_critic_rests() -> None:
    moving = {"name": "linear", "args": {"start": 1, "end": 0}}
    stage = {"methods": [{"name": "distant"}], "objectives": [{"name": "watched"}], "ratio": moving}
    made = make(stage)
    for within, terms, critics in (
        (0, ["distant"], []),
        (0.5, ["task", "own_watched", "distant"], ["own_watched_critic"]),
        (1, ["task", "own_watched"], ["own_watched_critic"]),
    ):
        _, shown, alpha = made(inputs(2.0), within, 0)
        assert list(shown) == terms
        assert list(made.discriminator_losses(inputs(2.0), alpha)) == critics


def test_a_step_counts_what_has_something_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Distant, "loss", lambda *_: None)
    loss, terms, alpha = make({**TWO, "ratio": {"name": "fixed", "args": {"alpha": 0.25}}})(inputs(2.0), 0.0, 0)
    assert loss is not None
    assert (loss.item(), list(terms), alpha) == (0.75 * (4 + 0.5 * 2), ["task", "own_brightness"], 0.25)
    assert make({"methods": [{"name": "distant"}]})(inputs(2.0), 0.0, 0) == (None, {}, 1.0)


def test_critics_and_regressors_learn_apart() -> None:
    made = make({"objectives": [{"name": "watched"}]})
    (term,) = made.terms.values()
    assert made.critics == [term.critic]
    assert made.regressors == [term.regressor]
    seen = inputs(2.0, 4.0, taught=False)
    losses = made.discriminator_losses(seen, 0.0)
    assert list(losses) == ["own_watched_critic"]
    losses["own_watched_critic"].backward()
    assert term.critic.grad is not None
    assert seen.student.grad is None
    assert make(TWO).discriminator_losses(inputs(2.0), 0.5) == {}


def test_terms_belong_to_their_stage_and_begin_as_the_seed_says() -> None:
    watched: dict[str, object] = {"objectives": [{"name": "watched"}, {"name": "brightness"}]}

    def losses(seed: int) -> list[Loss]:
        recipe, probe = recipe_of(TWO, watched, {}, seed=seed), Batch(x=torch.zeros(2, 1, 4, 4))
        return make_losses(recipe, Truth(), nn.Identity(), nn.Identity(), probe)  # type: ignore[arg-type]

    state = torch.get_rng_state()
    made = losses(0)
    assert torch.equal(state, torch.get_rng_state())
    assert [list(loss.terms) for loss in made] == [
        ["0.0.distant", "0.own.0.brightness"], ["1.own.0.watched", "1.own.1.brightness"], [],
    ]  # fmt: skip
    again, other = (losses(seed)[1].terms["1.own.0.watched"].critic for seed in (0, 1))
    assert again == made[1].terms["1.own.0.watched"].critic != other


def test_taps_are_those_that_terms_want() -> None:
    pairs = {"name": "feature", "args": {"pairs": [["0", "1"]]}}
    recipe = recipe_of({"methods": [pairs]})
    student = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 3, padding=1))
    teacher = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 1, 1))
    (loss,) = make_losses(recipe, Truth(), student, teacher, Batch(x=torch.zeros(2, 1, 4, 4)))  # type: ignore[arg-type]
    assert (loss.student_paths, loss.teacher_paths) == ({"0"}, {"1"})
    assert loss.regressors


@pytest.mark.parametrize(
    ("stage", "reads"),
    [
        ({"methods": [{"name": "progressive"}]}, set()),
        ({"methods": [{"name": "consistency"}]}, {"student"}),
        ({"methods": [{"name": "consistency", "args": {"source": "teacher"}}]}, {"student", "teacher"}),
        ({"methods": [{"name": "progressive"}, {"name": "output"}]}, {"student", "teacher"}),
        ({"methods": [{"name": "progressive"}], "ratio": HALF}, {"student"}),
        ({"methods": [{"name": "progressive"}], "objectives": [{"name": "brightness"}], "ratio": HALF}, {"student"}),
        ({"methods": [{"name": "jacobian"}, {"name": "output", "weight": 0}]}, set()),
    ],
)
def test_what_no_term_reads_is_known(stage: dict[str, object], reads: set[str]) -> None:
    recipe = recipe_of(stage)
    x = torch.zeros(2, 1, 4, 4)
    batch = Batch(x=x, y=x, cond={"sigma": torch.ones(2)})
    (loss,) = make_losses(recipe, Truth(), Told(), Told(), batch)  # type: ignore[arg-type]
    assert set(loss.reads) == reads


class Told(nn.Module):
    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        return x
