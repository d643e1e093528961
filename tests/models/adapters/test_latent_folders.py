"""Folders of text-to-image and class-conditional pipelines: opened, read, drawn from, saved; mistakes told in one line."""

import json
import warnings
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from latent_pipelines import (
    FAMILIES,
    OF_WORDS,
    PIPELINES,
    WORDS,
    drawn,
    model,
    own_generators,
    read,
    reopened,
    whole,
)
from PIL import Image
from support import call as command

from kdgen import registry
from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.adapters.pipeline_images import image_seeds
from kdgen.models.hub_cache import fetchable
from kdgen.models.model import load
from kdgen.types import UserError


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_folder_is_opened_saved_and_opened_again_by_plain_diffusers(pipeline: str, tmp_path: Path) -> None:
    pipe = whole(pipeline, words=False)
    pipe.save_pretrained(tmp_path / "plain")
    opened = load(tmp_path / "plain")
    assert opened.use is not None
    assert (opened.use.name, opened.channels) == (FAMILIES[pipeline], 3)
    net = opened.net
    assert isinstance(net, LatentModel)
    assert opened.task == net.describe()
    assert opened.task["latent_channels"] == net.latent_channels
    opened.save(tmp_path / "student")
    again = reopened(pipeline, tmp_path / "student")
    assert torch.equal(drawn(again), drawn(pipe))
    index, before = (json.loads((tmp_path / home / "model_index.json").read_text()) for home in ("student", "plain"))
    assert index == {**before, "_diffusers_version": index["_diffusers_version"]}
    student = load(tmp_path / "student")
    student.save(tmp_path / "third")
    assert torch.equal(drawn(reopened(pipeline, tmp_path / "third")), drawn(pipe))
    latents = torch.randn(2, net.latent_channels, 8, 8)
    torch.testing.assert_close(student.net.pictures(latents), net.pictures(latents))


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_pictures_and_latents_are_what_the_pipeline_draws(pipeline: str, tmp_path: Path) -> None:
    pipe = whole(pipeline)
    pipe.save_pretrained(tmp_path)
    opened = load(tmp_path)
    assert isinstance(opened.net, LatentModel)
    steps = 1 if pipeline == "FluxPipeline" else 3
    words: dict[str, Any] = {"prompt": ["red heart", ""]}
    asked: dict[str, Any] = {"label": [3, 1]} if pipeline == "DiTPipeline" else words
    images = opened.draw(2, seed=5, num_steps=steps, guidance=2.0, **asked)
    called = {**opened.net.called_with(pipe, 2.0), "num_inference_steps": steps, "output_type": "np",
              **({"class_labels": [3, 1]} if pipeline == "DiTPipeline" else words)}  # fmt: skip
    plain = pipe(**called, generator=own_generators(*image_seeds(5, 2))).images
    assert torch.equal(images, torch.from_numpy(plain).movedim(-1, 1) * 2 - 1)
    one = opened.draw(1, seed=5, num_steps=steps, guidance=2.0, **asked)
    torch.testing.assert_close(one, images[:1], atol=1e-4, rtol=1e-4)
    own = {"prompts": words["prompt"]} if "prompt" in asked else {"label": torch.tensor([3, 1])}
    latents = opened.net.draw_latents(2, seed=5, num_steps=steps, guidance=2.0, **own)
    assert latents.shape == (2, opened.net.latent_channels, opened.net.size, opened.net.size)
    torch.testing.assert_close(opened.net.pictures(latents), images, atol=1e-4, rtol=1e-4)
    assert not torch.equal(images, opened.draw(2, seed=6, num_steps=steps, guidance=2.0, **asked))


