"""How much each example counts in what is learnt from several teachers of one thing, as pure functions of answers."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.data.label_maps import IGNORED
from kdgen.recipe.parts import Weighting


def confidence(answers: Sequence[Tensor], truth: Tensor | None = None) -> Tensor:
    """The weight of each teacher on each example, by how sure of the truth it is beside the others.

    CA-MKD, Zhang et al. 2022 (arXiv 2201.00007), eqs. 2-3: ``w_k = (1 - exp(L_k) / sum_j exp(L_j)) / (N - 1)`` with
    ``L_k = -log softmax(z_k)[truth]``; here times N, so that equally sure teachers count 1 each. Where there is no
    truth, ``L_k`` is the entropy of ``softmax(z_k)``, in nats too. Both are means over places.

    Args:
        answers: logits of N > 1 teachers, each ``(B, K, ...)``.
        truth: classes ``(B,)``; or maps of them ``(B, ...)``, as many places as the logits have, 255 where nothing is
            known; or their shares ``(B, K, ...)``.

    Returns:
        ``(N, B)``, whose mean over the N is 1 for each example.
    """
    unsure = torch.stack([_unsure(logits.float(), truth) for logits in answers])
    return len(answers) / (len(answers) - 1) * (1 - unsure.softmax(0))


def _unsure(logits: Tensor, truth: Tensor | None) -> Tensor:
    if truth is None:
        return _entropy(logits.softmax(1))
    if truth.is_floating_point() or truth.ndim == 1:
        return F.cross_entropy(logits, truth, reduction="none").view(len(logits), -1).mean(1)
    loss = F.cross_entropy(logits, truth, reduction="none", ignore_index=IGNORED).view(len(logits), -1)
    known = (truth != IGNORED).view(loss.shape)
    return loss.sum(1) / known.sum(1).clamp_min(1)


def agreement(answers: Sequence[Tensor]) -> Tensor:
    """The weight of each example, 1 where all teachers answer the same and less the more they differ, ``(B,)``.

    Of N images it is the share of their variance that they have in common, ``s / (s + d)`` with ``s`` the variance of
    their mean over channels and pixels, and ``d`` the mean of their variance about that mean: the intraclass
    correlation of Fisher 1925, "Statistical Methods for Research Workers", section 38, for whole populations.

    Args:
        answers: of N > 1 teachers, images ``(B, C, H, W)`` alike in shape.
    """
    together = torch.stack([answer.float().flatten(1) for answer in answers])
    common = together.mean(0).var(1, correction=0)
    apart = together.var(0, correction=0).mean(1)
    return torch.where(apart > 0, common / (common + apart).clamp_min(1e-12), 1.0)


def agreement_on_classes(answers: Sequence[Tensor]) -> Tensor:
    """The same of logits: ``1 - JS / log N`` with the Jensen-Shannon divergence of the N softmaxes, a mean over places.

    Lin 1991, "Divergence measures based on the Shannon entropy", eq. 5.1 with equal weights:
    ``JS = H(mean_k p_k) - mean_k H(p_k)``, which lies in [0, log N].

    Args:
        answers: of N > 1 teachers, logits ``(B, K, ...)`` alike in shape.
    """
    shares = torch.stack([logits.float().softmax(1) for logits in answers])
    apart = _entropy(shares.mean(0)) - torch.stack([_entropy(p) for p in shares]).mean(0)
    return (1 - apart / math.log(len(shares))).clamp(0, 1)


def _entropy(p: Tensor) -> Tensor:
    """In nats, of shares over dimension 1, the mean over places, ``(B,)``."""
    return -torch.xlogy(p, p).sum(1).view(len(p), -1).mean(1)


def weights(kind: Weighting, answers: Sequence[Tensor], truth: Tensor | None, *, logits: bool) -> Tensor:
    """What multiplies the loss of each of N teachers on each example, ``(N, B)``.

    Args:
        kind: see ``Stage.weighting``.
        answers: of the N teachers, alike in shape.
        truth: labels, where there are any.
        logits: whether the answers are logits; confidence is of such.
    """
    if kind == "confidence":
        return confidence(answers, truth)
    alike: Callable[[Sequence[Tensor]], Tensor] = agreement_on_classes if logits else agreement
    return alike(answers).expand(len(answers), -1)


__all__ = ["agreement", "agreement_on_classes", "confidence", "weights"]
