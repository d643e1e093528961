"""Whether a picture shows what was asked for."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdgen.models.model import load
from kdgen.types import UserError, text
from kdgen.utils.references import ModelReference


def r_precision(logits: Tensor, words: Sequence[str], prompts: Sequence[str]) -> float:
    """R-precision of words: of the R words of a prompt that a classifier knows, the share among its R likeliest.

    As Xu et al. 2018 (arXiv 1711.10485), section 4, who rank captions; here words are ranked.

    Args:
        logits: of the classifier for pictures, ``(B, K)``.
        words: that its classes stand for, K of them.
        prompts: what each picture was asked for. Words that it does not know do not count.

    Returns:
        the mean in [0, 1] over the pictures of whose prompts it knows a word; NaN where there are none.
    """
    place = {word: number for number, word in enumerate(words)}
    shares = list[float]()
    for row, prompt in zip(logits, prompts, strict=True):
        asked = {place[word] for word in prompt.lower().split() if word in place}
        if asked:
            found = asked & set(row.topk(len(asked)).indices.tolist())
            shares.append(len(found) / len(asked))
    return float(torch.tensor(shares, dtype=torch.float64).mean())


class Judge:
    """A classifier whose classes are words.

    Args:
        model: by reference; its task lists its words.

    Raises:
        UserError: for a model that cannot be loaded, and one that says no words.
    """

    def __init__(self, model: ModelReference) -> None:
        self.model = load(model).eval()
        self.words: Sequence[str] = self.model.task.get("words") or ()
        if not self.words:
            raise UserError(text("judge_without_words", "{name} says no words: recognise is for a classifier that "
                                 "does, emoji-words or one of yours whose task lists its words",
                                 name=self.model.name))  # fmt: skip

    @torch.no_grad()
    def r_precision(self, pictures: Tensor, prompts: Sequence[str]) -> float:
        """That of pictures ``(B, C, H, W)`` in [-1, 1], each of a prompt."""
        return r_precision(self.model.net(pictures), self.words, prompts)


__all__ = ["Judge", "r_precision"]
