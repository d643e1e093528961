"""What models cost that are compared, each on an example of its own."""

from collections.abc import Mapping

from torch import Tensor

from kdgen.metrics import cost
from kdgen.models.model import Model
from kdgen.report.report import Row
from kdgen.types import Text
from kdgen.utils.devices import OtherWork

Example = tuple[Tensor, Mapping[str, Tensor]]
"""What a net is called on: its input and its conditions."""


def timed(
    models: Mapping[str, Model], examples: Mapping[str, Example], calls: Mapping[str, int] | None = None
) -> tuple[list[Row], float]:
    """A row for each model with what it costs; nets that take the same inputs are timed in turn.

    Args:
        models: by name, the first as the reference where there are several.
        examples: by name.
        calls: of the net for an image, by name; one if not given.

    Returns:
        the rows; and how many cores of the machine other programs kept meanwhile, 0 where enough of them were left.
    """
    rows, alike, others = list[Row](), dict[object, list[int]](), OtherWork()
    for number, (name, model) in enumerate(models.items()):
        x, cond = examples[name]
        alike.setdefault((x.shape, *((key, value.shape) for key, value in sorted(cond.items()))), []).append(number)
        rows.append(Row(role="teacher" if not number and len(models) > 1 else "model", name=Text.of(name), metrics={},
                        num_params=cost.num_params(model.net), macs=cost.macs(model.net, x, cond),
                        calls=calls[name] if calls else 1, size_bytes=cost.size_bytes(model.net)))  # fmt: skip
    nets = [model.net for model in models.values()]
    for numbers in alike.values():
        x, cond = examples[rows[numbers[0]].name]
        for number, ms in zip(numbers, cost.latencies_ms([nets[each] for each in numbers], x, cond), strict=True):
            rows[number] = rows[number].model_copy(update={"latency_ms": ms})
    cores = others.cores()
    return rows, cores if others.crowds(cores) else 0.0


__all__ = ["timed"]
