"""Files from the Hugging Face Hub: what an id names, how its files are fetched and checked, and what failures mean."""

from kdgen.fetch.failures import WorldError, explained, patiently
from kdgen.fetch.ids import HubId, hub_id, pinned
from kdgen.fetch.repository import PAGES, api, commit_of, copy_published, fetch, fetchable, publishable

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
    "patiently",
    "pinned",
    "publishable",
]
