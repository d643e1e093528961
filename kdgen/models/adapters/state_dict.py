"""Weights by name: found in what a checkpoint holds, and made plain where a parametrisation has split them."""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kdgen.models.adapters.recognise import is_optimizer
from kdgen.recipe import Checkpoint
from kdgen.types import Text, UserError, text

USUAL_KEYS = ("state_dict", "model_state_dict", "params", "model", "net", "module", "weights", "shadow")
AVERAGE = re.compile(r"(?:^|[_.])(?:ema|swa|averaged?)(?:[_.]|$)", re.IGNORECASE)
"""How parts of a checkpoint are called that hold a moving average of the weights: ``model_ema``, ``params_ema``."""

COUNTERS = ("num_batches_tracked", "total_ops", "total_params", "n_averaged", "num_updates", "initted", "step", "decay")
"""What counts beside weights, which a net has no use for: of batches, of operations (thop), of averaged steps."""

CHAINER = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias", "avg_mean": "running_mean",
           "avg_var": "running_var"}  # fmt: skip
"""What Chainer calls weights, behind the last slash, and what torch calls them."""

WRAPPED = "model."
UNDOTTED = "model_ema."
"""What weights begin with in latent diffusion's checkpoints, and their average, whose names have lost their dots."""


def find_weights(data: Any, spec: Checkpoint) -> tuple[dict[str, Tensor], str]:
    """The tensors of a checkpoint by name: from under its key, without its prefix, renamed as declared.

    Where neither key nor prefix is declared, an average of the weights is taken before live ones. A warning says so,
    and wherever live ones are taken beside an average.

    Args:
        data: what the file holds.
        spec: its declaration.

    Returns:
        the tensors, and the prefix that was dropped.

    Raises:
        UserError: where there are none, with what there is.
    """
    entry = _usual(_under(data, spec.key, spec.file) if spec.key else data, spec.file)
    weights = _dotted(_of_torch(_tensors(entry)))
    if not weights and is_optimizer(data):
        raise UserError(text("weights_optimizer", "{file} holds the state of an optimiser, and no weights of a net: "
                             "name the file that holds these", file=spec.file))  # fmt: skip
    if not weights:
        raise UserError(text("weights_not_by_name", "{file} does not hold weights by name here; it has {held}: "
                             "declare the key", file=spec.file, held=some(entry)))  # fmt: skip
    prefix = spec.prefix or _averaged_prefix(weights, spec.file)
    kept = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if not kept:
        raise UserError(text("no_keys_begin", "{file} has no keys that begin with {prefix!r}; it has {held}",
                             file=spec.file, prefix=prefix, held=some(weights)))  # fmt: skip
    average = next((head for head in _heads(weights) if AVERAGE.search(head)), None)
    if average and not AVERAGE.search(prefix):
        warnings.warn(text("average_beside", "{file}: an average of the weights lies beside those of prefix "
                           "{prefix!r}, which were taken: declare prefix {average!r} for it", file=spec.file,
                           prefix=prefix, average=f"{average}."), stacklevel=2)  # fmt: skip
    if spec.rename is None:
        return kept, prefix
    for begins in spec.rename:
        if not any(key.startswith(begins) for key in kept):
            raise UserError(text("no_keys_begin", "{file} has no keys that begin with {prefix!r}; it has {held}",
                                 file=spec.file, prefix=begins, held=some(kept)))  # fmt: skip
    return {new + key.removeprefix(old): value for key, value in kept.items()
            for old, new in spec.rename.items() if key.startswith(old)}, prefix  # fmt: skip


def _under(data: Any, key: str, file: str) -> Any:
    """What lies under a key, as it is or dotted: ``model.state_dict``."""
    if isinstance(data, Mapping):
        if key in data:
            return data[key]
        heads = [head for head in data if isinstance(data[head], Mapping) and key.startswith(f"{head}.")]
        if heads:
            return _under(data[heads[0]], key.removeprefix(f"{heads[0]}."), file)
    raise UserError(text("no_weights_key", "{file} has no key {key!r}; it has {held}", file=file, key=key,
                         held=some(data)))  # fmt: skip


def _usual(data: Any, file: str) -> Any:
    """The weights where training scripts put them, an average before live ones."""
    path = _path(data) or []
    entry = data
    for number, key in enumerate(path):
        average = next((name for name in map(str, entry) if AVERAGE.search(name) and _holds(entry[name])), None)
        if average == key:
            others = dict.fromkeys(name for name in entry if name != key and _holds(entry[name]))
            declare = text("declare_other_key", "; to take others, declare their key, of {keys}", keys=some(others)
                           ) if others else ""  # fmt: skip
            warnings.warn(text("average_taken", "{file}: took the average of the weights, {path!r}{declare}",
                               file=file, path=".".join(path[: number + 1]),
                               declare=declare), stacklevel=2)  # fmt: skip
        elif average:
            warnings.warn(text("live_taken", "{file}: took the live weights, {key!r}: their average {average!r} has "
                               "no names", file=file, key=key, average=average), stacklevel=2)  # fmt: skip
        entry = entry[key]
    return entry


