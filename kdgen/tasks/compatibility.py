"""Whether nets and a task fit each other: one probe of all of them, before anything is done."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kdgen import registry
from kdgen.models.input_shape import InputShape, Shaped, error_line, input_shape, mirrored
from kdgen.models.resolution import draw_as_told
from kdgen.models.task_arguments import innermost, task_class
from kdgen.registry import Spec
from kdgen.tasks import Autoencode, Encode
from kdgen.tasks.abilities import shown_by
from kdgen.tasks.parties import Party, are_alike
from kdgen.tasks.restoration import Restoration
from kdgen.types import Batch, Task, Text, UserError, text
from kdgen.utils.conditions import call
from kdgen.utils.devices import device_of, evaluating

CHANNELS = ("channels", "in_channels", "in_chans", "num_channels")
LATENT = ("latent", "latent_dim", "latent_channels", "z_dim", "nz", "in_channels")
CLASSES = ("num_classes", "classes")
FEATURES = ("features",)
SIZES = ("size", "image_size", "img_size", "sample_size", "patch", "widths", "block_out_channels", "scale", "upscale")
"""What arguments of nets and tasks are called, by what they settle; the first that one takes is named."""

READS = {"images": text("images", "images"), "latents": text("latents", "latents")}

COUNTS = (1, 2, 3, 4, 8, 16, 32, 64, 100, 128, 256, 512)
"""Channels and sizes of latents that are tried on a net which does not take its task's."""


def check_fit(use: Spec, task: Task, batches: Sequence[Batch], parties: Iterable[Party]) -> None:
    """Ask every net about batches of a task, and refuse those that do not take them or answer with something else.

    Args:
        use: the task as a recipe names it.
        task: the task itself.
        batches: some of its batches; one of each shape is shown.
        parties: the nets, the teacher first where there is one.

    Raises:
        UserError: naming the net, the task, what does not fit and the key to change.
    """
    shown = {batch.x.shape: batch for batch in batches}.values()
    kinds = (use.name, innermost(use).name)
    only_teacher_knows: dict[torch.Size, tuple[str, torch.Size]] = {}
    for party in parties:
        if party.part is not None:
            part = task.parts[party.part]
            seen = [task.about(batch, party.part) for batch in batches]
            check_fit(Spec(name=str(part.describe()["name"])), part, seen,
                      [replace(party, part=None, told=f"task.args.tasks.{party.part}")])  # fmt: skip
            continue
        draw_as_told(party.net, task.describe())
        kind = party.made_for.get("name")
        if kind and not any(are_alike(str(kind), each) for each in kinds):
            raise UserError(text("made_for_another", "{called} was made to {kind}, and the task is {task}: {remedy}",
                                 called=party.called, kind=str(kind), task=kinds[-1],
                                 remedy=_other_kind(party, use)))  # fmt: skip
        for batch in shown:
            probe = _Probe(use, task, batch, party)
            out = probe.answer()
            wanted = task.answer_shape(batch if probe.otherwise else probe.batch)
            whose: str = text("the_task", "the task {name}", name=use.name)
            shape: Sequence[int] | None = wanted
            if wanted is None:
                whose, shape = only_teacher_knows.setdefault(batch.x.shape, (party.called, out.shape[1:]))
            assert shape is not None
            probe.check(out, tuple(shape), whose)
            _check_whole(use, task, party, batch)
        _check_channels(use, task, party)


def _check_whole(use: Spec, task: Task, party: Party, batch: Batch) -> None:
    """Refuse a net of one size that a task is to measure on larger images, which are not taken in tiles."""
    if not isinstance(task, Autoencode) or not task.whole:
        return
    sizes = input_shape(party.net, batch.x.to(device_of(party.net)), batch.cond)
    if sizes.fixed is None:
        return
    for y in task.whole_images():
        height, width = task.seen(y).shape[-2:]
        if height > sizes.fixed[0] or width > sizes.fixed[1]:
            what = f"{task.reads} of {height}x{width}"
            raise UserError(text("whole_too_large", "{called} takes {sizes}, and on whole images it is measured on "
                                 "{what}: set task.args.whole to false", called=party.called, sizes=sizes.words,
                                 what=what))  # fmt: skip


def _other_kind(party: Party, use: Spec) -> Text:
    kind = str(party.made_for["name"])
    if party.key is None:
        return text("measure_by", "measure it by {kind}", kind=kind)
    half = task_class({"name": use.name}).half if task_class({"name": kind}).half == "whole" else None
    own = text("its_half", " (MODEL#{half} is that half of it)", half=half) if half else ""
    return text("set_to_model", "set {key} to a model that was made to {task}{own}, or task to {kind}", key=party.key,
                task=innermost(use).name, own=own, kind=kind)  # fmt: skip