@pytest.mark.parametrize("pipeline", OF_WORDS)
def test_words_are_read_as_the_pipeline_reads_them(pipeline: str, tmp_path: Path) -> None:
    pipe = whole(pipeline)
    pipe.save_pretrained(tmp_path)
    net: Any = load(tmp_path).net
    embedded, null = net.embed(["red heart", "cat"]), net.null()
    assert embedded.keys() == net.conditions - {"sigma"}
    for name, shape in net.shapes().items():
        assert embedded[name].shape == (2, *shape)
        assert embedded[name].dtype == torch.float32
    seen: list[Any] = []
    part = pipe.components[net.part]
    part.register_forward_pre_hook(
        lambda module, args, given: seen.append(read(pipeline, net, args, given)[2]), with_kwargs=True
    )
    pipe(["red heart", "cat"], num_inference_steps=1, output_type="latent", **net.called_with(pipe, None))
    for name, value in embedded.items():
        passed = seen[0][name].float()
        torch.testing.assert_close(value, passed[-2:])
        if name in null and len(passed) == 4:
            torch.testing.assert_close(null[name].expand_as(passed[:2]), passed[:2])
    if pipeline == "FluxPipeline":
        assert null.keys() == {"words", "pooled"}
    x = torch.randn(2, net.latent_channels, 8, 8)
    with torch.no_grad():
        assert net(x, sigma=torch.ones(2), **embedded).isfinite().all()


@WORDS
def test_words_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole("StableDiffusionPipeline").save_pretrained(tmp_path / "sd")
    draw = ["generate", str(tmp_path / "sd"), str(tmp_path / "out"), "--num-images", "3", "--num-steps", "2"]
    assert command(*draw, "--prompt", "red heart", "--prompt", "", "--guidance", "5") == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
    with Image.open(tmp_path / "out" / "00000.png") as image:
        assert image.size == (16, 16)
    assert command(*draw) == 2
    said = capsys.readouterr().err
    assert "sd draws what words ask for: give a prompt" in said
    assert command("generate", "diffusion", str(tmp_path / "o.png"), "--prompt", "red heart") == 2
    assert command("generate", "gan", str(tmp_path / "o.png"), "--guidance", "5") == 2
    said = capsys.readouterr().err
    assert "diffusion reads no words: leave prompt out" in said
    assert "gan takes no guidance: leave it out" in said
    assert said.count("\n") == 2


@pytest.mark.parametrize("pipeline", OF_WORDS)
def test_a_long_prompt_is_cut_and_said_so_in_one_line(pipeline: str, tmp_path: Path) -> None:
    whole(pipeline).save_pretrained(tmp_path)
    net: Any = load(tmp_path).net
    with pytest.warns(UserWarning, match=r"reads \d+ tokens of a prompt: the end of 1 of the prompts") as said:
        net.embed(["red " * 2500, "cat"])
    assert len([each for each in said if "tokens of a prompt" in str(each.message)]) == 1
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*tokens of a prompt")
        net.embed(["red heart"])


