"""Students that say something of pictures, in the Compare tab: classes, places, faults."""

import shutil

import numpy as np
import perceiving
import pytest
import torch
from conftest import Inline
from PIL import Image
from serving import violations

from kdgen.models.model import Model, build_net
from kdgen.registry import Spec
from kdgen.report.said import about_of, agreement, say
from kdgen.types import UserError
from kdgen.ui import heard_markup
from kdgen.ui.comparing import Options, photographs
from kdgen.ui.visitors import check_facts
from kdgen.ui.words import CHINESE, ENGLISH
from kdgen.utils.palette import palette

OPTIONS = Options(sigma=25, seed=0, num_images=1, num_steps=1)


@pytest.fixture(scope="session")
def perceivers(tmp_path_factory):
    return perceiving.made(tmp_path_factory.mktemp("perceivers"))


def asked(picture, *runs):
    """What the page is told of runs, and the report beside it."""
    named = tuple((str(run), str(run), 0.0) for run in runs)
    photo = Image.open(picture).convert("RGB") if picture else photographs()["chelsea"]
    _, found = Inline().call("show", named, photo, OPTIONS)
    return found, Inline().call("measure", named, OPTIONS)


def test_classes_are_told_by_name_with_their_probabilities(perceivers):
    found, report = asked(perceivers.apple, *perceivers.classes)
    assert found.about == "classes"
    assert found.pair is None, "nothing is said of places"
    for said in found.said.values():
        assert next(name for name, *_ in said.shares) == "apple"
        assert sum(share for _, share, _ in said.shares) == pytest.approx(1, abs=1e-5)
        assert said.seen.size == (16, 16), "in the size that it was made for"
    one, other = (said.answer for said in found.said.values())
    (share,) = found.agreement.values()
    assert share == pytest.approx(1 - (one - other).abs().sum().item() / 2, abs=1e-6), "less the total variation"
    assert [str(row.role) for row in report.rows] == ["teacher", "model"]
    assert report.rows[0].macs > report.rows[1].macs > 0
    assert all(row.latency_ms > 0 for row in report.rows)
    shown = heard_markup.told(found, ENGLISH)
    assert shown.count("<li") == 6
    assert f"{share:.1%} of their probability" in shown
    assert "apple" in heard_markup.told(found, CHINESE)


def test_places_are_coloured_over_the_picture_with_a_key(perceivers):
    found, _ = asked(perceivers.square, *perceivers.places)
    (share,) = found.agreement.values()
    assert 0.8 < share <= 1
    _, student = found.said.values()
    assert [(name, number) for name, _, number in student.shares] == [("lawn", 0), ("square", 1)]
    assert 0.1 < student.shares[1][1] < 0.4
    changed = np.abs(np.asarray(student.shown, int) - np.asarray(student.seen, int)).mean(2)
    square = student.answer.numpy() == 1
    assert changed[square].mean() > changed[~square].mean(), "the background stays what it was, more than the rest"
    colour = np.asarray(student.shown, int)[square].mean(0)
    assert np.abs(colour - 255 * palette(2)[1].numpy()).mean() < 60
    shown = heard_markup.told(found, ENGLISH)
    assert "--paint: rgb(230,159,0)" in shown
    assert "square" in shown
    assert found.pair[0].size == found.pair[1].size == (384, 384)


def test_a_fault_is_found_by_the_student_beside_its_teacher(perceivers):
    faulty, report = asked(perceivers.faulty, perceivers.faults)
    good, _ = asked(perceivers.faulty.parent / "good" / "1.png", perceivers.faults)
    (found,), (usual,) = faulty.said.values(), good.said.values()
    assert found.score > 2 * usual.score
    top, left = divmod(int(found.answer.argmax()), found.answer.shape[1])
    assert 16 <= top < 40
    assert 20 <= left < 44
    assert len(report.rows) == 1
    assert str(report.rows[0].role) == "model", "one alone is nobody's teacher"
    assert "one in 200" in heard_markup.told(faulty, ENGLISH)
    assert faulty.sheet.size[1] == faulty.pair[0].size[1]


def test_what_does_not_go_together_is_refused_in_words(perceivers, tmp_path):
    with pytest.raises(UserError, match="different things"):
        asked(None, perceivers.classes[1], perceivers.places[1])
    shutil.copytree(perceivers.faults / "student", tmp_path / "alone")
    with pytest.raises(UserError, match="finds no faults"):
        asked(None, tmp_path / "alone")
    net, use = build_net(Spec(name="segmenter", args={"classes": 3}), 3)
    with pytest.raises(UserError, match="shape"):
        say(Model(net, name="it", channels=3, use=use, task={"name": "classify"}), photographs()["chelsea"])


def test_models_of_other_classes_are_not_held_against_each_other():
    torch.manual_seed(0)
    said = []
    for classes in (3, 4):
        net, use = build_net(Spec(name="feature_net", args={"width": 4, "classes": classes}), 3)
        facts = {"name": "classify", "size": 16, "num_classes": classes}
        said.append(say(Model(net, name="it", channels=3, use=use, task=facts), photographs()["camera"]))
    assert agreement(*said) is None
    assert {name for name, *_ in said[0].shares} == {"0", "1", "2"}, "classes without names have numbers"


def test_a_student_of_a_view_sees_the_picture_through_it_and_that_is_said(perceivers):
    from kdgen.models.model import load
    from kdgen.ui import heard

    model = load(str(perceivers.classes[1]))
    plain = say(model, photographs()["coffee"])
    model.task = {**model.task, "view": ["grey"]}
    found = heard.heard({"it": model}, photographs()["coffee"], 0)
    seen = np.asarray(found.said["it"].seen, int)
    assert np.ptp(seen, axis=2).max() <= 1 < np.ptp(np.asarray(plain.seen, int), axis=2).max()
    assert "it sees the picture through grey." in heard_markup.told(found, ENGLISH)


def test_which_models_say_what():
    named = {name: about_of({"name": name}) for name in ("classify", "segment", "anomaly", "denoise", "diffuse", "gan")}
    assert list(named.values()) == ["classes", "places", "faults", None, None, None]


def test_a_thousand_names_of_classes_are_no_threat():
    check_facts(
        {"name": "classify", "num_classes": 1000, "names": [f"bird/{number} o'clock" for number in range(1000)]}
    )
    with pytest.raises(UserError, match="5,000"):
        check_facts({"name": "classify", "names": ["x"] * 5001})


def test_answers_are_accessible_and_fit_a_narrow_screen(opened, axe, perceivers):
    page, found = opened(tab="Compare", viewport={"width": 390, "height": 844}), {}
    page.evaluate(axe)
    for about, picture, runs in (("classes", perceivers.apple, perceivers.classes),
                                 ("places", perceivers.square, perceivers.places),
                                 ("faults", perceivers.faulty, (perceivers.faults,))):  # fmt: skip
        told = heard_markup.told(asked(picture, *runs)[0], ENGLISH)
        page.locator("#kd-sheet .kd-empty, #kd-sheet .kd-heard").evaluate("(at, told) => at.outerHTML = told", told)
        page.locator("#kd-sheet figure img").first.wait_for(timeout=20_000)
        for scheme in ("light", "dark"):
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, about
            found.update({(about, scheme, rule): where for rule, where in violations(page).items()})
            page.evaluate("kd.dark()")
    assert found == {}
