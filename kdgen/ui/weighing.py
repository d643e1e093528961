"""How much one request fetches from the Hub."""

from kdgen.models.hub_cache import HubId, api, explained, fetchable
from kdgen.models.hub_cache.failures import SILENCE
from kdgen.models.hub_cache.repository import LORA
from kdgen.types import UserError, text

REPOSITORIES = 8


class Weighing:
    """Bounds what is fetched from the Hub for one request.

    Args:
        most: bytes of the files of all repositories together.
    """

    def __init__(self, most: int) -> None:
        self.most, self._sizes = most, dict[HubId, int]()

    def pinned(self, reference: str) -> str:
        """A reference as ``resolve`` gives it; one of the Hub is weighed, and bound to the commit that was.

        Raises:
            UserError: for a LoRA, for more bytes than are fetched here, and where the Hub knows of no such repository.
            WorldError: where the Hub cannot be reached.
        """
        if not reference.startswith("hub:"):
            return reference
        name, hash, half = reference.partition("#")
        id = HubId.read(name)
        if len(self._sizes) >= REPOSITORIES:
            raise UserError(text("too_many_repositories", "at most {most} models of the Hub are named in a recipe here",
                                 most=REPOSITORIES))  # fmt: skip
        with explained(id.name):
            info = api(False).model_info(id.name, revision=id.revision, files_metadata=True, timeout=SILENCE)  # type: ignore[arg-type]
        exact = id.at(info.sha)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        if "model_index.json" not in sizes and (lora := next((file for file in LORA if file in sizes), None)):
            raise UserError(text("lora_unweighed", "{name} holds {file}, a LoRA, which is opened with another model of "
                                 "unknown size: open it with kdgen on a machine of your own", name=id.name,
                                 file=lora))  # fmt: skip
        self._sizes[exact] = sum(sizes[path] for path in fetchable(sizes, id.part))
        if (size := sum(self._sizes.values())) > self.most:
            raise UserError(text("too_many_bytes", "{names: and }: {size:.1f} GB, and at most {most:.1f} GB are "
                                 "fetched here: choose smaller models", names=[each.name for each in self._sizes],
                                 size=size / 1e9,
                                 most=self.most / 1e9))  # fmt: skip
        return f"{exact}{hash}{half}"
