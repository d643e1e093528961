"""A student's embedding of time fitted to that of a teacher with another table of noise levels."""

import torch

from kdgen.models.adapters.unet2d import unet2d

TINY = {"size": 8, "block_out_channels": [8, 16], "attention_levels": 0, "mid_block": False}


def test_a_student_with_another_table_starts_as_its_teacher() -> None:
    torch.manual_seed(0)
    teacher = unet2d(**TINY).eval()
    torch.manual_seed(1)
    student = unet2d(**TINY, beta_schedule="squaredcos_cap_v2").eval()
    x, levels = torch.randn(6, 1, 8, 8), torch.tensor([0.05, 0.2, 1.0, 3.0, 10.0, 60.0])
    noisy = x * (1 + levels.view(-1, 1, 1, 1) ** 2).sqrt()
    student.inherit(teacher)
    with torch.no_grad():
        mine, theirs = student(noisy, sigma=levels), teacher(noisy, sigma=levels)
    assert float((mine - theirs).square().mean().sqrt()) < 0.02
    assert float(theirs.std()) > 0.2
    assert all(p.grad is None for p in student.parameters())
    given, kept = dict(teacher.named_parameters()), dict(student.named_parameters())
    assert all(torch.equal(kept[name], given[name]) for name in kept if "time_embedding" not in name)


def test_a_student_with_the_same_table_is_a_copy() -> None:
    torch.manual_seed(0)
    teacher, student = unet2d(**TINY), unet2d(**TINY)
    student.inherit(teacher)
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), student.parameters(), strict=True))
