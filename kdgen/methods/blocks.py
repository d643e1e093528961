"""Match the blocks of two U-Nets that bear the same names."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdgen.methods.distance import resample
from kdgen.methods.feature import _regressor
from kdgen.methods.pairing import Pair, check_pairs, choose, probe, settle
from kdgen.registry import register
from kdgen.types import Batch, Method, Net, UserError, View

BLOCK = re.compile(r"((?:.*\.)?)(?:down_blocks\.\d+|mid_block|up_blocks\.\d+)")


@register("method")
class Blocks(Method):
    """Block-wise feature distillation of U-Nets: BK-SDM, Kim et al. 2024 (arXiv 2305.15798), eq. 3.

    The outputs of blocks of the same name are compared: ``down_blocks.i``, ``mid_block`` and ``up_blocks.i``, as
    diffusers calls them, under any prefix that all blocks of a net share. A block that only one net has is left out.
    Each squared difference is divided by the teacher's mean square over the batch, so that all blocks count alike;
    they are averaged. A 1x1 convolution widens the student's features where widths differ; where sizes differ, the
    teacher's are resampled to the student's.

    Args:
        pairs: ``[["student.path", "teacher.path"], ...]`` for nets whose blocks have other names; none to go by name.

    Raises:
        UserError: in ``attach`` for nets without blocks of the same name, or layers that a net does not have.
    """

    def __init__(self, pairs: Sequence[Sequence[str]] | None = None) -> None:
        super().__init__()
        check_pairs("blocks", pairs or [])
        self.wanted = pairs
        self.pairs: list[Pair] = []
        self.regressors = nn.ModuleList()

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Settle the pairs and make a regressor for each whose widths differ. Raises UserError where none is found."""
        wanted = self.wanted or _same_names(student, teacher, batch)
        self.pairs = choose("blocks", student, teacher, batch, wanted)
        settle(self, self.pairs)
        self.regressors = nn.ModuleList(_regressor(pair) for pair in self.pairs).to(batch.x.device)

    def loss(self, view: View) -> Tensor:
        """``mean over blocks of |r(student) - teacher|^2 / |teacher|^2``, ``(B,)``."""
        losses = []
        for pair, regressor in zip(self.pairs, self.regressors, strict=True):
            student = regressor(view.student_taps[pair.student.path].float()).float()
            teacher = resample(view.teacher_taps[pair.teacher.path], student)
            energy = teacher.square().mean().clamp_min(1e-12)
            losses.append((student - teacher).square().flatten(1).mean(1) / energy)
        return torch.stack(losses).mean(0)


def _same_names(student: Net, teacher: Net, batch: Batch) -> list[list[str]]:
    """Paths of the blocks that run in both nets under the same name."""
    seen = batch.x if batch.teacher_x is None else batch.teacher_x
    ours, theirs = _blocks(student, batch.x, batch), _blocks(teacher, seen, batch)
    pairs = [[path, theirs[name]] for name, path in ours.items() if name in theirs]
    if not pairs:
        raise UserError("blocks pairs layers called down_blocks.N, mid_block and up_blocks.N, and these nets have none "
                        'in common: give pairs like [["student.path", "teacher.path"]]')  # fmt: skip
    return pairs


def _blocks(net: Net, x: Tensor, batch: Batch) -> dict[str, str]:
    """Paths of a net's blocks that run, by their names without the prefix that they share."""
    named = [path for path, _ in net.named_modules() if BLOCK.fullmatch(path)]
    prefixes = {path: BLOCK.sub(r"\1", path).split(".")[:-1] for path in probe(net, x, batch.cond, named)[1]}
    together = list(zip(*prefixes.values(), strict=False))
    shared = next((i for i, parts in enumerate(together) if len(set(parts)) > 1), len(together))
    return {".".join(path.split(".")[shared:]): path for path in prefixes}
