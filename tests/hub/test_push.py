"""Publishing: what is sent, in how many commits, compared how, and what survives a bad connection."""

import hashlib
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError
from PIL import Image, ImageChops

import kdgen
from kdgen import registry
from kdgen.cli.commands import publishing
from kdgen.hub import push_to_hub
from kdgen.hub.gallery import gallery
from kdgen.models.config import read_config
from kdgen.models.model import Model, build_net, load
from kdgen.registry import Spec
from kdgen.report.model_card import card
from kdgen.types import UserError
from kdgen.utils.convert import sheet, to_pictures

from .conftest import RunContext, call
from .server import Fault, Hub

Make = Callable[..., Model]


def files_of(name: str, kind: str = "model", revision: str | None = None) -> set[str]:
    info = HfApi().repo_info(name, repo_type=kind, revision=revision)
    return {file.rfilename for file in info.siblings or ()} - {".gitattributes"}


def test_a_run_is_published_in_one_commit_and_comes_back_the_same_in_a_fresh_process(
    place: RunContext, trained: Path, tmp_path: Path
) -> None:
    x = torch.rand(1, 1, 16, 16) * 2 - 1
    torch.save(x, tmp_path / "x.pt")
    expected = load(trained).restore(x)
    name = place.name("denoiser")
    pushed = push_to_hub(trained, name, license="apache-2.0")
    assert not any(note.startswith("not sent") for note in pushed.notes)
    assert pushed.files.keys() == files_of(name) == {
        "config.json", "model.safetensors", "README.md", "recipe.json", "report.json", "report.md", "samples.png",
        "curves.png", "gallery.png",
    }  # fmt: skip
    trained.rename(tmp_path / "gone")
    code = "import sys, torch, kdgen; x = torch.load(sys.argv[1], weights_only=True); " \
           "torch.save(kdgen.load(sys.argv[2]).restore(x), sys.argv[3])"  # fmt: skip
    subprocess.run([sys.executable, "-c", code, tmp_path / "x.pt", name, tmp_path / "y.pt"], check=True)
    assert torch.equal(torch.load(tmp_path / "y.pt", weights_only=True), expected)


def test_one_commit(hub: Hub, place: RunContext, trained: Path) -> None:
    name = place.name("one")
    push_to_hub(trained, name)
    assert sum("POST" in line and "/commit/" in line for line in hub.seen) == 1
    assert len(hub.store.repos["model", name].commits) == 2, "the repository's own first commit, and ours"


