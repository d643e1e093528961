"""A narrower net of diffusers from a wider one: which heads of attention, hidden units and channels stay."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kdgen.models.adapters.blocks import Match, even_indices, evenly, matched


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Units between two layers, written by rows of one and read by columns of the other, by the names of both.

    Attributes:
        by: names of the layers that write them; of twice as many rows where one half gates the other.
        along: of others with rows that belong to them.
        read: of the layers that read them.
        behind: whether these read others before them.
        attention: where below the path that all share the attention lies whose heads they are; None for no heads.
        grouped: whether a norm sees them in groups, which stay together.
    """

    by: str
    along: str = "(?!)"
    read: str
    behind: bool = False
    attention: str | None = None
    grouped: bool = False


KINDS = (
    Units(by="(?:to|add)_v(?:_proj)?", along="(?:to|add)_[qk](?:_proj)?|norm_(?:added_)?[qk]",
          read=r"to_out\.0|to_add_out", attention=""),
    Units(by=r"attn\.to_v", along=r"attn\.(?:to|norm)_[qk]", read="proj_out", attention="attn"),
    Units(by="proj_mlp", read="proj_out", behind=True),
    Units(by=r"net\.0\.proj", read=r"net\.2"),
    Units(by="conv_inverted", along="conv_depth", read="conv_point"),
    Units(by="linear_1", read="linear_2"),
    Units(by="conv1", along="time_emb_proj|norm2", read="conv2", grouped=True),
)  # fmt: skip
"""Heads of attention, read alone or before other units; hidden units of transformers, embeddings, residual layers."""

QUERY = re.compile(r"(?:.*\.)?(?:to|add)_q(?:_proj)?\.(?:weight|bias)")


@torch.no_grad()
def inherit_units(student: nn.Module, teacher: nn.Module) -> None:
    """Write what matters most of a teacher into a student of fewer blocks, layers, heads or channels, in place.

    Blocks and layers are removed as ``Origins`` says. Heads stay whole; they and hidden units are ranked by the L1 norm
    of the rows that write them (Li et al. 2017, "Pruning Filters for Efficient ConvNets", section 3.1) times that of
    the columns that read them, so that what is dead on either side goes first. Channels that all layers add to are
    evenly spaced, so that groups of norms stay groups, and embeddings of times and places what they are (weight
    selection, Xu et al. 2024, "Initializing Models with Larger Ones", section 3). Where heads have fewer channels,
    queries are scaled by the root that attention divides by. What the teacher lacks stays as it is.

    Raises:
        UserError: as ``matched`` does.
    """
    found = matched(student, teacher)
    kept = _Kept(found)
    for kind in KINDS:
        for path, place in _places(kind, found):
            heads = None
            if kind.attention is not None:
                first = place["read"][0]
                its = found[first].name.removesuffix(first.removeprefix(path))
                heads = _heads(student, path + kind.attention), _heads(teacher, its + kind.attention)
            kept.add(kind, place, heads)
    for key, match in found.items():
        match.student.copy_(kept.of(key))


@dataclass(slots=True)
class _Kept:
    """What stays of the tensors of a teacher, by their names in the student."""

    found: Mapping[str, Match]
    parts: dict[tuple[str, int], dict[int, Tensor]] = field(default_factory=lambda: defaultdict(dict))
    gains: dict[str, float] = field(default_factory=dict)

    def add(self, kind: Units, place: Mapping[str, list[str]], heads: tuple[int, int] | None) -> None:
        """Choose units at a place, of so many heads of the student's and of the teacher's."""
        by, read = (self.found[place[role][0]] for role in ("by", "read"))
        size, of = min(len(by.student), read.student.shape[1]), min(len(by.teacher), read.teacher.shape[1])
        begin = read.teacher.shape[1] - of if kind.behind else 0
        written = torch.stack([_norms(self.found[key].teacher, 0).view(-1, of).prod(0) for key in place["by"]])
        used = torch.stack([_norms(self.found[key].teacher, 1)[begin : begin + of] for key in place["read"]])
        index = _chosen(written.sum(0) * used.sum(0), size, heads or (size, of), grouped=kind.grouped)
        for key in place["read"]:
            self.parts[key, 1][begin] = begin + index
        for key in (*place["by"], *place["along"]):
            rows = len(self.found[key].teacher)
            if rows % of == 0:  # norms of single heads have no rows of units
                self.parts[key, 0][0] = torch.cat([index + first for first in range(0, rows, of)])
            if heads and QUERY.fullmatch(key):
                self.gains[key] = math.sqrt(size * heads[1] / (heads[0] * of))

    def of(self, key: str) -> Tensor:
        """What a tensor of the student starts as."""
        value, like = self.found[key].teacher, self.found[key].student
        if value.shape == like.shape:
            return value
        for dim in range(value.dim()):
            if parts := self.parts.get((key, dim)):
                index = torch.cat([parts[begin] for begin in sorted(parts)])
                value = value.index_select(dim, index.to(value.device))
        return evenly(value, like) * self.gains.get(key, 1.0)


def _places(kind: Units, found: Mapping[str, Match]) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Paths at which there are units of a kind, and below them the tensors that write and read them, by role."""
    roles = "|".join(f"(?P<{role}>{names})" for role, names in (
        ("by", kind.by), ("along", kind.along), ("read", kind.read)))  # fmt: skip
    pattern = re.compile(rf"(?P<path>(?:.*\.)?)(?:{roles})\.(?P<what>weight|bias)")
    places: dict[str, dict[str, list[str]]] = defaultdict(lambda: {"by": [], "along": [], "read": []})
    for key in found:
        if hit := pattern.fullmatch(key):
            role = next(role for role in ("by", "along", "read") if hit[role])
            if hit["what"] == "weight":
                places[hit["path"]][role].append(key)
            elif role != "read":
                places[hit["path"]]["along"].append(key)
    return ((path, place) for path, place in places.items() if place["by"] and place["read"])


def _heads(model: nn.Module, path: str) -> int:
    """The heads of the attention at a path."""
    return int(model.get_submodule(path.rstrip(".")).heads)  # type: ignore[arg-type]


def _norms(weight: Tensor, dim: int) -> Tensor:
    """The L1 norms of the rows of a matrix or kernel, or along another dimension."""
    return weight.float().abs().sum([other for other in range(weight.dim()) if other != dim])


def _chosen(scores: Tensor, count: int, heads: tuple[int, int], *, grouped: bool) -> Tensor:
    """Indices of the units that stay, in order.

    Args:
        scores: of all.
        count: how many stay.
        heads: of which they are, of those that stay and of all: as many as units where each is for itself.
        grouped: whether they are chosen within windows, as many of each, as small as can be.
    """
    (stay, of), size, width = heads, count // heads[0], len(scores) // heads[1]
    if stay > of or size > width:
        return even_indices(count, len(scores))
    each = scores.cpu().view(of, width)
    best = _best(each.sum(1).view(math.gcd(stay, of) if grouped else 1, -1), stay)
    inner = _best(each[best], count)
    return best[inner // width] * width + inner % width


def _best(scores: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` highest scores ``(N, M)`` counted through, as many of each row, in order."""
    order = scores.argsort(dim=1, descending=True, stable=True)[:, : count // len(scores)].sort(1).values
    return (order + torch.arange(len(scores)).unsqueeze(1) * scores.shape[1]).flatten()
