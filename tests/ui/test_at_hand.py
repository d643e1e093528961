"""Which presets the app offers: those that run with what is at hand, and those for pictures that a visitor brings."""

import json

import pytest

from kdgen.presets import preset
from kdgen.registry import build
from kdgen.types import UserError
from kdgen.ui import at_hand, choices, setup_markup
from kdgen.ui.composing import on_pictures
from kdgen.ui.visitors import accept

MINE = "m" * 32


def test_what_needs_files_is_not_offered_but_named_with_them() -> None:
    named = {recipe.name: at_hand.files_of(recipe) for recipe in at_hand.for_files()}
    assert named["classify"] == ["resnet20-12fca82f.th", "cifar10.npz"]
    assert named["segment-portrait"] == ["SINet.pth", "portraits", "portraits-test"]
    assert named["solar-cells"] == ["efficientnet-lite0-57934424.pth", "elpv"]
    offered = [name for kind in choices.KINDS for name in choices.presets_of(kind)]
    assert not set(named) & set(offered)
    assert {"denoise", "upscale-x4", "text-small", "find-faults"} <= set(offered)
    told = setup_markup.commands(at_hand.for_files())
    for recipe in at_hand.for_files():
        assert f"<code>kdgen distill {recipe.name}</code>" in told
        assert recipe.teacher.url in told
        for file in named[recipe.name]:
            assert f"<code>{file}</code>" in told


def test_a_fault_finder_is_offered_for_pictures_that_a_visitor_brings() -> None:
    recipe = preset("find-faults")
    assert at_hand.brings_pictures(recipe)
    assert not at_hand.brings_pictures(preset("denoise"))
    assert choices.KINDS["faults"]
    with pytest.raises(UserError, match="learns from good pictures of yours"):
        on_pictures(recipe, "")
    images = on_pictures(recipe, "own:abc").task.args["images"]
    assert images == {"name": "folder", "args": {"path": "own:abc", "whole": True}}, "whole, as they are looked at"
    assert on_pictures(preset("denoise"), "") == preset("denoise")
    with pytest.raises(UserError, match="or find faults"):
        on_pictures(preset("gan"), "own:abc")


def test_its_cost_is_known_before_there_are_pictures() -> None:
    recipe = at_hand.stood_in(preset("find-faults"))
    assert build("task", recipe.task).example().x.shape == (1, 3, 128, 128)
    assert at_hand.stood_in(preset("denoise")) == preset("denoise")


def test_a_recipe_on_a_folder_that_nobody_brought_is_refused(runs) -> None:
    with pytest.raises(UserError, match="bring it again"):
        accept(preset("find-faults"), MINE, runs)
    whole = json.loads(preset("find-faults").to_json())
    whole["task"]["args"]["images"]["args"]["max_gib"] = 99
    with pytest.raises(UserError, match="no files of this machine"):
        accept(whole, MINE, runs)