def _path(data: Any) -> list[str] | None:
    """The keys that lead to the weights; None where there are none by name."""
    if not isinstance(data, Mapping):
        return None
    inner = {str(key): path for key, value in data.items() if (path := _path(value)) is not None}
    averages = [key for key in inner if AVERAGE.search(key)]
    for key in (*averages, *USUAL_KEYS):
        if key in inner:
            return [key, *inner[key]]
    return [] if _tensors(data) else None


def _averaged_prefix(weights: Mapping[str, Tensor], file: str) -> str:
    """The prefix of an average that lies among the weights that it is of, as in ``ema_model.0.weight``."""
    heads = _heads(weights)
    average = next((head for head in heads if AVERAGE.search(head)), None)
    if average is None or len(heads) == 1 or not any(key.count(".") > 1 for key in weights if key.startswith(average)):
        return ""
    warnings.warn(text("average_prefix", "{file}: took the average of the weights, those of prefix {prefix!r}; to "
                       "take others, declare their prefix, of {heads}", file=file, prefix=f"{average}.",
                       heads=some(heads)), stacklevel=3)  # fmt: skip
    return f"{average}."


def _dotted(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose average has its dots again: ``model_ema.0weight`` for ``model.0.weight``."""
    inner = [key.removeprefix(WRAPPED) for key in weights if key.startswith(WRAPPED)]
    names = {UNDOTTED + key.replace(".", ""): UNDOTTED + key for key in inner}
    return {names.get(key, key): value for key, value in weights.items()}


def _of_torch(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that Chainer saved by torch's names: ``res1.conv1.weight`` for ``res1/conv1/W``."""
    parted = {key: key.rpartition("/") for key in weights}
    if not all(path for path, _, _ in parted.values()) or not any(leaf in CHAINER for _, _, leaf in parted.values()):
        return dict(weights)
    return {f"{path.replace('/', '.')}.{CHAINER.get(leaf, leaf)}": weights[key]
            for key, (path, _, leaf) in parted.items() if leaf != "N"}  # fmt: skip


def _heads(weights: Mapping[str, Tensor]) -> dict[str, None]:
    """What stands before the first dot of their names."""
    return dict.fromkeys(key.partition(".")[0] for key in weights if "." in key)


def _tensors(data: Any) -> dict[str, Tensor]:
    """The tensors of a mapping by name."""
    if not isinstance(data, Mapping):
        return {}
    return {str(key): value for key, value in data.items() if isinstance(value, Tensor)}


def _holds(data: Any) -> bool:
    """Whether there are tensors in a nested part of a checkpoint."""
    if isinstance(data, Mapping):
        return any(isinstance(value, Tensor) or _holds(value) for value in data.values())
    return isinstance(data, Sequence) and any(isinstance(value, Tensor) for value in data)


def some(data: Any, count: int = 4) -> Text:
    """The first few keys of a mapping, in words."""
    if not isinstance(data, Mapping):
        return text("a_kind", "a {kind}", kind=type(data).__name__)
    listed = [repr(str(key)) for key in list(data)[:count]]
    if len(data) > count:
        return text("some_and_more", "{keys:, } and {count} more", keys=listed, count=len(data) - count)
    return text("some_keys", "{keys:, }", keys=listed) if listed else text("no_keys", "no keys")


def plain(weights: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """Weights without what a net has no use for, and each parametrised one as its net computed with it.

    Weight and spectral normalisation are known by torch's names, those of its hooks and of its parametrizations.

    Args:
        weights: by name.
        expected: the names that the net has.
    """
    expected = set(expected)
    kept = {key: value for key, value in weights.items()
            if key in expected or key.rpartition(".")[2] not in COUNTERS}  # fmt: skip
    for name in expected - kept.keys():
        stem, dot, leaf = name.rpartition(".")
        inner = f"{stem}{dot}parametrizations.{leaf}."
        for parts, folded in (
            ((f"{name}_orig", f"{name}_u", f"{name}_v"), _spectral),
            ((f"{inner}original", f"{inner}0._u", f"{inner}0._v"), _spectral),
            ((f"{name}_g", f"{name}_v"), _normed),
            ((f"{inner}original0", f"{inner}original1"), _normed),
        ):
            if all(part in kept for part in parts):
                kept[name] = folded(*(kept.pop(part) for part in parts))
                break
    return kept


def _normed(g: Tensor, v: Tensor) -> Tensor:
    """``w = g v / |v|``, Salimans & Kingma 2016 (arXiv 1602.07868), eq. 2, with a norm where ``g`` has one value."""
    where = [d for d in range(v.dim()) if not g.dim() or g.shape[d] == 1]
    w: Tensor = g.float() * v.float() / torch.linalg.vector_norm(v.float(), dim=where, keepdim=True)
    return w.to(v.dtype)


def _spectral(w: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """``w / (u^T W v)``, Miyato et al. 2018 (arXiv 1802.05957), eq. 9, with the vectors that training left.

    ``W`` has the output channels first, which transposed convolutions have second: as the vectors fit it.
    """
    matrices = [w.float().movedim(d, 0).flatten(1) for d in range(min(w.dim(), 2))]
    norms = [torch.dot(u.float(), each @ v.float()) for each in matrices if each.shape == (len(u), len(v))]
    return (w / max(norms)).to(w.dtype) if norms else w


__all__ = ["find_weights", "plain", "some"]
