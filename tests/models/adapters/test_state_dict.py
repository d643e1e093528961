"""Which weights of a file are taken, and what is made of them: averages, nested keys, norms folded, or a refusal."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from declarations import declare, loads, said
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from kdgen.models.adapters.checkpoint import load_checkpoint
from kdgen.models.adapters.state_dict import find_weights, plain
from kdgen.models.adapters.weight_files import read_weights_file
from kdgen.registry import Spec, build
from kdgen.types import UserError


@pytest.mark.parametrize(
    ("around", "key"),
    [
        (lambda w: {"model": {"state_dict": w}, "epoch": 1}, None),
        (lambda w: {"state_dict": {"net": w}}, None),
        (lambda w: {"module": {"generator": w, "critic": {}}}, "module.generator"),
        (lambda w: {"nets.g": {"weights": w}}, "nets.g.weights"),
        (lambda w: {"nets.g": {"weights": w}}, "nets.g"),
    ],
)
def test_weights_are_found_under_nested_and_dotted_keys(
    tmp_path: Path, weights: dict[str, Tensor], around: Any, key: str | None
) -> None:
    torch.save(around(weights), tmp_path / "net.pth")
    assert loads(declare(tmp_path / "net.pth", key=key), weights)


def test_weights_that_chainer_saved_have_torchs_names(tmp_path: Path) -> None:
    layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    called = {"weight": "W", "bias": "b", "running_mean": "avg_mean", "running_var": "avg_var"}
    arrays = {f"{key.replace('.', '/').rpartition('/')[0]}/{called[key[2:]]}": value.numpy()
              for key, value in layers.state_dict().items() if key[2:] in called}  # fmt: skip
    arrays["1/gamma"], arrays["1/beta"] = arrays.pop("1/W"), arrays.pop("1/b")
    np.savez(tmp_path / "net.npz", **arrays, **{"1/N": np.array(3)})
    found, _ = find_weights(read_weights_file(tmp_path / "net.npz"), declare(tmp_path / "net.npz"))
    expected = {key: value for key, value in layers.state_dict().items() if "num_batches" not in key}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def other(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value + 1 for key, value in weights.items()}


@pytest.mark.parametrize(
    ("around", "live"),
    [
        (lambda w, ema: {"model": w, "model_ema": ema}, {"key": "model"}),
        (lambda w, ema: {"state_dict_ema": ema, "state_dict": w}, {"key": "state_dict"}),
        (lambda w, ema: {"state_dict": w, "ema": {"module": ema, "decay": 0.9}}, {"key": "state_dict"}),
        (lambda w, ema: {"state_dict": w, "ema_state_dict": ema}, {"key": "state_dict"}),
        (lambda w, ema: {"params": w, "params_ema": ema}, {"key": "params"}),
        (lambda w, ema: {"g": w, "g_ema": ema, "d": {"0.weight": torch.ones(1)}}, {"key": "g"}),
        (lambda w, ema: {"model": {"params": w, "ema": {"shadow": ema}}}, {"key": "model.params"}),
        (
            lambda w, ema: {
                "initted": torch.ones(()),
                **{f"online_model.{key}": value for key, value in w.items()},
                **{f"ema_model.{key}": value for key, value in ema.items()},
            },
            {"prefix": "online_model."},
        ),
    ],
)
def test_the_average_is_taken_and_said(
    tmp_path: Path, weights: dict[str, Tensor], around: Any, live: dict[str, str]
) -> None:
    torch.save(around(weights, other(weights)), tmp_path / "net.pth")
    with pytest.warns(UserWarning, match=r"took the average of the weights, .*ema.*declare (their|the|key)") as told:
        assert loads(declare(tmp_path / "net.pth"), other(weights))
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if "prefix" in live else "error")
        assert loads(declare(tmp_path / "net.pth", **live), weights)


def test_live_weights_beside_an_average_are_never_taken_in_silence(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    flat = {f"model.{key}": value for key, value in weights.items()}
    flat |= {f"model_ema.{key.replace('.', '')}": value for key, value in weights.items()}
    flat |= {"model_ema.decay": torch.ones(()), "model_ema.num_updates": torch.ones(())}
    torch.save({"state_dict": flat}, tmp_path / "latent.ckpt")
    with pytest.warns(UserWarning, match="an average of the weights lies beside.*'model_ema.'"):
        assert loads(declare(tmp_path / "latent.ckpt", prefix="model."), weights)
    torch.save({"model": weights, "ema": {"decay": 0.9, "shadow_params": list(weights.values())}}, tmp_path / "list.pt")
    with pytest.warns(UserWarning, match="took the live weights, 'model': their average 'ema' has no names"):
        assert loads(declare(tmp_path / "list.pt"), weights)


def test_an_average_whose_names_lost_their_dots_is_taken(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    flat = {f"model.{key}": value for key, value in weights.items()}
    flat |= {f"model_ema.{key.replace('.', '')}": value for key, value in other(weights).items()}
    flat |= {"model_ema.decay": torch.ones(()), "model_ema.num_updates": torch.ones(())}
    torch.save({"state_dict": flat}, tmp_path / "latent.ckpt")
    with pytest.warns(UserWarning, match=r"took the average of the weights, those of prefix 'model_ema\.'"):
        assert loads(declare(tmp_path / "latent.ckpt"), other(weights))


@pytest.mark.parametrize(
    ("heads", "prefix"),
    [
        (("net.", "loss.vgg."), "net."),
        (("model.module.", "ema_model.module."), "ema_model.module."),
        (("_orig_mod.", "criterion."), "_orig_mod."),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_prefix_that_fits_is_suggested_whatever_lies_beside(
    tmp_path: Path, weights: dict[str, Tensor], heads: tuple[str, str], prefix: str
) -> None:
    torch.save({f"{head}{key}": value for head in heads for key, value in weights.items()}, tmp_path / "net.ckpt")
    with pytest.raises(UserError, match=f"declare prefix {prefix!r}"):
        load_checkpoint(declare(tmp_path / "net.ckpt"))
    assert loads(declare(tmp_path / "net.ckpt", prefix=prefix), weights)


def test_counters_beside_weights_are_left_out(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    counted = {**weights, "total_ops": torch.zeros(1, dtype=torch.float64), "0.total_params": torch.zeros(1)}
    torch.save({"n_averaged": torch.ones(()), **{f"module.{k}": v for k, v in counted.items()}}, tmp_path / "net.pth")
    assert loads(declare(tmp_path / "net.pth", prefix="module."), weights)
    plain = Spec(name="dncnn", args={"depth": 3, "width": 4})
    own = dict(build("net", plain).state_dict())
    torch.save({**own, "2.num_batches_tracked": torch.ones((), dtype=torch.int64)}, tmp_path / "net.pth")
    assert loads(declare(tmp_path / "net.pth", net=plain), own)


@pytest.mark.parametrize(
    "normalise",
    [
        weight_norm,
        lambda m: weight_norm(m, dim=None),
        spectral_norm,
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm")
def test_parametrised_weights_are_folded(tmp_path: Path, normalise: Any) -> None:
    torch.manual_seed(0)
    use = Spec(name="dncnn", args={"depth": 3, "width": 4})
    own = build("net", use)
    expected = {}
    for layer in own.modules():
        if isinstance(layer, nn.Conv2d):
            normalise(layer)
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.mul_(1.5)
            own.train()(torch.rand(1, 1, 8, 8))
    own.eval()(torch.rand(1, 1, 8, 8))
    for name, layer in own.named_modules():
        if isinstance(layer, nn.Conv2d):
            expected[f"{name}.weight"] = layer.weight.detach().clone()
    torch.save(own.state_dict(), tmp_path / "net.pth")
    assert not any(key.endswith(".weight") for key in own.state_dict())
    assert loads(declare(tmp_path / "net.pth", net=use), expected)


def test_a_transposed_convolution_is_folded_along_its_output(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for normalise in (spectral_norm, parametrizations.spectral_norm):
        layer = normalise(nn.ConvTranspose2d(6, 6, 3)).train()
        for _ in range(20):
            layer(torch.rand(1, 6, 4, 4))
        layer.eval()(torch.rand(1, 6, 4, 4))
        assert torch.allclose(plain(layer.state_dict(), ["weight", "bias"])["weight"], layer.weight, atol=1e-6)


def test_another_parametrisation_is_refused_with_what_removes_it(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    split = {key.replace("0.weight", "0.parametrizations.weight.original"): value for key, value in weights.items()}
    torch.save(split, tmp_path / "net.pth")
    assert "remove_parametrizations" in said(declare(tmp_path / "net.pth"))


@pytest.mark.parametrize("kind", [torch.int8, torch.complex64, torch.bool])
def test_weights_that_are_no_floats_are_refused(tmp_path: Path, weights: dict[str, Tensor], kind: torch.dtype) -> None:
    torch.save({**weights, "0.weight": weights["0.weight"].to(kind)}, tmp_path / "net.pth")
    assert "0.weight is of " + str(kind).removeprefix("torch.") in said(declare(tmp_path / "net.pth"))


@pytest.mark.parametrize("name", ["0.weight", "3.running_var"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, weights: dict[str, Tensor], name: str) -> None:
    torch.save({**weights, name: torch.full_like(weights[name], float("nan"))}, tmp_path / "net.pth")
    assert f"{name} is not finite" in said(declare(tmp_path / "net.pth"))
