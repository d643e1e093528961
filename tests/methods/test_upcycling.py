"""Inputs that nobody has the truth for, and the noise they carry."""

import pytest
import torch

from kdgen.methods.outputs.upcycling import Upcycling, mixed, renoised, rescaled, turned, turned_back, zoomed
from kdgen.types import Batch, UserError


def noisy(truth: bool, sigma: tuple[float, ...] = (0.2, 0.2, 0.2, 0.2), size: int = 64) -> Batch:
    """Large smooth images with white noise."""
    torch.manual_seed(0)
    ramp = torch.linspace(-0.5, 0.5, size)
    y = torch.stack([ramp[None].repeat(size, 1) * (i + 1) / 4 for i in range(len(sigma))])[:, None]
    level = torch.tensor(sigma)
    x = y + level.view(-1, 1, 1, 1) * torch.randn_like(y)
    return Batch(x=x, y=y if truth else None, cond={"sigma": level})


def measured(x: torch.Tensor) -> torch.Tensor:
    """The level of white noise on smooth images, from differences of diagonal neighbours in 2x2 blocks."""
    wavelet = (x[..., ::2, ::2] - x[..., 1::2, ::2] - x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 2
    return wavelet.flatten(1).std(1)


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("sigma", [(0.2, 0.2, 0.2, 0.2), (0.05, 0.1, 0.2, 0.4)])
@pytest.mark.parametrize(
    "make",
    [lambda b: rescaled(b, 4, 2.0), lambda b: mixed(b, 4), lambda b: renoised(b, 4, 0.3)],
    ids=["rescale", "mix", "renoise"],
)
def test_noise_is_of_the_level_that_is_said(make, sigma, truth):
    x, cond = make(noisy(truth, sigma))
    torch.testing.assert_close(measured(x), cond["sigma"], rtol=0.08, atol=0.0)


@pytest.mark.parametrize("truth", [True, False])
def test_one_level_stays_one_level(truth):
    for x, cond in (rescaled(noisy(truth), 4, 2.0), mixed(noisy(truth), 4)):
        torch.testing.assert_close(cond["sigma"], torch.full((4,), 0.2))
        assert x.shape == (4, 1, 64, 64)


def test_rescaling_without_truth_permutes_pixels():
    batch = noisy(False, size=7)
    x, _ = rescaled(batch, 3, 2.0)
    assert torch.equal(x.flatten(1).sort(1).values, batch.x[:3].flatten(1).sort(1).values)
    assert torch.equal(x[:, :, :4, :4], batch.x[:3, :, ::2, ::2])


def test_mixing_without_level_keeps_one_level():
    batch = noisy(False)
    x, cond = mixed(Batch(x=batch.x), 4)
    assert cond == {}
    torch.testing.assert_close(measured(x), torch.full((4,), 0.2), rtol=0.08, atol=0.0)


def test_renoising_a_truth_draws_fresh_noise():
    batch = noisy(True)
    x, cond = renoised(batch, 2, 0.0)
    assert torch.equal(cond["sigma"], batch.cond["sigma"][:2])
    noise, fresh = (batch.x - batch.y)[:2], x - batch.y[:2]
    assert abs((noise * fresh).mean() / 0.04) < 0.05


def test_zoom_one_is_the_image_itself():
    image = torch.rand(2, 3, 9, 6)
    torch.testing.assert_close(zoomed(image, 1.0), image, atol=1e-5, rtol=0)


def test_zoom_scales_slopes():
    torch.manual_seed(1)
    ramp = torch.linspace(0, 1, 32).repeat(16, 1, 32, 1)
    zoom_in_or_out = (zoomed(ramp, 2.0).diff(dim=-1).abs().amax((1, 2, 3))) * 31
    assert zoom_in_or_out.min() > 0.49
    assert zoom_in_or_out.max() < 2.01
    assert zoom_in_or_out.max() / zoom_in_or_out.min() > 1.5


@pytest.mark.parametrize("turn", range(8))
def test_turns_are_undone(turn):
    image = torch.rand(1, 1, 4, 6)
    assert torch.equal(turned_back(turned(image, turn), turn), image)
    assert turn == 0 or turned(image, turn).shape != image.shape or not torch.equal(turned(image, turn), image)


def test_eight_different_turns():
    image = torch.rand(1, 1, 5, 5)
    assert len({tuple(turned(image, turn).flatten().tolist()) for turn in range(8)}) == 8


class Pointwise(torch.nn.Module):
    """Equivariant to every turn, and counts its images."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(a))
        self.seen = 0

    def forward(self, x, **cond):
        self.seen += len(x)
        return self.a * x * cond["sigma"].view(-1, 1, 1, 1)


def test_equal_equivariant_nets_agree_on_everything(batch, make_view):
    method = Upcycling(modes=["rescale", "mix", "renoise"])
    inputs = make_view(method, Pointwise(0.5), Pointwise(0.5), batch)
    for seed in range(12):
        torch.manual_seed(seed)
        torch.testing.assert_close(method.loss(inputs), torch.zeros(4), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.5, 2), (0.75, 3), (1.0, 4)])
def test_share_bounds_what_the_teacher_is_asked(share, count, batch, make_view):
    method = Upcycling(share=share)
    student, teacher = Pointwise(0.5), Pointwise(1.0)
    inputs = make_view(method, student, teacher, batch)
    teacher.seen = 0
    loss = method.loss(inputs)
    assert teacher.seen == count
    assert (loss[:count] > 0).all()
    assert (loss[count:] == 0).all()


def test_share_does_not_change_the_mean(batch, make_view):
    class Constant(torch.nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = torch.nn.Parameter(torch.tensor(value))

        def forward(self, x, **cond):
            return self.value + 0 * x

    for share in (0.25, 1.0):
        method = Upcycling(share=share)
        loss = method.loss(make_view(method, Constant(0.5), Constant(1.0), batch))
        torch.testing.assert_close(loss.mean(), torch.tensor(0.25))


def test_consistency_punishes_a_student_that_minds_turns(tiny, batch, make_view):
    torch.manual_seed(0)
    teacher = tiny().eval()
    apart, upright = Upcycling(modes=["mix"]), Upcycling(modes=["mix"], consistency=False)
    inputs = make_view(apart, teacher, teacher, batch)
    assert sum(apart.loss(inputs).sum().item() for _ in range(4)) > 1e-6
    torch.testing.assert_close(upright.loss(inputs), torch.zeros(4), atol=1e-12, rtol=0)


def test_unfit_batches_are_refused(batch):
    net = Pointwise(1.0)
    with pytest.raises(UserError, match="condition 'mask'"):
        Upcycling().attach(net, net, Batch(x=batch.x, cond={**batch.cond, "mask": batch.x}))

    class Blind(torch.nn.Module):
        def forward(self, x, **cond):
            return x

    with pytest.raises(UserError, match="renoise needs a task that tells the noise level"):
        Upcycling(modes=["renoise"]).attach(Blind(), Blind(), Batch(x=batch.x))
    Upcycling().attach(Blind(), Blind(), Batch(x=batch.x))
