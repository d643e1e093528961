"""Models that draw what words ask for, side by side: the same words, the same noise, each guided as it was made to be."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from latent_pipelines import WORDS, whole
from serving import violations
from test_api import picture_of

from kdgen import registry
from kdgen.models.model import Model, load
from kdgen.presets import preset
from kdgen.registry import Spec
from kdgen.types import UserError
from kdgen.ui import drawn, prompting, setup_markup, shelves
from kdgen.ui.comparing import Options
from kdgen.ui.job import new_session
from kdgen.ui.limits import Limits
from kdgen.ui.visitors import TEACHERS, accept, check_facts
from kdgen.ui.words import CHINESE, ENGLISH, translated

OPTIONS = Options(sigma=25, seed=0, num_images=2, num_steps=2, prompt="red heart")
PROMPTS = ["red heart", "it's 5 o'clock / a man's hat!", "../../etc/passwd", "红心"]


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory) -> Path:
    """A teacher of words, a student of its kind that was taught to need no guidance, a model of classes; zipped, too."""
    folder = tmp_path_factory.mktemp("pipelines")
    whole("DiTPipeline").save_pretrained(folder / "classes")
    if find_spec("transformers") is not None:
        whole("StableDiffusionPipeline").save_pretrained(folder / "words")
        student = load(folder / "words")
        student.task |= {"guidance": 1.0, "prompts": PROMPTS}
        student.save(folder / "student")
        for name in ("words", "student"):
            shutil.make_archive(str(folder / name), "zip", folder / name)
    return folder


@WORDS
def test_each_draws_the_same_words_of_the_same_noise_guided_as_it_was_made_to_be(pipelines: Path) -> None:
    models = {name: load(pipelines / name) for name in ("words", "student", "classes")}
    made = drawn.drawings(models, OPTIONS)
    assert [each.calls for each in made.values()] == [4, 2, 4], "its pipeline guides, the student needs none"
    told = models["words"].draw(2, seed=0, num_steps=2, prompt="red heart")
    assert torch.equal(made["words"].images, told)
    same = drawn.drawings(models, replace(OPTIONS, guidance=1.0))
    assert torch.equal(same["words"].images, same["student"].images)
    assert made["classes"].captions == ["class 0", "class 1"]
    assert [str(each) for each in made["classes"].notes] == ["classes reads no words: it draws without the prompt"]
    shown = drawn.side_by_side_of(made)
    assert (shown.prompt, len(shown.notes)) == ("red heart", 1)
    report = drawn.measured(models, made, OPTIONS)
    assert report.task == 'latent_diffusion "red heart"'
    assert [row.calls for row in report.rows] == [4, 2, 4]
    teacher, student, _ = report.rows
    assert (teacher.macs, teacher.latency_ms) == (student.macs, student.latency_ms)
    assert (teacher.metrics, student.metrics.keys()) == ({}, {"psnr", "ssim", "perceptual"})


@WORDS
def test_what_is_cut_of_a_prompt_is_said_and_an_empty_one_is_asked_for(pipelines: Path) -> None:
    models = {name: load(pipelines / name) for name in ("words", "student")}
    long = drawn.drawings(models, replace(OPTIONS, num_images=1, num_steps=1, prompt="heart " * 300))
    assert "reads 77 tokens of a prompt" in drawn.side_by_side_of(long).notes[0]
    with pytest.raises(UserError, match="words draws what words ask for: write a prompt") as refused:
        drawn.drawings(models, replace(OPTIONS, prompt=""))
    assert translated(refused.value, CHINESE) == "words 按文字作画：请写一个提示词，例如 red heart"


def test_models_of_classes_are_compared_by_their_classes_and_need_no_words(pipelines: Path) -> None:
    models = {"one": load(pipelines / "classes"), "other": load(pipelines / "classes")}
    made = drawn.drawings(models, replace(OPTIONS, prompt=""))
    assert torch.equal(made["one"].images, made["other"].images)
    assert made["one"].captions == ["class 0", "class 1"]
    report = drawn.measured(models, made, OPTIONS)
    assert report.task == "latent_diffusion"
    assert report.rows[1].metrics["psnr"] == 100


def test_words_and_guidance_of_visitors_are_bounded() -> None:
    good = {"sigma": 25, "seed": 0, "num_images": 16, "num_steps": 0}
    asked = Options.within(Limits(), **good, prompt="  red\n heart ", guidance=3)
    assert (asked.prompt, asked.guidance, asked.num_steps) == ("red heart", 3.0, 0)
    with pytest.raises(UserError, match="at most 2,000 characters here, not 10,000"):
        Options.within(Limits(), **good, prompt="x" * 10_000)
    for guidance in (-1, float("nan"), 1e9, "5", True):
        with pytest.raises(UserError, match="guidance is a number in"):
            Options.within(Limits(), **good, guidance=guidance)


def test_prompts_to_try_are_those_that_models_were_taught_with() -> None:
    taught = {"told": ["sigma", "words"], "prompts": ["blue car", "x" * 100, *map(str, range(9))]}
    card, examples = prompting.suited([{"told": ["sigma"]}, taught])
    assert (card["visible"], examples["choices"][0]) == (True, "blue car")
    assert len(examples["choices"]) == prompting.OFFERED
    card, examples = prompting.suited([{"told": ["sigma", "label"]}])
    assert (card["visible"], len(examples["choices"])) == (False, len(prompting.EXAMPLES))


def test_prompts_of_a_recipe_say_anything_and_are_no_files(runs, tmp_path: Path) -> None:
    recipe = preset("denoise").model_dump(mode="json")
    recipe["task"] = {"name": "latent_diffusion", "args": {"model": "diffusion", "prompts": PROMPTS * 25}}
    mine = new_session()
    accepted = accept(json.dumps(recipe), mine, runs)
    assert accepted.task.args["prompts"] == PROMPTS * 25
    shown = setup_markup.prompts(accepted, ENGLISH)
    assert "It trains on 100 prompts: red heart; it&#x27;s 5" in shown
    assert setup_markup.prompts(preset("denoise"), ENGLISH) == ""
    for prompts, said in (("/etc/passwd", "no file of this machine"), ("recipe.json", "no file of this machine"),
                          ([["a"]], "no file of this machine"), (["x" * 3000], "2,000 characters each")):  # fmt: skip
        recipe["task"]["args"]["prompts"] = prompts
        with pytest.raises(UserError, match=said):
            accept(json.dumps(recipe), mine, runs)
    check_facts({"name": "latent_diffusion", "prompts": PROMPTS})


def test_text_to_image_is_a_kind_with_a_picture_and_its_bundled_models_are_offered() -> None:
    assert shelves.shelf_of("latent_diffusion") == "text_to_image"
    assert all(shelves.card(kind).is_file() for kind in shelves.SHELVES)
    from kdgen.models.config import read_config
    from kdgen.models.loading import BUNDLED, bundled_names, bundled_students

    worded = {name for name in bundled_names() if read_config(BUNDLED / name).task.get("name") == "latent_diffusion"}
    assert worded - {*bundled_students()} <= {*TEACHERS}


def brought(client, session: str, file: Path) -> str:
    return str(client.predict(file=handle_file(file), declaration="", session=session, api_name="/teacher")["teacher"])


@WORDS
def test_callers_at_once_get_what_each_asked_for(client, session, pipelines: Path) -> None:
    names = ",".join(brought(client, session, pipelines / f"{name}.zip") for name in ("words", "student"))

    def asked(prompt: str, **more) -> tuple:
        return client.predict(names=names, photograph=None, num_images=2, num_steps=1, session=session, prompt=prompt,
                              api_name="/compare", **more)  # fmt: skip

    prompts = ["red heart", "blue star", "red heart", "a cat"]
    with ThreadPoolExecutor(len(prompts)) as pool:
        answers = list(pool.map(asked, prompts))
    assert [report["task"] for report, _ in answers] == [f'latent_diffusion "{prompt}"' for prompt in prompts]
    sheets = [picture_of(picture) for _, picture in answers]
    assert sheets[0] == sheets[2]
    assert len({*sheets}) == 3
    report, _ = answers[0]
    assert [row["calls"] for row in report["rows"]] == [2, 1], "without guidance each has its own"
    guided, _ = asked("red heart", guidance=3)
    assert [row["calls"] for row in guided["rows"]] == [2, 2]
    with pytest.raises(AppError, match="write a prompt"):
        asked(" ")
    with pytest.raises(AppError, match="at most 2,000 characters"):
        asked("x" * 10_000)


def chosen(page, names) -> None:
    page.locator("#kd-models input").click()
    for _ in range(4):
        page.keyboard.press("Backspace")
    for name in names:
        page.keyboard.type(name)
        page.keyboard.press("Enter")


@WORDS
def test_words_are_written_and_drawn_by_keyboard(opened, client, session, pipelines: Path, axe: str) -> None:
    names = [brought(client, session, pipelines / f"{name}.zip") for name in ("words", "student")]
    page = opened(session=session, tab="Compare")
    assert not page.locator("#kd-prompt").is_visible()
    chosen(page, names)
    box = page.locator("#kd-prompt textarea")
    box.wait_for()
    page.locator("#kd-prompts label", has_text="it's 5 o'clock").wait_for()
    assert not page.get_by_text("Noise level", exact=True).is_visible()
    page.evaluate(axe)
    assert violations(page) == {}
    box.fill("")
    box.press("Enter")
    page.locator("#kd-compare-notice", has_text="write a prompt").wait_for()
    box.fill("blue star")
    box.press("Enter")
    page.locator("#kd-figures table").wait_for()
    assert "Prompt: “blue star”." in page.locator("#kd-caption").inner_text()
    assert "Prompt: “blue star”." in page.locator("#kd-sheet img").first.get_attribute("alt")
    box.focus()
    page.keyboard.insert_text("x" * 10_000)
    assert len(box.input_value()) == 2000
    page.locator("#kd-prompt [role=alert]", has_text="at most 2,000 characters").wait_for()
    page.locator("#kd-prompts label", has_text="red heart").click()
    page.locator("#kd-caption", has_text="“red heart”").wait_for()
    assert box.input_value() == "red heart"


@pytest.mark.skipif(find_spec("transformers") is not None, reason="transformers is here")
def test_without_transformers_a_line_says_what_to_install_in_the_place_of_the_box(
    opened, client, session, tmp_path: Path
) -> None:
    use = Spec(
        name="stable_diffusion", args={"size": 8, "block_out_channels": [8, 8], "norm_num_groups": 4, "words_dim": 12}
    )
    net = registry.build("net", use)
    Model(net, name="words", channels=3, use=use, task=net.describe()).save(tmp_path / "words")
    shutil.make_archive(str(tmp_path / "words"), "zip", tmp_path / "words")
    page = opened(session=session, tab="Compare")
    chosen(page, [brought(client, session, tmp_path / "words.zip"), "vae"])
    page.locator("#kd-words-needed", has_text="pip install 'kdgen[text]'").wait_for()
    assert not page.locator("#kd-prompt").is_visible()
