"""Students that others published."""

from collections.abc import Mapping
from dataclasses import dataclass

from kdgen.fetch import api, explained


@dataclass(frozen=True, slots=True)
class Published:
    """A student on the Hub, as its card states it.

    Attributes:
        id: ``org/name``.
        task: what it was made for.
        figures: by metric.
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
    with explained("the list of students"):  # the client by itself tries again
        found = list(
            api().list_models(filter=tags, author=author, sort="downloads", cardData=True, limit=limit)
        )  # fmt: skip
    students = []
    for info in found:
        card = info.card_data
        results = (card.eval_results or []) if card else []
        base = card.base_model if card else None
        tagged = [tag for tag in (card.tags or [] if card else []) if tag != "kdgen"]
        figures = {result.metric_type: float(result.metric_value) for result in results
                   if isinstance(result.metric_value, int | float)}  # fmt: skip
        students.append(Published(
            id=info.id,
            task=next((result.task_name for result in results if result.task_name), tagged[0] if tagged else ""),
            figures=figures,
            teacher=base if isinstance(base, str) else ", ".join(base or ()),
            license=str(card.license or "") if card else "",
            downloads=info.downloads or 0,
        ))  # fmt: skip
    return students
