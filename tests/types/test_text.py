"""Sentences that carry a key and figures: as English, through files and processes, and back."""

import copy
import json
import pickle

from kdgen.types import Text, UserError, text
from kdgen.types.text import restored, with_texts


def made() -> Text:
    gains = [text("gain", "{gain:+.1f} dB", gain=1.25), "as fast"]
    return text("whole", "{count:,} of {what}: {gains: and }", count=1200, what=text("images", "images"), gains=gains)


def test_a_text_is_its_english() -> None:
    assert made() == "1,200 of images: +1.2 dB and as fast"
    assert hash(made()) == hash(str(made()))
    assert json.dumps({"message": made()}) == '{"message": "1,200 of images: +1.2 dB and as fast"}'


def test_key_and_figures_pass_through_files_processes_and_copies() -> None:
    stored = json.dumps(with_texts({"kind": "warning", "data": {"message": made(), "notes": [made(), "plain"]}}))
    data = restored(json.loads(stored))["data"]
    for again in (data["message"], data["notes"][0], pickle.loads(pickle.dumps(made())), copy.deepcopy(made())):
        assert again == made()
        assert again.key == "whole"
        assert again.figures["what"].key == "images"
        assert again.figures["gains"][0].figures == {"gain": 1.25}
    assert type(data["notes"][1]) is str


def test_what_has_no_texts_or_broken_ones_is_read_as_it_is() -> None:
    assert restored({"message": "old", "n": 1}) == {"message": "old", "n": 1}
    assert restored({"message": "old", "texts": 3}) == {"message": "old"}
    assert restored({"message": "old", "texts": {"old": {"key": "gone", "figures": 5}}})["message"].figures == {}


def test_a_mistake_keeps_its_text() -> None:
    error = pickle.loads(pickle.dumps(UserError(made())))
    assert str(error) == made()
    assert error.text.key == "whole"
    assert UserError("in English alone").text.key == ""
