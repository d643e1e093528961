"""Before anything is sent: the student's files, loaded afresh, give the output that the trained net gave."""

from pathlib import Path

import torch
from torch import Tensor

from kdgen.hub.parcel import Parcel
from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.model import Model, build_net, load
from kdgen.models.tiling import whole
from kdgen.recipe import read
from kdgen.training.checkpoint import Checkpoints
from kdgen.training.run_log import Journal
from kdgen.types import Net, UserError, text
from kdgen.utils.devices import evaluating
from kdgen.utils.seed import generator

CLOSE = 1e-3
"""Largest difference that folding a net for use may make to its output, in units of images in [-1, 1]."""

SIZE = 32
"""Height and width in pixels of what is put into a net whose task does not say."""


def check(parcel: Parcel, source: Model | None = None) -> None:
    """Load the parcel's files and compare.

    Args:
        parcel: what is to be sent.
        source: the net as the user holds it, if it was not given as a folder.

    Raises:
        UserError: if the files cannot be loaded, or give something else than the net.
    """
    model = load(parcel.folder)
    x, cond = probe(model)
    out = _output(model.net, x, cond)
    if not out.isfinite().all():
        raise UserError(text("push_not_finite", "nothing was sent: {student} gives NaN or infinity: train it again",
                             student=parcel.student))  # fmt: skip
    if not torch.equal(out, _output(load(parcel.student).net, x, cond)):
        raise UserError(text("push_gathered_differ", "nothing was sent: the files gathered from {student} give "
                             "another output: try again", student=parcel.student))  # fmt: skip
    checkpoint = trained(parcel.run) if parcel.run else None
    if parcel.run and checkpoint is None:
        parcel.notes.append("not compared with the trained net, whose last checkpoint is gone")
    for net in [source.net if source else None, checkpoint]:
        if net is not None and (_output(net, x, cond) - out).abs().max().item() > CLOSE:
            raise UserError(text("push_student_differs", "nothing was sent: {student} gives another output than the "
                                 "trained net: it was changed or is damaged, save it anew",
                                 student=parcel.student))  # fmt: skip


def trained(run: Path) -> Net | None:
    """The net that a run trained, from its last checkpoint or, where that was kept, its best; None without these.

    A checkpoint in slices is none.

    Raises:
        UserError: if the checkpoint is not of the net in the recipe.
    """
    ended = Journal(run).phase("student")
    if ended.kept_step is not None:
        best = run / "best" / "student"
        return load(best).net if (best / "config.json").is_file() else None
    state, _ = Checkpoints(run / "checkpoints" / "student").load()
    if state is None or state["step"] != ended.steps or state.get("processes", 1) > 1:
        return None
    recipe = read(run / "recipe.json")
    model = load(run)
    net, _ = build_net(recipe.student, model.channels, model.task)
    try:
        net.load_state_dict(state["average"]["net"])
    except RuntimeError:
        raise UserError(text("push_other_net", "nothing was sent: the checkpoint in {run} is not of the net in its "
                             "recipe.json", run=run)) from None  # fmt: skip
    return net


def probe(model: Model) -> tuple[Tensor, dict[str, Tensor]]:
    """An input that a model takes, the same at every call: noise of the shape that its task has, or its pipeline."""
    random = generator(0, "probe")
    cond = {"sigma": torch.full((1,), 0.2)}
    if isinstance(net := model.net, LatentModel):
        cond |= {name: torch.randn(told.shape, generator=random) if told.is_floating_point() else told
                 for name, told in net.example().items()}  # fmt: skip
        return torch.randn((1, net.latent_channels, net.size, net.size), generator=random), cond
    task, size = model.task, model.task.get("size", SIZE)
    shape = task.get("latent") or (model.channels, *(size if isinstance(size, list) else (size, size)))
    if task.get("num_classes"):
        cond["label"] = torch.zeros(1, dtype=torch.long)
    return torch.randn((1, *shape), generator=random), cond


def _output(net: Net, x: Tensor, cond: dict[str, Tensor]) -> Tensor:
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    try:
        with evaluating(net):
            out = whole(net, x.to(device), {key: value.to(device) for key, value in cond.items()})
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(text("push_not_called", "nothing was sent: the net cannot be called as its task says, on "
                             "{shape}: {error}", shape=str(list(x.shape)),
                             error=" ".join(str(error).split())[:200])) from None  # fmt: skip
    return out.float().cpu()
