"""Names of files: local paths and URLs, taken apart and put together without looking at them."""

import re
from pathlib import Path

from ..errors import UsageError

_USER_INFORMATION = re.compile(r"://[^/?#@]*@")
_SIGNED = re.compile(
    r"[?&]((x-(amz|goog)-)?(signature|credential|security-token)|sig|awsaccesskeyid|googleaccessid"
    r"|(access_?|auth_?)?token|auth|(api_?)?key|secret|password|pwd)=",
    re.IGNORECASE,
)


def is_text(name: str) -> bool:
    """Whether UTF-8 can hold ``name``; bytes that it cannot hold arrive as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def local_path(url: str) -> Path | None:
    """Return the absolute local path that ``url`` names, or None for a remote URL.

    Raises:
        UsageError: no file can have that path.
    """
    if url.startswith(("file://", "local://")):
        return Path(url.split("://", 1)[1]).absolute()
    if "://" in url or "::" in url:
        return None
    try:
        return Path(url).expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(f"{url}: no such user; write the whole path") from error


def join(base: str, *parts: str) -> str:
    """Append ``parts`` to the folder URL ``base``."""
    head = base if base.endswith("/") else base + "/"
    return head + "/".join(part.strip("/") for part in parts)


def base_name(url: str) -> str:
    """Return the last path component of ``url``, without the query of an HTTP URL."""
    if is_http(url):
        url = re.split(r"[?#]", url, maxsplit=1)[0]
    return url.rstrip("/").rsplit("/", 1)[-1]


def is_http(url: str) -> bool:
    """Whether ``url`` is read from a web server, where nothing can be listed or written."""
    return url.startswith(("http://", "https://"))


def refuse_secrets(url: str) -> None:
    """Refuse a URL with credentials in it: plans, manifests and logs repeat it.

    Raises:
        UsageError: user information, or a signed query; the message leaves it out.
    """
    if _USER_INFORMATION.search(url) or (is_http(url) and _SIGNED.search(url)):
        shown = _USER_INFORMATION.sub("://", re.split(r"[?#]", url, maxsplit=1)[0])
        raise UsageError(
            f"the URL of {shown} holds credentials, which the plan and the logs would repeat; "
            "give them by the environment (for web servers: a netrc file)"
        )
