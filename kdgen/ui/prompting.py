"""The words of the Compare tab: what models that read any are asked for, and how far they go towards it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import gradio as gr

from kdgen.ui.visitors import PROMPT
from kdgen.ui.words import say

EXAMPLES = ("red heart", "yellow star", "blue car", "a cat with hearts for eyes")
"""What is offered where no model says what it was taught with; the first stands in the box."""

OFFERED, LENGTH = 6, 60
"""Prompts that are offered at most, and characters of one."""


@dataclass(slots=True)
class Prompting:
    """The controls.

    Attributes:
        card: all of them.
        prompt: the box.
        examples: prompts to try.
        own: whether each model is guided as it was made to be.
        guidance: of all, where not.
    """

    card: gr.Group
    prompt: gr.Textbox
    examples: gr.Radio
    own: gr.Checkbox
    guidance: gr.Slider

    @property
    def given(self) -> list[Any]:
        """What a comparison reads."""
        return [self.prompt, self.own, self.guidance]

    @property
    def shown(self) -> list[Any]:
        """What ``suited`` sets."""
        return [self.card, self.examples]


def panel() -> Prompting:
    """The card; without transformers it says how words come to be read here, in the place of the box."""
    able = readable()
    with gr.Group(visible=False, elem_classes="kd-card", elem_id="kd-words") as card:
        if not able:
            gr.HTML(say("prompt_needs"), elem_classes="kd-hint", elem_id="kd-words-needed")
        prompt = gr.Textbox(EXAMPLES[0], label=say("prompt"), info=say("prompt_info"), placeholder=say("prompt_like"),
                            max_lines=4, max_length=PROMPT, visible=able, elem_id="kd-prompt")  # fmt: skip
        examples = gr.Radio(list(EXAMPLES), value=EXAMPLES[0], label=say("prompts"), info=say("prompts_info"),
                            visible=able, elem_id="kd-prompts")  # fmt: skip
        own = gr.Checkbox(True, label=say("guidance_own"), info=say("guidance_own_info"), visible=able,
                          elem_id="kd-guidance-own")  # fmt: skip
        guidance = gr.Slider(0, 20, 5, step=0.5, label=say("guidance"), info=say("guidance_info"), visible=False,
                             elem_id="kd-guidance")  # fmt: skip
    own.input(lambda own: gr.update(visible=not own), [own], [guidance], api_visibility="private",
              show_progress="hidden", queue=False)  # fmt: skip
    return Prompting(card, prompt, examples, own, guidance)


def readable() -> bool:
    """Whether there is here what reads words."""
    return find_spec("transformers") is not None


def reads(facts: Mapping[str, Any]) -> bool:
    """Whether a model is told words, by what ``kdgen.ui.answering.task`` says of it."""
    return "words" in facts["told"]


def suited(tasks: Sequence[Mapping[str, Any]] | None) -> list[Any]:
    """Whether the card is shown, and prompts to try: those that the models were taught with, where they say any.

    Args:
        tasks: what is known of the models; None where that is not known of all.
    """
    worded = [facts for facts in tasks or () if reads(facts)]
    taught = [str(each) for facts in worded for each in facts.get("prompts") or ()]
    offered = [each for each in dict.fromkeys(taught) if len(each) <= LENGTH][:OFFERED] or list(EXAMPLES)
    return [gr.update(visible=bool(worded) or tasks is None), gr.update(choices=offered)]


__all__ = ["EXAMPLES", "Prompting", "panel", "readable", "reads", "suited"]
