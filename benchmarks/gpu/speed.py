"""Steps a second of the same distillations: by the loop everybody writes, compiled, with modelopt, and with kdgen."""

import signal
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from contenders import Contender, Trained, contenders, hand_written, kdgen, modelopt
from throughput import SAME, held_out_loss
from workloads import Workload, workloads

from gpu.ledger import Absent, Item, Outcome, Setup, said
from kdgen.recipe import override
from kdgen.registry import build
from kdgen.utils.devices import call_seconds

ROUNDS = 3
"""Rounds whose median counts, after one that warms up."""
COMPILING = 45.0
"""Seconds after which a loop that is still being compiled is given up."""
NAMES = ("denoiser", "diffusion", "gan")
PRECISIONS = ("float32", "bfloat16")


def items(setup: Setup) -> Iterator[Item]:
    """Every contender at every precision, the eager loop first: the others' losses are held against its own.

    What must be compiled comes last, since nobody knows how long that takes.
    """
    known, losses = workloads(), dict[tuple[str, str], float]()
    _, absent = contenders()
    backend = "eager" if setup.quick else "inductor"  # the former traces nets and generates no code
    works = {name: sized(known[name], setup) for name in NAMES}
    for name, work in works.items():
        yield Item(f"{name}, batches", partial(made, work))
        for precision in PRECISIONS:
            fewer = precision == "bfloat16"
            everyone: dict[str, Contender] = {
                "eager": partial(hand_written, bfloat16=fewer),
                "modelopt": partial(modelopt, bfloat16=fewer),
                "kdgen": partial(kdgen, precision=precision),
            }
            for who, run in everyone.items():
                missing = absent.get(who)
                act = partial(raced, work, precision, run, losses, setup)
                yield Item(f"{name}, {precision}, {who}", partial(absence, missing) if missing else act, needs=5.0)
    for precision in ("bfloat16",) if setup.quick else reversed(PRECISIONS):
        for name, work in [("gan", works["gan"])] if setup.quick else works.items():
            run = partial(hand_written, bfloat16=precision == "bfloat16", backend=backend)
            act = partial(raced, work, precision, run, losses, setup, once=True)
            yield Item(f"{name}, {precision}, compiled by {backend}", act, needs=5.0)


def sized(plain: Workload, setup: Setup) -> Workload:
    """A workload on the device, in batches that keep a GPU busy."""
    more = {"device": setup.device, "batch_size": 4 if setup.quick else 128, "repeatable": True}
    recipe = plain.recipe.model_copy(update=more)
    if setup.quick and recipe.task.name == "denoise":
        recipe = override(recipe, ["task.args.patch=16"])
    return Workload(name=plain.name, recipe=recipe, teacher=plain.teacher, steps=2 if setup.quick else 48)


def made(work: Workload) -> Outcome:
    """How long a batch takes that a step waits for, where nobody makes it before."""
    batches = build("task", work.recipe.task).batches(batch_size=work.recipe.batch_size, seed=0)
    next(batches)
    seconds = call_seconds(lambda: next(batches), torch.device("cpu"), 8)
    return Outcome(figures={"ms a batch": 1000 * statistics.median(seconds)})


def absence(reason: str) -> Outcome:
    """That a library is not here."""
    raise Absent(reason)


def raced(
    work: Workload,
    precision: str,
    run: Contender,
    losses: dict[tuple[str, str], float],
    setup: Setup,
    *,
    once: bool = False,
) -> Outcome:
    """Steps a second of one contender, and whether its student is as good as that of the eager loop.

    Args:
        work: the distillation.
        precision: what it computes in.
        run: a round.
        losses: those of the eager loops by workload and precision; the first one here is taken for that.
        setup: how many rounds there may be.
        once: whether a round warms itself up, so that the first counts, and is bounded in seconds.
    """
    rounds: list[Trained] = []
    if once:
        torch._dynamo.reset()
        with at_most(min(COMPILING, setup.left)):
            rounds.append(run(work, 0))
    elif not setup.quick:
        run(work, 0)
    while len(rounds) < (1 if setup.quick or once else ROUNDS) and (not rounds or setup.left > 0):
        rounds.append(run(work, 0))
    seconds = statistics.median(each.seconds for each in rounds)
    loss = held_out_loss(work, rounds[-1].student)
    base = losses.setdefault((work.name, precision), loss)
    figures = {"steps/s": 1 / seconds, "images/s": work.recipe.batch_size / seconds, "s before": rounds[0].before}
    return Outcome(
        figures={**figures, "loss": loss, "rounds": len(rounds)}, apart={"loss": (abs(loss / base - 1), SAME)}
    )


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """While open, something that takes longer is given up.

    Raises:
        Absent: when the time is over.
    """

    def over(number: int, frame: Any) -> None:
        raise Absent(f"given up after {seconds:.0f} s of compiling")

    before: Callable[[int, Any], Any] | int | None = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1))
    try:
        yield
    except Absent:
        raise
    except Exception as error:  # what compiles may raise anything, and wrap what stops it
        raise Absent(f"it does not compile here: {said(error)}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
