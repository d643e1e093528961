"""The bundled text-to-image model: what it is made of, that its words count, and that plain diffusers draws the same."""

import subprocess
import sys
from pathlib import Path

import torch
from latent_pipelines import WORDS

from kdgen.metrics.recognition import r_precision
from kdgen.models.adapters.pipeline_images import image_seeds
from kdgen.models.loading import BUNDLED
from kdgen.models.model import load

FOLDER = BUNDLED / "emoji"
PLAIN = """
import sys
import numpy, torch
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained(sys.argv[1])
drawn = pipe("blue heart", generator=torch.Generator().manual_seed(int(sys.argv[2])), num_inference_steps=3,
             guidance_scale=4.0, output_type="np").images
numpy.save(sys.argv[3], drawn)
assert not any(name.partition(".")[0] == "kdgen" for name in sys.modules)
"""


def test_it_is_small_and_holds_no_pickle() -> None:
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 16 * 10**6
    assert {file.suffix for file in files} == {".json", ".md", ".safetensors", ".txt"}


@WORDS
def test_plain_diffusers_opens_it_and_draws_the_same(tmp_path: Path) -> None:
    (seed,) = image_seeds(7, 1)
    out = tmp_path / "plain.npy"
    subprocess.run([sys.executable, "-c", PLAIN, FOLDER, str(seed), out], check=True, cwd=tmp_path, capture_output=True)
    import numpy as np

    theirs = torch.from_numpy(np.load(out)).movedim(-1, 1) * 2 - 1
    ours = load("emoji").draw(1, seed=7, num_steps=3, prompt="blue heart", guidance=4.0)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@WORDS
def test_a_colour_is_what_the_words_say() -> None:
    prompts = [f"{colour} {noun}" for noun in ("heart", "circle") for colour in ("red", "green", "blue")]
    drawn = load("emoji").draw(6, seed=0, num_steps=4, prompt=prompts, guidance=4.0)
    assert drawn.mean((2, 3)).argmax(1).tolist() == [0, 1, 2, 0, 1, 2], "a green circle is one that it never saw"


@WORDS
def test_the_classifier_sees_what_was_asked_for() -> None:
    judge, nouns = load("emoji-words").eval(), ("heart", "circle", "cat face", "pizza", "sunflower", "hamburger")
    prompts = [*nouns, *(f"{colour} {noun}" for noun in nouns[:2] for colour in ("red", "blue", "yellow"))]
    drawn = load("emoji").draw(len(prompts), seed=0, num_steps=8, prompt=prompts, guidance=4.0)
    with torch.inference_mode():
        logits = judge.net(drawn)
    assert r_precision(logits, judge.task["words"], prompts) > 0.7
    assert r_precision(logits, judge.task["words"], prompts[1:] + prompts[:1]) < 0.5


@WORDS
def test_words_that_it_does_not_know_do_no_harm() -> None:
    drawn = load("emoji").draw(1, seed=0, num_steps=1, prompt="qu\u00fcxzj \u5fc3 \U0001f600")
    assert drawn.isfinite().all()
