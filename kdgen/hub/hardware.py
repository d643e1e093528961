"""Hardware of the Hugging Face Hub that jobs run on, with its prices; and who may not use it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from huggingface_hub import constants
from huggingface_hub._jobs_api import JobHardwareInfo
from huggingface_hub.errors import HfHubHTTPError

from kdgen.models.hub_cache import api, explained, with_retries
from kdgen.models.hub_cache.failures import redacted
from kdgen.registry import nearest
from kdgen.types import UserError, text


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine that jobs run on, as the Hub offers it now.

    Attributes:
        name: by which it is asked for.
        title: what it is called.
        details: its processors, memory and accelerators.
        dollars: its price an hour.
    """

    name: str
    title: str
    details: str
    dollars: float

    def __str__(self) -> str:
        return f"{self.name}: {self.title}, {self.details}, ${self.dollars:.2f} an hour"


def hardware(token: str | None = None) -> list[Hardware]:
    """All machines, the cheapest first."""
    with jobs_explained(text("list_of_hardware", "the list of hardware")):
        infos = with_retries(lambda: api(token).list_jobs_hardware())
    return sorted((_hardware(info) for info in infos), key=lambda each: each.dollars)


def find_hardware(name: str, token: str | None = None) -> Hardware:
    """The machine of a name. Raises UserError with all there are for another name."""
    offered = hardware(token)
    for each in offered:
        if each.name == name:
            return each
    names = [each.name for each in offered]
    prices = [text("hardware_price", "{name} (${dollars:.2f} an hour)", name=each.name, dollars=each.dollars)
              for each in offered]  # fmt: skip
    raise UserError(text("no_hardware", "no hardware is called {name!r}{nearest}: there is {prices:, }", name=name,
                         nearest=nearest(name, names), prices=prices))  # fmt: skip


def _hardware(info: JobHardwareInfo) -> Hardware:
    accelerator = info.accelerator
    details = [info.cpu, f"{info.ram} memory"]
    if accelerator is not None:
        details.append(f"{accelerator.quantity}x {accelerator.model}, {accelerator.vram}")
    per_hour = {"second": 3600, "minute": 60, "hour": 1}[info.unit_label]
    return Hardware(info.name, info.pretty_name, ", ".join(details), info.unit_cost_usd * per_hour)


@contextmanager
def jobs_explained(what: str, *, writing: bool = False) -> Iterator[None]:
    """As elsewhere, but for what is special about jobs: who may run them."""
    with explained(what, writing=writing):
        try:
            yield
        except HfHubHTTPError as error:
            status, path = error.response.status_code, error.response.url.path
            if status in (402, 403) and path.startswith("/api/jobs"):
                reason = redacted(error.server_message or "") or text("no_reason", "no reason given")
                raise UserError(text("no_jobs", "{what}: this account or its token may not run jobs: it takes "
                                     "credit, see {endpoint}/settings/billing, and the right to jobs: {reason}",
                                     what=what, endpoint=constants.ENDPOINT, reason=reason)) from None  # fmt: skip
            raise