def _check_channels(use: Spec, task: Task, party: Party) -> None:
    """Refuse a net made for other channels than the task's, though it takes these too."""
    own = party.use.args.get("channels") if party.use is not None else None
    channels = task.teacher_channels if party.teaches else task.channels
    if type(own) is int and own != channels:
        raise UserError(text("party_channels", "{called} has {own} channels, and the task {task} {channels}: set "
                             "{key}.args.channels to {channels}, or task.args.channels to {own}", called=party.called,
                             own=own, task=use.name, channels=channels, key=party.key))  # fmt: skip


class _Probe:
    """One net asked about one batch, and the words for what does not fit."""

    def __init__(self, use: Spec, task: Task, batch: Batch, party: Party) -> None:
        self.use, self.task, self.party = use, task, party
        shown = shown_by(task, party.net, batch, teaches=party.teaches)
        self.otherwise = shown.x is not batch.x
        self.batch = shown.to(device_of(party.net))
        self.shows_latents = task.reads == "latents"

    def answer(self) -> Tensor:
        """What the net says to the batch. Raises UserError where it does not take that."""
        out, reason = self._ask(self.batch.x)
        if out is None and self.party.key is None and isinstance(self.task, Restoration):
            out, reason = self._ask_at_its_size() or (None, reason)
        if out is None:
            raise UserError(text("input_not_taken", "{called} does not take the {kind} of the task {task}, {shape}: "
                                 "{takes}", called=self.party.called, kind=READS[self.task.reads], task=self.use.name,
                                 shape=_words(tuple(self.batch.x.shape[1:])),
                                 takes=self._what_it_takes(reason)))  # fmt: skip
        return out

    def check(self, out: Tensor, wanted: tuple[int, ...], whose: str) -> None:
        """Refuse an answer of another shape than ``wanted``, ``(C, H, W)`` or ``(K,)``, which is of ``whose``."""
        given, encodes = tuple(out.shape[1:]), self.task if isinstance(self.task, Encode) else None
        if self.task.gives == "logits" and given[0] == self.party.made_for.get("num_classes", 0) > wanted[0]:
            given = wanted[0], *given[1:]  # of the classes that it knows the first ones are the task's
        resampled = self.use.name == "generate" and self.party.use is None
        compared = 1 if encodes is not None else 0  # moments hold twice the channels of means: methods tell which fit
        if resampled or self.task.dense:
            like = len(given) == len(wanted) and given[0] == wanted[0]
        else:
            like = len(given) == len(wanted) and given[compared:] == wanted[compared:]
        if not like:
            raise UserError(text("answers_otherwise", "{called} gives {given}, and {whose} {wanted}: {remedy}",
                                 called=self.party.called, given=_words(given), whose=whose, wanted=_words(wanted),
                                 remedy=self._another_answer(given, wanted)))  # fmt: skip
        if encodes is not None:
            try:
                encodes.shown(out)
            except Exception as error:
                raise UserError(text("decoder_not_taken", "{called} gives latents {given}, which the decoder of the "
                                     "task does not take ({error}): set task.args.decoder to its own",
                                     called=self.party.called, given=_words(given),
                                     error=error_line(error))) from error  # fmt: skip

    def _ask_at_its_size(self) -> tuple[Tensor | None, str] | None:
        """The answer at a size that the net takes, where it is measured on images of any, whole or in tiles."""
        try:
            taken = input_shape(self.party.net, self.batch.x, self.batch.cond)
        except UserError:
            return None
        self.batch = replace(self.batch, x=mirrored(self.batch.x, *taken.at_least(*self.batch.x.shape[-2:])))
        return self._ask(self.batch.x)

    def _ask(self, x: Tensor) -> tuple[Tensor | None, str]:
        """The answer to ``x``, or None and why there is none."""
        net = self.party.net if self.party.asked is None else self.party.asked
        if isinstance(net, Shaped) and net.input_shape and x.ndim == 4 and not net.input_shape.takes(*x.shape[-2:]):
            return None, text("declared_to_take", "it is declared to take {sizes}", sizes=net.input_shape.words)
        try:
            with evaluating(net, inference=False):
                out = call(net, x, self.batch.cond)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a foreign net's code raises whatever it does
            return None, error_line(error)
        if not isinstance(out, Tensor) or out.ndim < 2:
            return None, text("no_tensor", "it answers with a {type}, not with a tensor (B, ...)",
                              type=type(out).__name__)  # fmt: skip
        return out, ""

    def _what_it_takes(self, reason: str) -> Text:
        """What the net does take, as it says itself or found by trying, and what to change."""
        x, names = self.batch.x, LATENT if self.shows_latents else CHANNELS
        latent = self.party.made_for.get("latent")
        if self.shows_latents and latent is not None and latent != list(x.shape[1:]):
            return text("made_for_latent", "it was made for {shape}: {remedy}", shape=_words(latent),
                        remedy=self._change(names, None, latent))  # fmt: skip
        kinds = {weight.dtype for weight in self.party.net.parameters() if weight.is_floating_point()}
        if odd := sorted(str(kind).removeprefix("torch.") for kind in kinds - {torch.float32}):
            return text("weights_are_of", "its weights are of {kind}: call .float() on it", kind=odd[0])
        if (count := self._count_taken()) is not None:
            remedy = self._change(names, x.shape[1], count)
            if x.ndim == 2:
                return _takes(_words([count]), remedy)
            return _takes(text("one_channel", "{count} channel", count=count) if count == 1 else
                          text("channels", "{count} channels", count=count), remedy)  # fmt: skip
        if (sizes := self._sizes_taken()) is not None:
            return _takes(sizes.words, self._change(SIZES, x.shape[-1], sizes.at_least(*x.shape[-2:])[0]))
        return text("at_key", "{key}: {message}", key=reason, message=self._change((), None, None))

    def _count_taken(self) -> int | None:
        """Another number of channels, or another size of latents, that the net takes."""
        x = self.batch.x
        for count in dict.fromkeys([*self._numbers(), *COUNTS]):
            if count != x.shape[1] and self._ask(x[:, :1].expand(-1, count, *x.shape[2:]))[0] is not None:
                return count
        return None

    def _sizes_taken(self) -> InputShape | None:
        """Other heights and widths that the net takes; None where it is not the size that it minds."""
        x = self.batch.x
        if x.ndim != 4:
            return None
        try:
            shape = input_shape(self.party.net, x, self.batch.cond)
            return None if shape.takes(*x.shape[-2:]) else shape
        except UserError:
            sides = dict.fromkeys([*self._numbers(), *COUNTS])
            side = next((n for n in sides if self._ask(mirrored(x, n, n))[0] is not None), None)
        return None if side is None else InputShape(fixed=(side, side))

    def _numbers(self) -> list[int]:
        """Whole numbers among what is known of the net."""
        args = self.party.use.args if self.party.use is not None else self.party.made_for
        each = [n for value in args.values() for n in (value if isinstance(value, list) else [value])]
        return [n for n in each if type(n) is int and n > 0]

    def _another_answer(self, given: tuple[int, ...], wanted: tuple[int, ...]) -> Text:
        if len(given) != len(wanted):
            return self._change((), None, None)
        if given[0] != wanted[0] and not isinstance(self.task, Encode):
            by_view = self.task.reads == self.task.gives == "images" and self.batch.x.shape[1] != wanted[0]
            names = {"logits": CLASSES, "features": FEATURES}.get(self.task.gives, () if by_view else CHANNELS)
            return self._change(names, wanted[0], given[0])
        if self.task.gives == "features":
            return self._change(("stride",), self.batch.x.shape[-1] // wanted[-1], None)
        return self._change(SIZES, wanted[-1], given[-1] if self.use.name == "generate" else None)

    def _change(self, names: Sequence[str], own: int | None, tasks: int | list[int] | None) -> Text:
        """What to set to what: an argument of the net to ``own``, or one of the task to ``tasks``."""
        key, use = self.party.key, self.party.use
        if key is None:
            return text("measure_otherwise", "measure it by a task that fits it, or leave it out")
        ways = []
        if use is not None and own is not None and (arg := _first("net", use.name, names)):
            several = isinstance(registry.spelled_out("net", use).args.get(arg), list)
            ways.append(text("to_others", "{key} to others", key=f"{key}.args.{arg}") if several else
                        text("to_value", "{key} to {value}", key=f"{key}.args.{arg}", value=own))  # fmt: skip
        if tasks is not None and (arg := _first("task", self.use.name, names)):
            ways.append(text("to_value", "{key} to {value}", key=f"{self.party.told}.args.{arg}", value=str(tasks)))
        if use is None or not ways:
            ways.append(text("to_another", "{key} to another", key=key))
        return text("set_ways", "set {ways:, or }", ways=ways)


def _first(kind: registry.Kind, name: str, names: Sequence[str]) -> str | None:
    """The first of some arguments that what a name stands for takes."""
    return next((each for each in names if registry.accepts(kind, name, each)), None)


def _takes(what: Text, remedy: Text) -> Text:
    return text("it_takes", "it takes {what}: {remedy}", what=what, remedy=remedy)


def _words(shape: Sequence[int]) -> Text:
    """A shape without its batch in words: ``3x32x32``, or ``64 numbers``."""
    return Text("x".join(map(str, shape))) if len(shape) > 1 else text("numbers", "{count} numbers", count=shape[0])
