"""Files from the Hugging Face Hub: what an id names, how its files are fetched and checked, and what failures mean."""

from kdgen.models.hub_cache.failures import WorldError, explained, with_retries
from kdgen.models.hub_cache.ids import HubId, hub_id, pinned
from kdgen.models.hub_cache.repository import PAGES, api, commit_of, copy_published, fetch, fetchable, publishable

__all__ = [
    "PAGES",
    "HubId",
    "WorldError",
    "api",
    "commit_of",
    "copy_published",
    "explained",
    "fetch",
    "fetchable",
    "hub_id",
    "pinned",
    "publishable",
    "with_retries",
]
