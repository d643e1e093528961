"""What the Compare tab measures."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kdgen.models.model import Model, build_net, load
from kdgen.registry import Spec
from kdgen.types import UserError
from kdgen.ui import comparing, undone
from kdgen.ui.as_pictured import AsPictured, as_pictured
from kdgen.ui.comparing import Options
from kdgen.ui.limits import Limits
from kdgen.utils.convert import from_picture, to_pictures


def test_a_student_of_few_steps_is_measured_in_its_steps_beside_its_teacher(tmp_path, monkeypatch):
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path))
    monkeypatch.setattr(comparing, "MEASURED", 8)
    teacher = load("diffusion")
    student = Model(load("diffusion").net, name="few", channels=1,
                    task={**teacher.task, "sampler": "euler", "steps": [2]})  # fmt: skip
    calls = []
    student.net.register_forward_hook(lambda *_: calls.append(1))
    report = comparing.measured({"diffusion": teacher, "few": student})
    first, second = report.rows
    assert (first.calls, second.calls) == (35, 2)
    assert len(calls) < 60, "counting MACs and timing, and two steps for its images"
    header, (_, cells) = report.table()
    assert cells[header.index("fewer MACs")] == cells[header.index("faster")] == "17.5x", "the same net, 35 calls for 2"
    with pytest.raises(UserError, match="name that first"):
        comparing.measured({"few": student, "diffusion": teacher})


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("sigma", "seed", "num_images", "num_steps", "strength")
     for value in (float("nan"), float("inf"), -1, 1e30, None, "5", True)]
)  # fmt: skip
def test_every_number_of_a_comparison_is_bounded(name, value):
    good = {"sigma": 25, "seed": 0, "num_images": 16, "num_steps": 1.0}
    asked = Options.within(Limits(), **good)
    assert (asked.seed, asked.num_images, asked.num_steps) == (0, 16, 1)
    with pytest.raises(UserError, match=f"{name} is a (number|share) in"):
        Options.within(Limits(), **{**good, name: value})


def restorer(net: Spec, damages: list[Any], channels: int = 3) -> Model:
    torch.manual_seed(0)
    made, use = build_net(net, channels)
    return Model(made, name=net.name, channels=channels, use=use, task={"name": "restore", "damages": damages})


PICTURE = Image.fromarray(np.arange(64 * 80 * 3, dtype=np.uint32).reshape(64, 80, 3).astype(np.uint8))
OPTIONS = Options(sigma=25, seed=0, num_images=1, num_steps=1)


def test_an_inpainter_is_told_what_is_missing_by_chance_or_by_hand() -> None:
    blind = {"channels": 3, "widths": [4, 6], "blocks": 1, "blind": True}
    models = {"it": restorer(Spec(name="unet", args={**blind, "mask": True}), ["mask"])}
    clean = from_picture(PICTURE)[0]
    by_chance = comparing.shown_to(models, clean, OPTIONS)
    assert 0 < by_chance.cond["mask"].mean() < 0.5
    hand = Image.new("L", (40, 32))
    hand.paste(255, (10, 8, 20, 16))
    by_hand = comparing.shown_to(models, clean, OPTIONS, hand)
    assert by_hand.cond["mask"][0, 0].nonzero().amax(0).tolist() == [31, 39]
    assert by_hand.cond["mask"].mean() == pytest.approx(1 / 16)
    assert by_hand.x[0, :, 20, 30].abs().max() == 0
    told = comparing.on_photograph(models, PICTURE, OPTIONS, hand)
    untold = AsPictured(models["it"], 25.0)(by_hand.x)
    assert not np.array_equal(np.asarray(told.pair[1]), np.asarray(to_pictures(untold.detach().clamp(-1, 1))[0]))


def test_a_mask_is_of_no_account_to_models_that_are_told_none() -> None:
    models = {"it": restorer(Spec(name="half_res", args={"channels": 3}), ["dark"])}
    whole = Image.new("L", PICTURE.size, 255)
    with_mask, without = (comparing.on_photograph(models, PICTURE, OPTIONS, mask) for mask in (whole, None))
    assert np.array_equal(np.asarray(with_mask.pair[0]), np.asarray(without.pair[0]))


def test_damage_is_as_strong_as_is_asked_and_an_upscaler_is_shown_a_small_picture() -> None:
    clean = from_picture(PICTURE)[0]
    dark = {"it": restorer(Spec(name="half_res", args={"channels": 3}), ["dark"])}
    weak, strong = (comparing.shown_to(dark, clean, replace(OPTIONS, strength=share)).x for share in (0.0, 1.0))
    assert strong.mean() < weak.mean() < clean.mean()
    assert torch.equal(comparing.shown_to(dark, clean, replace(OPTIONS, noisy=True)).x, clean)
    shrink = [{"name": "shrink", "args": {"scale": 2}}]
    upscaler = {"it": restorer(Spec(name="compact", args={"width": 4, "depth": 1, "scale": 2}), shrink)}
    assert comparing.shown_to(upscaler, clean, OPTIONS).x.shape == (1, 3, 32, 40)
    shown = comparing.on_photograph(upscaler, PICTURE, OPTIONS)
    assert shown.pair[0].size == shown.pair[1].size


SEVERAL = [
    {"name": "one_of", "args": {"damages": [{"name": "noise", "args": {"sigma": [0, 50]}}, ["rain", "dark"], "grey"]}}
]


@pytest.mark.parametrize("order", [1, -1])
def test_a_specialist_and_a_generalist_are_compared_at_what_the_specialist_undoes(order: int) -> None:
    nets = Spec(name="half_res", args={"channels": 3, "width": 4, "blocks": 1})
    models = dict([("any", restorer(nets, SEVERAL)), ("dark", restorer(nets, ["dark"]))][::order])
    assert comparing.shared_task(models)["damages"] == ["dark"]
    clean = from_picture(PICTURE)[0]
    assert comparing.shown_to(models, clean, OPTIONS).x.mean() < clean.mean()
    report = comparing.measured(models)
    assert report.task == "restore: dark"
    assert [row.name for row in report.rows] == list(models), "the first is the reference, whatever it undoes"
    assert "photographs that come with kdgen" in report.notes[-1]


def test_what_is_undone_is_said_in_words_and_is_graded_where_there_is_more_and_less_of_it() -> None:
    shrink = [{"name": "shrink", "args": {"scale": 2}}]
    assert undone.in_words({"name": "restore", "damages": SEVERAL}) == (
        "restore: noise (sigma 0-50) / rain + dark / grey"
    )
    assert undone.in_words({"name": "restore", "damages": shrink}) == "restore: shrink (scale 2)"
    assert undone.in_words({"name": "denoise"}) == ""
    said = {"graded": [SEVERAL, ["dark"], [*shrink, "noise"]], "not": [shrink, ["grey"]]}
    assert all(undone.is_graded({"damages": each}) for each in said["graded"])
    assert not any(undone.is_graded({"damages": each}) for each in said["not"])
    assert undone.is_graded({"name": "restore"})


def test_a_model_is_told_how_dark_a_picture_was_made_and_of_a_dark_one_what_the_strength_says() -> None:
    args = {"channels": 3, "widths": [4, 6], "blocks": 1, "blind": True, "stops": True, "first_guess": True}
    models = {"it": restorer(Spec(name="unet", args=args), ["dark"])}
    clean, noisy = from_picture(PICTURE)[0], replace(OPTIONS, noisy=True)
    dark = comparing.shown_to(models, clean, OPTIONS)
    assert dark.cond["stops"] > 0
    net = AsPictured(models["it"], 25.0)
    assert "stops" in net.conditions
    told, untold = (net(dark.x, stops=stops) for stops in (dark.cond["stops"], None))
    assert told.mean() > untold.mean() + 0.1, "lit as much as it lacks"
    weak, strong = (comparing.shown_to(models, clean, replace(noisy, strength=share)) for share in (0.0, 1.0))
    assert torch.equal(weak.x, clean)
    assert weak.cond["stops"] < strong.cond["stops"]


def test_a_mask_is_of_no_account_where_the_generalist_alone_is_told_one() -> None:
    nets = Spec(name="half_res", args={"channels": 3, "width": 4, "blocks": 1})
    blind = {"channels": 3, "widths": [4, 6], "blocks": 1, "blind": True, "mask": True}
    several = [{"name": "one_of", "args": {"damages": ["mask", "rain"]}}]
    models = {"any": restorer(Spec(name="unet", args=blind), several), "rain": restorer(nets, ["rain"])}
    whole = Image.new("L", PICTURE.size, 255)
    with_mask, without = (comparing.on_photograph(models, PICTURE, OPTIONS, mask) for mask in (whole, None))
    assert np.array_equal(np.asarray(with_mask.pair[1]), np.asarray(without.pair[1]))


def test_each_model_sees_the_picture_in_its_own_view_unless_it_is_damaged_already() -> None:
    nets = Spec(name="half_res", args={"channels": 3, "width": 4, "blocks": 1})
    models = {name: restorer(nets, ["noise"]) for name in ("plain", "grey")}
    models["grey"].task["view"] = ["grey"]
    clean, shown_to, seen = from_picture(PICTURE)[0], [], []
    for model in models.values():
        model.net.register_forward_pre_hook(lambda _, args: shown_to.append(args[0]))
    for seed in (0, None):
        for model in models.values():
            as_pictured(model, 25.0, seed)(clean)
            seen.append(shown_to[-1])
    plain, grey, *damaged = seen
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert not torch.equal(plain[:, 0], plain[:, 1])
    assert torch.equal(*damaged)
    shown = comparing.on_photograph(models, PICTURE, OPTIONS)
    assert [str(note) for note in shown.notes] == ["grey sees the picture through grey."]
    assert str(comparing.on_photograph(models, PICTURE, replace(OPTIONS, noisy=True)).notes) == "()"


def test_one_model_alone_is_nobodys_teacher() -> None:
    nets = Spec(name="half_res", args={"channels": 3, "width": 4, "blocks": 1})
    roles = [[str(row.role) for row in comparing.measured(dict.fromkeys(names, restorer(nets, ["dark"]))).rows]
             for names in ("a", "ab")]  # fmt: skip
    assert roles == [["model"], ["teacher", "model"]]
