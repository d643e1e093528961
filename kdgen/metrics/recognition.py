"""Whether a picture shows what was asked for."""

from collections.abc import Sequence

import torch
from torch import Tensor


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


__all__ = ["r_precision"]
