"""Before anything is sent: the student's files, loaded afresh, give the output that the trained net gave."""

from pathlib import Path

import torch
from torch import Tensor

import kdgen.tasks  # noqa: F401 - registers its tasks
from kdgen import registry
from kdgen.checkpoint import Checkpoints
from kdgen.data.seed import generator
from kdgen.devices import evaluating
from kdgen.hub.parcel import Parcel
from kdgen.journal import Journal
from kdgen.model import Model, build_net, load
from kdgen.recipe import read
from kdgen.registry import Use
from kdgen.types import Net, UserError

CLOSE = 1e-3
"""Largest difference that folding a net for use may make to its output, in units of images in [-1, 1]."""

SIZE = 32


def check(parcel: Parcel, given: Model | None = None) -> None:
    """Load the parcel's files and compare.

    Args:
        parcel: what is to be sent.
        given: the net as the user holds it, if it was not given as a folder.

    Raises:
        UserError: if the files cannot be loaded, or give something else than the net.
    """
    fresh = load(parcel.folder)
    x, cond = probe(fresh)
    out = _answer(fresh.net, x, cond)
    if not out.isfinite().all():
        raise UserError(f"nothing was sent: {parcel.student} gives what is no number: train it again")
    if not torch.equal(out, _answer(load(parcel.student).net, x, cond)):
        raise UserError(f"nothing was sent: the files gathered from {parcel.student} give another output: try again")
    learned = trained(parcel.run) if parcel.run else None
    if parcel.run and learned is None:
        parcel.notes.append("not compared with the trained net, whose last checkpoint is gone; with the run's folder")
    for net in [given.net if given else None, learned]:
        if net is not None and (_answer(net, x, cond) - out).abs().max().item() > CLOSE:
            raise UserError(f"nothing was sent: {parcel.student} gives another output than the trained net: it was "
                            "changed or is damaged, save it anew")  # fmt: skip


def trained(run: Path) -> Net | None:
    """The net that a run trained, from its last checkpoint; None where that is not at hand.

    Raises:
        UserError: if the checkpoint is not of the net in the recipe.
    """
    state, _ = Checkpoints(run / "checkpoints" / "student").load()
    if state is None or state["step"] != Journal(run).get("student_steps"):
        return None
    recipe = read(run / "recipe.json")
    net, _ = build_net(recipe.student, load(run).channels)
    average = {key.removeprefix("module."): value for key, value in state["ema"].items() if key != "n_averaged"}
    try:
        net.load_state_dict(average)
    except RuntimeError:
        raise UserError(f"nothing was sent: the checkpoint in {run} is not of the net in its recipe.json") from None
    return net


def probe(model: Model) -> tuple[Tensor, dict[str, Tensor]]:
    """An input that a model takes, the same at every call: noise of the shape that its task has."""
    name = str(model.task.get("name", ""))
    x, cond = torch.zeros(1, model.channels, SIZE, SIZE), {"sigma": torch.full((1,), 0.2)}
    if name in registry.names("task"):
        args = {key: value for key, value in model.task.items() if registry.accepts("task", name, key)}
        try:
            example = registry.build("task", Use(name=name, args=args)).example()
            x, cond = example.x, dict(example.cond)
        except UserError:
            if latent := model.task.get("latent"):
                x = torch.zeros(1, *latent)
    if name == "diffuse" and model.task.get("num_classes"):
        cond["label"] = torch.zeros(1, dtype=torch.long)
    if name == "denoise":
        x = x[..., :SIZE, :SIZE]
    return torch.randn(x.shape, generator=generator(0, "probe")), cond


def _answer(net: Net, x: Tensor, cond: dict[str, Tensor]) -> Tensor:
    where = next((p.device for p in net.parameters()), torch.device("cpu"))
    with evaluating(net):
        out: Tensor = net(x.to(where), **{key: value.to(where) for key, value in cond.items()})
    return out.float().cpu()