def test_what_is_not_handled_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model("DiTPipeline").save_pretrained(folder)
    with pytest.raises(UserError, match="holds a DiTTransformer2DModel without its pipeline"):
        load(folder)
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionInpaintPipeline"}))
    with pytest.raises(UserError, match=r"of class StableDiffusionInpaintPipeline.*handled are .*SanaPipeline"):
        load(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole pipeline told a class, which takes no transformers."""
    whole("DiTPipeline").save_pretrained(tmp_path / "dit")
    return tmp_path / "dit"


def index(folder: Path, **entries: Any) -> None:
    file = folder / "model_index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        load(folder).draw(1, num_steps=1)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_parts_that_are_pickles_code_or_missing_are_refused(folder: Path) -> None:
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    assert "holds its weights as a pickle, diffusion_pytorch_model.bin" in refused(folder)
    weights.with_suffix(".bin").unlink()
    assert "cannot be opened, a part of it is missing or damaged" in refused(folder)
    index(folder, vae=[None, None])
    assert "is a pipeline without vae" in refused(folder)
    index(folder, vae=["my_code", "AutoencoderKL"])
    assert "has a part 'vae' of my_code, code of its own, which is never run" in refused(folder)
    index(folder, vae=["diffusers", "AutoencoderKL"], scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])
    assert "FlowMatchEulerDiscreteScheduler, which is not handled" in refused(folder)


@WORDS
def test_a_pipeline_without_text_encoders_reads_no_words(tmp_path: Path) -> None:
    whole("StableDiffusionPipeline", words=False).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a pipeline without tokenizer, text_encoder, which it takes to do that"):
        load(tmp_path).draw(1, prompt="red heart")


def test_without_transformers_the_remedy_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*args: Any, **given: Any) -> Any:
        raise ImportError("DiTPipeline requires the transformers library")

    monkeypatch.setattr(diffusers.DiTPipeline, "from_pretrained", lacking)
    assert "pip install 'kdgen[text]'" in refused(folder)


def test_a_net_made_by_itself_says_what_it_lacks_and_is_saved_as_model_and_scheduler(tmp_path: Path) -> None:
    dit: Any = registry.get("net", "dit")
    net = dit(size=4, depth=1)
    with pytest.raises(UserError, match=r"this DiTTransformer2DModel was made without the vae of a pipeline"):
        net.generate(1)
    net.save_files(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model_index.json", "scheduler", "transformer"]
    again = dit(size=4, depth=1)
    again.load_files(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    pipe = diffusers.DiTPipeline.from_pretrained(tmp_path, vae=whole("DiTPipeline").vae)
    assert pipe([1], num_inference_steps=1).images


def test_a_student_goes_into_its_teachers_pipeline(folder: Path, tmp_path: Path) -> None:
    teacher: Any = load(folder).net
    dit: Any = registry.get("net", "dit")
    student = dit(config={**teacher.model.config, "num_layers": 1}, scheduler={"_class_name": "DDIMScheduler"})
    student.inherit(teacher)
    assert torch.equal(student.model.proj_out_1.weight, teacher.model.proj_out_1.weight)
    student.adopt(teacher)
    student.save_files(tmp_path / "student", torch.float16)
    pipe = diffusers.DiTPipeline.from_pretrained(tmp_path / "student")
    assert pipe([1], num_inference_steps=1, output_type="np").images.shape == (1, 16, 16, 3)
    large, small = (
        tmp_path / "student" / "vae" / name for name in ("diffusion_pytorch_model.safetensors", "config.json")
    )
    assert large.read_bytes() == (folder / "vae" / large.name).read_bytes()
    assert not small.samefile(folder / "vae" / small.name)
    student.save_files(folder)  # over its teacher's
    assert diffusers.DiTPipeline.from_pretrained(folder).transformer.config.num_layers == 1


def test_large_files_are_linked_and_half_precision_goes_where_there_is_no_other(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdgen.models.adapters import pipeline_parts

    monkeypatch.setattr(pipeline_parts, "LINKED", 1000)
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    half = weights.with_name("diffusion_pytorch_model.fp16.safetensors")
    half.write_bytes(weights.read_bytes())
    opened: Any = load(folder)
    opened.save(tmp_path / "both")
    assert [file.name for file in (tmp_path / "both" / "vae").glob("*.safetensors")] == [weights.name]
    assert (tmp_path / "both" / "vae" / weights.name).samefile(weights)
    images = opened.draw(1, num_steps=1)
    weights.unlink()
    (folder / "model_index.json").touch()
    opened = load(folder)
    assert torch.equal(opened.draw(1, num_steps=1), images)
    opened.save(tmp_path / "half")
    assert [file.name for file in (tmp_path / "half" / "vae").glob("*.safetensors")] == [weights.name]
    assert torch.equal(load(tmp_path / "half").draw(1, num_steps=1), images)


def test_the_hub_gives_the_parts_of_a_pipeline_and_no_pickles() -> None:
    files = [
        "model_index.json", "v1-5.safetensors", "scheduler/scheduler_config.json", "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json", "vae/diffusion_pytorch_model.fp16.safetensors", "text_encoder/config.json",
        "text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors", "text_encoder/pytorch_model.bin",
        "text_encoder_2/model-00001-of-00002.safetensors", "text_encoder_2/model.safetensors.index.json",
        "tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer_2/spiece.model", "tokenizer/code.py",
        "safety_checker/model.fp16.safetensors", "transformer/diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
    left = {"v1-5.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "text_encoder/model.fp16.safetensors",
            "text_encoder/pytorch_model.bin", "tokenizer/code.py"}  # fmt: skip
    assert set(files) - set(fetchable(files)) == left
