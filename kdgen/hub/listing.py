"""Students that others published."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCardData, ModelInfo, constants, get_session

from kdgen.models.hub_cache import api, explained, with_retries
from kdgen.types import text


@dataclass(frozen=True, slots=True)
class Published:
    """A student on the Hub, as its card states it.

    Attributes:
        id: ``org/name``.
        task: what it was made for.
        figures: by metric, as in the report: ``psnr``, ``fd_features32@2``.
        teacher: its repository, where it has one.
        license: in the Hub's words.
        downloads: in the last thirty days.
    """

    id: str
    task: str
    figures: Mapping[str, float]
    teacher: str
    license: str
    downloads: int


def published(*, author: str | None = None, task: str | None = None, limit: int = 100) -> list[Published]:
    """Published students, those most downloaded first.

    Args:
        author: a user or an organisation.
        task: what they were made for, e.g. ``denoise``.
        limit: how many at most.

    Raises:
        WorldError: if the Hub cannot be reached.
    """
    tags = ["kdgen", *([task] if task else [])]
    with explained(text("list_of_students", "the list of students")):
        # Lists are tried again by huggingface-hub itself, half a minute where there is no network: ask for one first.
        with_retries(lambda: get_session().head(constants.ENDPOINT))
        infos = list(api().list_models(filter=tags, author=author, sort="downloads", cardData=True, limit=limit))
    return [_published(info) for info in infos]


def _published(info: ModelInfo) -> Published:
    """What a card says, of anybody's making: whatever is not as the Hub's documentation has it is passed over."""
    card = info.card_data or ModelCardData()
    results = [result for result in card.eval_results or () if isinstance(result, EvalResult)]
    tasks = [result.task_name for result in results] + [tag for tag in _texts(card.tags) if tag != "kdgen"]
    return Published(
        id=info.id,
        task=next(iter(_texts(tasks)), ""),
        figures={
            "@".join(_texts([result.metric_type, result.metric_config])): float(result.metric_value)
            for result in results
            if isinstance(result.metric_value, int | float)
        },
        teacher=", ".join(_texts(card.base_model)),
        license=", ".join(_texts(card.license)),
        downloads=info.downloads or 0,
    )


def _texts(value: Any) -> list[str]:
    """The words in a value that is to be a text or several, without what would move a terminal's cursor."""
    values = value if isinstance(value, list) else [value]
    return ["".join(filter(str.isprintable, text)) for text in values if isinstance(text, str)]
