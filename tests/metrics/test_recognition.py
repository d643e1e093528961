import math

import torch

from kdgen.metrics.recognition import r_precision

WORDS = ["blue", "cat", "face", "heart", "red"]


def test_it_is_the_share_of_the_asked_words_among_as_many_likeliest() -> None:
    logits = torch.tensor([[0.0, 0, 0, 9, 8], [5, 4, 3, 0, 6], [1, 9, 0, 0, 0]])
    assert r_precision(logits[:1], WORDS, ["red heart"]) == 1
    assert r_precision(logits[1:2], WORDS, ["blue cat face"]) == 2 / 3
    assert r_precision(logits[2:], WORDS, ["Cat CAT"]) == 1
    assert math.isclose(
        r_precision(logits, WORDS, ["red heart", "blue cat face", "heart"]), (1 + 2 / 3) / 3, rel_tol=1e-6
    )


def test_words_that_nobody_knows_do_not_count() -> None:
    logits = torch.tensor([[0.0, 9, 0, 0, 0], [0.0, 9, 0, 0, 0]])
    assert r_precision(logits, WORDS, ["a cat on the moon", "the moon"]) == 1
    assert math.isnan(r_precision(logits, WORDS, ["the moon", ""]))
