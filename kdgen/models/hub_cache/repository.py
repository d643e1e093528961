"""The files of a repository in the cache, and no others than a student or a model of diffusers consists of."""

import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import httpx2
from huggingface_hub import HfApi, get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from kdgen.models.adapters import parts
from kdgen.models.hub_cache.failures import PASSING, explained, with_retries
from kdgen.models.hub_cache.ids import HubId
from kdgen.types import UserError, text

SCHEDULER = "scheduler"
"""The folder within a repository that is opened beside those of the adapters' models."""

CONFIGS = ("config.json", "model_index.json", "scheduler_config.json")
WEIGHTS = ("model.safetensors", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model-*-of-*.safetensors",
           "diffusion_pytorch_model.safetensors.index.json")  # fmt: skip
VARIANTS = (
    "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model-*-of-*.fp16.safetensors",
    "diffusion_pytorch_model.fp16-*-of-*.safetensors", "diffusion_pytorch_model.safetensors.index.fp16.json",
)  # fmt: skip
"""Weights in half precision, which are fetched where there are no others."""

OTHERS = ("vae", "text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3",
          "feature_extractor", "image_encoder", "safety_checker")  # fmt: skip
"""Folders of a pipeline's parts that go along with the model that is opened, and read words or decode for it."""

OF_OTHERS = (*CONFIGS, *WEIGHTS, "model-*-of-*.safetensors", "model.safetensors.index.json", "generation_config.json",
             "preprocessor_config.json", "tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json",
             "merges.txt", "added_tokens.json", "special_tokens_map.json", "tokenizer_config.json")  # fmt: skip
HALF_OTHERS = (*VARIANTS, "model.fp16.safetensors", "model-*-of-*.fp16.safetensors", "model.fp16-*-of-*.safetensors",
               "model.safetensors.index.fp16.json")  # fmt: skip

PAGES = ("recipe.json", "report.json", "report.md", "samples.png", "curves.png")
"""What a run tells of its student."""

LORA = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "adapter_config.json")
"""What a LoRA consists of, by diffusers' names or peft's, beside its own configuration."""

FILES = (*CONFIGS, *WEIGHTS, *LORA, *PAGES, "README.md", "gallery.png")
"""Names of the files that are published and fetched; of the pages only those in the repository's own folder."""

SOUND = re.compile(r"[^/\\\x00-\x1f:]+(?:/[^/\\\x00-\x1f:]+)*")
"""A path whose parts are plain names."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".msgpack", ".h5")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A repository in the cache.

    Attributes:
        id: what was asked for.
        commit: what that means.
        folder: the files; of a part of a repository, those of that part.
    """

    id: HubId
    commit: str
    folder: Path


def publishable(path: str) -> bool:
    """Whether a path, relative to the folder of a student, is of a file that a student consists of."""
    folder, name = PurePosixPath(path).parent.as_posix(), PurePosixPath(path).name
    if folder == ".":
        return any(fnmatchcase(name, pattern) for pattern in FILES)
    if folder in OTHERS:
        return any(fnmatchcase(name, pattern) for pattern in OF_OTHERS)
    return folder in (SCHEDULER, *parts()) and any(fnmatchcase(name, pattern) for pattern in (*CONFIGS, *WEIGHTS))


def fetchable(paths: Iterable[str], part: str | None = None) -> list[str]:
    """Of all paths in a repository those of a student or a model, or of one of its parts.

    Weights in half precision are among them in a folder that holds no others.
    """
    pure = [path for text in paths if (path := PurePosixPath(text)).parent.as_posix() == part or part is None]
    weights = (*WEIGHTS, *(pattern for pattern in OF_OTHERS if pattern.endswith(".safetensors")))
    full = {path.parent for path in pure if any(fnmatchcase(path.name, pattern) for pattern in weights)}

    def wanted(path: PurePosixPath) -> bool:
        half = path.parent not in full and any(fnmatchcase(path.name, pattern) for pattern in HALF_OTHERS)
        return publishable(str(path)) or (half and path.parent.as_posix() in (".", SCHEDULER, *OTHERS, *parts()))

    return [str(path) for path in pure if wanted(path)]


