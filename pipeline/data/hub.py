"""A dataset repository of the Hugging Face Hub, as a place that files are published to.

Files go through ``huggingface_hub`` in commits of many files; fsspec would make a commit for each.
Where the Hub is and who asks is said by that library's own environment: ``HF_ENDPOINT``,
``HF_TOKEN``.
"""

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..errors import UnavailableError, UsageError
from .transient import retried

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")

SCHEME = "hf://"
_URL = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.*))?")


class HubFile(NamedTuple):
    """A file of a repository: its size in bytes, and its sha256, or git's own hash of a small one.

    One of the two hashes is empty.
    """

    size: int
    sha256: str
    blob: str


class HubFolder:
    """A dataset repository, or a folder of it.

    Args:
        url: ``hf://datasets/OWNER/NAME``, with ``@BRANCH`` and ``/FOLDER`` where wanted.
        private: whether a repository that is made here is private.

    Raises:
        UsageError: another URL, or the extra `hub` is not installed.
    """

    def __init__(self, url: str, *, private: bool = False) -> None:
        found = _URL.fullmatch(url)
        if found is None:
            raise UsageError(f"{url} names no dataset of the Hub; write hf://datasets/OWNER/NAME")
        self.url = url
        self._api = _api()
        self._repo = _checked(found[1])
        self._branch = found[2]
        self._folder = f"{found[3].strip('/')}/" if found[3] and found[3].strip("/") else ""
        self._private = private

    def make(self) -> None:
        """Make repository and branch where they are missing.

        Raises:
            UsageError: the Hub refuses.
            UnavailableError: it does not answer.
        """
        # Without a word the owner's own setting decides.
        private = self._private or None
        self._ask(
            "make",
            lambda: self._api.create_repo(
                self._repo, repo_type="dataset", private=private, exist_ok=True
            ),
        )
        if self._branch is not None:
            branch = self._branch
            self._ask(
                "make the branch of",
                lambda: self._api.create_branch(
                    self._repo, branch=branch, repo_type="dataset", exist_ok=True
                ),
            )

    def files(self) -> dict[str, HubFile]:
        """Return what is there by name; raises as `make`. Hidden files are the Hub's own."""
        listed = self._ask("list", lambda: list(self._tree()))
        return {
            name: file for name, file in listed if not any(p[:1] == "." for p in name.split("/"))
        }

    def _tree(self) -> list[tuple[str, HubFile]]:
        entries = self._api.list_repo_tree(
            self._repo, recursive=True, revision=self._branch, repo_type="dataset"
        )
        found = []
        for entry in entries:
            size = getattr(entry, "size", None)
            if size is not None and entry.path.startswith(self._folder):
                lfs = getattr(entry, "lfs", None)
                blob = "" if lfs else entry.blob_id  # type: ignore[union-attr]
                file = HubFile(size, lfs.sha256 if lfs else "", blob)
                found.append((entry.path.removeprefix(self._folder), file))
        return found

    def send(self, files: Mapping[str, Path], message: str) -> None:
        """Commit local files under their names: all, or none; raises as `make`.

        What the Hub has received of an earlier attempt is not sent again.
        """
        from huggingface_hub import CommitOperationAdd

        def commit() -> None:
            # A file that was in a commit that failed cannot be given to another one.
            operations = [
                CommitOperationAdd(self._folder + name, path) for name, path in files.items()
            ]
            self._api.create_commit(
                self._repo, operations, commit_message=message, repo_type="dataset",
                revision=self._branch,
            )  # fmt: skip

        self._ask("write to", commit)

    def _ask(self, what: str, operation: Callable[[], T]) -> T:
        from huggingface_hub.errors import HfHubHTTPError

        try:
            return retried(f"{what} {self.url}", operation)
        except HfHubHTTPError as error:
            status = error.response.status_code
            reason = " ".join(str(error.server_message or error).split())[:300]
            remedies = {
                401: "set HF_TOKEN to a token that may write there",
                403: "set HF_TOKEN to a token that may write there",
                404: "check the name, and that HF_TOKEN may see it",
                400: "mend what it names",
            }
            if status in remedies:
                told = f"{self.url}: the Hub answers {status} ({reason}); {remedies[status]}"
                raise UsageError(told) from error
            raise UnavailableError(f"{what} {self.url}: {reason}") from error
        except ValueError as error:
            raise UsageError(f"{self.url}: {' '.join(str(error).split())}") from error


def blob_of(data: bytes) -> str:
    """Return git's own hash of a file, by which the Hub knows what is too small for storage."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _checked(repo: str) -> str:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UsageError(" ".join(str(error).split())) from error
    return repo


def _api() -> "HfApi":
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UsageError("publishing to the Hub needs `pip install unlearnable[hub]`") from error
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="unlearnable")
