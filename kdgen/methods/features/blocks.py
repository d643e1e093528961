"""Match the blocks of two nets that bear the same names, or that come from one another."""

import re

from torch import Tensor

from kdgen.methods.features.feature_base import Paired
from kdgen.methods.layer_matching import LayerPairs, Pair, choose, origins_of, probe
from kdgen.registry import register
from kdgen.types import Batch, Net, UserError, text

BLOCK = re.compile(r"((?:.*\.)?)(?:down_blocks\.\d+|mid_block|up_blocks\.\d+)")


@register("method", handle="bk_sdm")
class Blocks(Paired):
    """Block-wise feature distillation: BK-SDM, Kim et al. 2024 (arXiv 2305.15798), eq. 3.

    The outputs of blocks of the same name are compared: ``down_blocks.i``, ``mid_block`` and ``up_blocks.i``, as
    diffusers calls them, under any prefix that all blocks of a net share. A block that only one net has is left out.
    Of nets that know which blocks of a larger one of their kind theirs are, transformers say, it is these.
    Each squared difference is divided by the teacher's mean square over the batch, so that all blocks count alike;
    they are averaged. A 1x1 convolution widens the student's features where widths differ; where sizes differ, the
    teacher's are resampled to the student's.

    Args:
        pairs: ``[["student.path", "teacher.path"], ...]`` for nets whose blocks have other names; none to go by name.

    Raises:
        UserError: in ``attach`` for nets without blocks of the same name, or layers that a net does not have.
    """

    def __init__(self, pairs: LayerPairs | None = None) -> None:
        super().__init__()
        self.wanted = pairs

    def chosen(self, student: Net, teacher: Net, batch: Batch) -> list[Pair]:
        """The pairs that are named, or blocks that belong together. Raises UserError where none is found."""
        known = [[own, other] for own, other in origins_of(student, teacher).items()]
        return choose("blocks", student, teacher, batch, self.wanted or known or _same_names(student, teacher, batch))

    def error(self, student: Tensor, teacher: Tensor) -> Tensor:
        """``|r(student) - teacher|^2 / |teacher|^2``, ``(B,)``."""
        energy = teacher.square().mean().clamp_min(1e-12)
        return (student - teacher).square().flatten(1).mean(1) / energy


def _same_names(student: Net, teacher: Net, batch: Batch) -> list[list[str]]:
    """Paths of the blocks that run in both nets under the same name."""
    student_blocks, teacher_blocks = _blocks(student, batch), _blocks(teacher, batch.for_teacher())
    pairs = [[path, teacher_blocks[name]] for name, path in student_blocks.items() if name in teacher_blocks]
    if not pairs:
        raise UserError(text("no_blocks", "blocks pairs layers called down_blocks.N, mid_block and up_blocks.N, and "
                             'these nets have none in common: give pairs like [["student.path", '
                             '"teacher.path"]]'))  # fmt: skip
    return pairs


def _blocks(net: Net, batch: Batch) -> dict[str, str]:
    """Paths of a net's blocks that run, by their names without the prefix that they share."""
    candidates = [path for path, _ in net.named_modules() if BLOCK.fullmatch(path)]
    prefixes = {path: BLOCK.sub(r"\1", path).split(".")[:-1] for path in probe(net, batch.x, batch.cond, candidates)[1]}
    columns = list(zip(*prefixes.values(), strict=False))
    num_shared = next((i for i, parts in enumerate(columns) if len(set(parts)) > 1), len(columns))
    return {".".join(path.split(".")[num_shared:]): path for path in prefixes}