def copy_published(source: Path, target: Path) -> None:
    """Copy the files of a student from a folder, the cache's too, and no others that lie there."""
    for name in fetchable(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def fetch(
    id: HubId,
    *,
    check: Callable[[Path], object] | None = None,
    cache: Path | None = None,
    token: str | None = None,
) -> Fetched:
    """Bring the files of a repository into the cache; what lies there already is not loaded again.

    Without a network, or with HF_HUB_OFFLINE set, the cache alone has to do.

    Args:
        id: the repository and its revision.
        check: called with the folder of the configurations before any weights are loaded; it raises to refuse.
        cache: where to; by default the cache of all programs that use the Hub.
        token: of who asks; by default of who is logged in.

    Raises:
        UserError: for a repository or revision that is not there, files with paths that lead elsewhere, weights that
            are no safetensors, and whatever ``check`` refuses.
        WorldError: where Hub or network fail and the cache does not have it.
    """
    with explained(id.name):
        paths, offline = _listed(id, cache, token)
        wanted = _accepted(id, paths)

        def load(patterns: list[str]) -> Path:
            return Path(with_retries(lambda: snapshot_download(
                id.name, revision=id.revision, cache_dir=cache, allow_patterns=patterns, local_files_only=offline,
                token=token, library_name="kdgen", library_version=version("kdgen"),
            )))  # fmt: skip

        folder = load([path for path in wanted if PurePosixPath(path).name in CONFIGS])
        if check is not None:
            check(folder / (id.part or ""))
        folder = load(wanted)
    return Fetched(id, folder.name, folder / (id.part or ""))


def commit_of(id: HubId, *, token: str | None = None) -> str:
    """The commit that an id means now, or meant when it was last fetched if the Hub cannot be reached.

    Raises:
        UserError: for a repository or revision that is not there.
        WorldError: where Hub or network fail and the cache does not know.
    """
    with explained(id.name):
        resolved: str = with_retries(lambda: api(token).resolve_revision(id.name, revision=id.revision)).resolved
    return resolved


def api(token: str | None = None) -> HfApi:
    """The Hub's client, for who is logged in or for the owner of a token."""
    return HfApi(token=token, library_name="kdgen", library_version=version("kdgen"))


def _listed(id: HubId, cache: Path | None, token: str | None) -> tuple[list[str], bool]:
    """All paths in a repository, and whether they are from the cache alone."""

    def online() -> list[str]:
        return [file.rfilename for file in api(token).model_info(id.name, revision=id.revision).siblings or ()]

    try:
        cached = [file.path for file in get_cached_repo_tree(id.name, revision=id.revision, cache_dir=cache)]
    except CachedRepoTreeNotFoundError:
        cached = _in_snapshot(id, cache)
    if not cached:
        return with_retries(online), False
    try:
        return online(), False
    except HfHubHTTPError as error:
        if error.response.status_code not in PASSING:
            raise
    except (httpx2.TransportError, OfflineModeIsEnabled):
        pass
    return cached, True


def _in_snapshot(id: HubId, cache: Path | None) -> list[str]:
    """The paths that lie in the cache without a list of what there should be, as other programs leave them."""
    try:
        folder = Path(snapshot_download(id.name, revision=id.revision, cache_dir=cache, local_files_only=True))
    except LocalEntryNotFoundError:
        return []
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _accepted(id: HubId, paths: list[str]) -> list[str]:
    """Those paths that are fetched.

    Raises:
        UserError: if one leads out of the repository, or there are no weights that may be read.
    """
    for path in paths:
        if not SOUND.fullmatch(path) or ".." in path.split("/"):
            raise UserError(text("hub_path", "{name} is refused: it holds a file {path!r}, a path that leads "
                                 "elsewhere", name=id.name, path=path))  # fmt: skip
    if id.part and not any(path.startswith(f"{id.part}/") for path in paths):
        raise UserError(text("hub_no_folder", "{name} has no folder {folder}: leave that out of its name",
                             name=id.name, folder=id.part))  # fmt: skip
    wanted = fetchable(paths, id.part)
    if not any(path.endswith(".safetensors") for path in wanted):
        if pickles := sorted(path for path in paths if path.endswith(PICKLES)):
            raise UserError(text("hub_pickle", "{name} holds its weights as {file}, which may run code when it is "
                                 "read and never is: ask its author for safetensors", name=id.name,
                                 file=pickles[0]))  # fmt: skip
        raise UserError(text("hub_no_weights", "{name} holds no weights of a student or of a diffusers model as "
                             "safetensors", name=id.name))  # fmt: skip
    if not any(PurePosixPath(path).name in ("config.json", "model_index.json") for path in wanted):
        raise UserError(text("hub_no_config", "{name} has no config.json and no model_index.json: kdgen cannot know "
                             "what its weights are", name=id.name))  # fmt: skip
    return wanted