def test_a_diffusion_student_opens_in_plain_diffusers(place: RunContext, student: Make, tmp_path: Path) -> None:
    task = {"name": "diffuse", "size": 8, "channels": 1, "num_steps": 2}
    model = student("unet2d", task, size=8, block_out_channels=[8, 16], norm_num_groups=4, attention_levels=0)
    name = place.name("diffusion")
    assert push_to_hub(model, name).url.startswith("http")
    assert {
        "model_index.json",
        "unet/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    } <= files_of(name)
    drawn = model.draw(2, seed=3, num_steps=2)
    assert torch.equal(load(name).draw(2, seed=3, num_steps=2), drawn)
    assert call("pull", name, "--to", str(tmp_path / "here")) == 0
    from diffusers import DDIMPipeline

    pipe = DDIMPipeline.from_pretrained(tmp_path / "here")
    pipe.set_progress_bar_config(disable=True)
    seeds = torch.randint(2**63 - 1, (2,), generator=torch.Generator().manual_seed(3)).tolist()
    noise = [torch.Generator().manual_seed(seed) for seed in seeds]
    plain = pipe(2, generator=noise, num_inference_steps=2, output_type="np").images
    assert torch.equal(torch.from_numpy(plain).movedim(-1, 1) * 2 - 1, drawn)


def test_a_model_that_was_changed_is_published_without_the_report_of_what_it_was(
    place: RunContext, trained: Path
) -> None:
    model = load(trained)
    torch.nn.init.ones_(next(model.net.parameters()))
    name = place.name("changed")
    push_to_hub(model, name)
    assert {"report.json", "recipe.json", "samples.png"}.isdisjoint(files_of(name))
    x = torch.rand(1, 1, 8, 8)
    assert torch.equal(load(name).restore(x), model.restore(x))


def test_a_student_that_is_not_the_trained_net_is_not_sent(place: RunContext, trained: Path) -> None:
    model = load(trained)
    torch.nn.init.ones_(next(model.net.parameters()))
    model.save(trained / "student")
    name = place.name("other")
    with pytest.raises(UserError, match="another output than the trained net"):
        push_to_hub(trained, name)
    with pytest.raises(RepositoryNotFoundError):
        HfApi().model_info(name)


def test_a_dry_run_shows_everything_and_sends_nothing(
    hub: Hub, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("push", str(trained), "acme/dry", "--dry-run") == 0
    shown = capsys.readouterr()
    for words in ("model.safetensors", "recipe.json", "library_name: kdgen", 'kdgen.load("acme/dry")'):
        assert words in shown.out
    assert push_to_hub(trained, "acme/dry", dry_run=True).card in shown.out, "the page is not wrapped"
    assert "nothing was sent" in shown.err
    assert hub.seen == []


def test_a_second_push_takes_away_what_the_first_left(place: RunContext, student: Make, trained: Path) -> None:
    name = place.name("again")
    push_to_hub(trained, name)
    push_to_hub(student(), name)
    assert {"report.json", "samples.png"}.isdisjoint(files_of(name))
    before = HfApi().model_info(name).sha
    push_to_hub(student(), name)
    assert HfApi().model_info(name).sha == before, "an equal push makes no commit"


def test_a_licence_once_given_and_data_sets_stand_on_the_card(place: RunContext, student: Make) -> None:
    name = place.name("licensed")
    push_to_hub(student(), name, license="mit", datasets=["acme/photos"])
    data = ModelCard(push_to_hub(load(name), name, datasets=["acme/photos"], dry_run=True).card).data
    assert (data.license, data.datasets) == ("mit", ["acme/photos"])


def test_the_gallery_shows_what_a_student_of_few_steps_draws_in_few(student: Make, tmp_path: Path) -> None:
    task = {"name": "diffuse", "size": 8, "channels": 1, "sampler": "euler", "steps": [2, 1]}
    model = student("unet2d", task, size=8, block_out_channels=[8, 8], norm_num_groups=4, attention_levels=0)
    gallery(model, tmp_path / "gallery.png")
    drawn = sheet(to_pictures(model.draw(16, seed=0, num_steps=2)))
    assert ImageChops.difference(Image.open(tmp_path / "gallery.png"), drawn).getbbox() is None


@pytest.mark.parametrize(
    ("name", "task", "args"),
    [
        ("vae_encoder", {"name": "encode", "size": 16, "channels": 1}, {"widths": [4, 8, 8]}),
        ("vae_decoder", {"name": "decode", "size": 16, "latent": [4, 4, 4]}, {"widths": [4, 8, 8]}),
        ("mlp_vae", {"name": "autoencode", "size": 8}, {"size": 8, "hidden": 6, "latent": 2}),
        ("feature_net", {"name": "classify", "size": 16, "num_classes": 3}, {"width": 4, "classes": 3}),
        ("conv_generator", {"name": "generate", "latent": [4], "size": 8}, {"latent": 4, "size": 8, "width": 4}),
        ("patch_mlp", {"name": "denoise", "sigma": [0, 55]}, {"patch": 4, "stride": 2, "width": 5}),
    ],
)
def test_students_of_every_task_can_be_published(
    student: Make, name: str, task: dict[str, object], args: dict[str, object]
) -> None:
    pushed = push_to_hub(student(name, task, **args), "acme/any", dry_run=True)
    assert {"config.json", "model.safetensors", "README.md"} <= pushed.files.keys()
    assert ("gallery.png" in pushed.files) == (task["name"] in ("autoencode", "generate", "denoise"))


def test_the_command_takes_what_the_function_takes() -> None:
    function = set(inspect.signature(push_to_hub).parameters) - {"source", "repo_id", "token", "datasets"}
    command = set(inspect.signature(publishing.push).parameters) - {"source", "name", "code", "dataset"}
    assert function == command


def test_who_may_not_write_may_propose(
    hub: Hub, place: RunContext, student: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = place.name("theirs")
    before = push_to_hub(student(), name).commit
    monkeypatch.setenv("HF_TOKEN", "hf_reader_of_nothing_1")
    pushed = push_to_hub(student(depth=3, width=6), name, create_pr=True)
    assert hub.store.repos["model", name].refs["refs/pr/1"] == pushed.commit
    assert hub.store.repos["model", name].refs["main"] == before
    assert push_to_hub(student(depth=3, width=6), name, create_pr=True, revision="main").url.endswith("/discussions/2")


def test_branches_and_proposals(place: RunContext, student: Make) -> None:
    name = place.name("branches")
    push_to_hub(student(), name)
    wider = student(depth=3, width=6)
    push_to_hub(wider, name, revision="wide")
    assert load(name).use != load(name, revision="wide").use == wider.use
    pushed = push_to_hub(student(depth=3, width=8), name, create_pr=True)
    assert "discussions" in pushed.url
    assert load(f"hub:{name}@{pushed.commit}").use.args["width"] == 8  # type: ignore[union-attr]
    assert load(name).use.args["width"] == 4  # type: ignore[union-attr]


def test_thirty_megabytes_over_a_bad_line(hub: Hub, place: RunContext, student: Make, tmp_path: Path) -> None:
    task = {"name": "generate", "latent": [64], "size": 32, "channels": 1}
    model = student("mlp_generator", task, latent=64, hidden=[2048, 3000])
    model.save(tmp_path / "large")
    assert (tmp_path / "large" / "model.safetensors").stat().st_size > 30e6
    hub.faults += [
        Fault("PUT /lfs/", 0),
        Fault("POST .*preupload", 500),
        Fault("POST .*lfs/objects/batch", 503),
        Fault("POST /api/repos/create", 429, {"Retry-After": "1"}),
        Fault("POST .*/commit/", 503),
    ]
    name = place.name("large")
    pushed = push_to_hub(tmp_path / "large", name)
    assert [fault.times for fault in hub.faults] == [0] * 5
    repo = hub.store.repos["model", name]
    tree = repo.commits[pushed.commit or ""]
    large = [file for file in tree.values() if file.sha256 is not None]
    assert len(large) == 2
    assert all(hashlib.sha256(hub.store.read(file)).hexdigest() == file.sha256 for file in large)
    assert hub.store.read(tree["model.safetensors"]) == (tmp_path / "large" / "model.safetensors").read_bytes()


def test_an_interrupted_upload_goes_on_where_it_was(hub: Hub, place: RunContext, student: Make) -> None:
    name = place.name("resumed")
    hub.faults.append(Fault("POST .*/commit/", 403, message="Forbidden"))
    with pytest.raises(UserError, match="no right to write"):
        push_to_hub(student(depth=3, width=5), name)
    assert sum(line.startswith("PUT") for line in hub.seen) > 0
    hub.seen.clear()
    push_to_hub(student(depth=3, width=5), name)
    assert sum(line.startswith("PUT") for line in hub.seen) == 0, "what was uploaded is not sent again"


def test_a_commit_whose_confirmation_is_lost_is_not_made_twice(hub: Hub, place: RunContext, student: Make) -> None:
    name = place.name("lost")
    store_write = hub.store.write

    def lose(repo: object, *args: object, **more: object) -> str:
        store_write(repo, *args, **more)  # type: ignore[arg-type]
        hub.store.write = store_write  # type: ignore[method-assign]
        raise RuntimeError("the confirmation is lost")

    hub.store.create("model", name)
    hub.store.write = lose  # type: ignore[method-assign,assignment]
    push_to_hub(student(), name)
    assert len(hub.store.repos["model", name].commits) == 2


def test_the_published_recipe_and_report_are_the_runs_own(place: RunContext, trained: Path) -> None:
    name = place.name("same")
    push_to_hub(trained, name)
    got = Path(snapshot_download(name))
    ours, theirs = (json.loads((folder / "report.json").read_text()) for folder in (trained, got))
    assert [row["metrics"] for row in theirs["rows"]] == [row["metrics"] for row in ours["rows"]]
    assert kdgen.Recipe.model_validate_json((got / "recipe.json").read_text()).steps == 3


def test_a_student_of_somebodys_own_code_is_not_published(place: RunContext, tmp_path: Path) -> None:
    def own_net(channels: int = 1) -> torch.nn.Module:
        return torch.nn.Conv2d(channels, channels, 3, padding=1)

    registry.register("net")(own_net)
    try:
        net, use = build_net(Spec(name="own_net"), 1)
        Model(net, name="mine", channels=1, task={"name": "denoise", "sigma": 25}, use=use).save(tmp_path / "mine")
        name = place.name("mine")
        with pytest.raises(UserError, match=r"mine is of the net own_net, your own, .*`kdgen export .*--format onnx`"):
            push_to_hub(tmp_path / "mine", name)
        with pytest.raises(RepositoryNotFoundError):
            files_of(name)
        config = read_config(tmp_path / "mine")
        assert "`own_net`, is no part of kdgen: nobody can open it without that code" in card(None, None, config=config)
    finally:
        del registry._registered["net"]["own_net"]
