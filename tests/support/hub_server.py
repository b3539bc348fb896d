"""A server that speaks the part of the Hugging Face Hub's API that datasets need.

Repositories, branches, commits, large files by LFS (in one piece or in parts), trees in pages,
downloads with ranges. `huggingface_hub` and `datasets` talk to it as to the Hub.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_may_write"  # noqa: S105 - of a server that ends with the test
_LARGE = (".tar", ".parquet", ".bin")


@dataclass(frozen=True)
class Blob:
    """A file in a repository; ``large`` ones are known by their sha256."""

    data: bytes
    large: bool

    @property
    def git(self) -> str:
        data = self.data
        if self.large:
            data = f"version 1\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324 - git's own

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass
class Repository:
    """Files by branch, and the messages of the commits."""

    private: bool = False
    branches: dict[str, dict[str, Blob]] = field(default_factory=lambda: {"main": {}})
    commits: list[str] = field(default_factory=list)

    @property
    def head(self) -> str:
        """The last commit, known by the number of those before it."""
        return f"{len(self.commits):040d}"

    def files(self, branch: str = "main") -> dict[str, bytes]:
        return {name: blob.data for name, blob in self.branches[branch].items()}


@dataclass
class HubServer:
    """What the server holds, and how it shall misbehave.

    Attributes:
        endpoint: its URL.
        repositories: by ``OWNER/NAME``.
        uploads: sha256 of each large file that was sent.
        requests: method and path of each request.
        fail_after: commits after which the next one is answered with status 403.
        part: bytes of a part, for uploads in parts; 0 for one piece.
        page: entries in a page of a tree.
        spoil: whether large files are stored with another content than was sent.
    """

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    uploads: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    fail_after: int | None = None
    part: int = 0
    page: int = 1000
    spoil: bool = False

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """Return what sends the libraries to this server; their caches go below ``home``."""
        found = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        return {**found, "HF_TOKEN": token} if token else found


class _Answer(Exception):  # noqa: N818 - it is one
    def __init__(self, status: int, body: object = None, **headers: str) -> None:
        super().__init__(status)
        self.status, self.body = status, body
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}


def _missing(kind: str) -> _Answer:
    return _Answer(404, {"error": f"{kind} not found"}, X_Error_Code=f"{kind}NotFound")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass

    def _handle(self) -> None:
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {url.path}")
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.data = b"".join(iter(self._chunk, b""))
        else:
            self.data = self.rfile.read(length)
        self.query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        try:
            self._route([unquote(part) for part in url.path.strip("/").split("/")])
        except _Answer as answer:
            self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815 - the base's names

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline(), 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def _send(self, answer: _Answer) -> None:
        body = answer.body
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(answer.status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(raw))}
        for name, text in {**headers, **answer.headers}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def _route(self, path: list[str]) -> None:
        match path:
            case ["api", "repos", "create"]:
                self._create(json.loads(self.data))
            case ["api", "validate-yaml"]:
                raise _Answer(200, {"errors": [], "warnings": []})
            case ["api", "datasets", owner, name, *rest]:
                self._dataset(f"{owner}/{name}", rest)
            case ["datasets", owner, name, "info", "lfs", "objects", "batch"]:
                self._batch(f"{owner}/{name}".removesuffix(".git"))
            case ["datasets", owner, name, "resolve", branch, *file]:
                files = self._branch(f"{owner}/{name}", branch)
                commit = self.hub.repositories[f"{owner}/{name}"].head
                self._resolve(files, "/".join(file), commit)
            case ["lfs", "put", oid, *number]:
                self._put(oid, int(number[0]) if number else 0)
            case ["lfs", "complete" | "verify", oid]:
                self._finish(oid)
        raise _Answer(404, {"error": "no such page"})

    def _may_write(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise _Answer(401, {"error": "Invalid username or password."})

    def _create(self, request: dict[str, Any]) -> None:
        self._may_write()
        name = f"{request['organization']}/{request['name']}"
        url = {"url": f"{self.hub.endpoint}/datasets/{name}"}
        if name in self.hub.repositories:
            raise _Answer(409, {**url, "error": "You already created this dataset repo"})
        private = request.get("visibility") == "private"
        self.hub.repositories[name] = Repository(private=private)
        raise _Answer(200, url)

    def _branch(self, name: str, branch: str) -> dict[str, Blob]:
        if name not in self.hub.repositories:
            raise _missing("Repo")
        repository = self.hub.repositories[name]
        branch = "main" if branch == repository.head else branch
        if branch not in repository.branches:
            raise _missing("Revision")
        return repository.branches[branch]

    def _dataset(self, name: str, rest: list[str]) -> None:
        match rest:
            case [] | ["revision", _]:
                files = self._branch(name, rest[1] if rest else "main")
                repository = self.hub.repositories[name]
                siblings = [{"rfilename": file} for file in files]
                head = {"id": name, "sha": repository.head, "tags": []}
                raise _Answer(200, {**head, "private": repository.private, "siblings": siblings})
            case ["branch", branch]:
                self._may_write()
                branches = self.hub.repositories[name].branches
                if branch in branches:
                    raise _Answer(409, {"error": "it exists"})
                branches[branch] = dict(branches["main"])
                raise _Answer(200, {})
            case ["preupload", branch]:
                self._preupload(self._branch(name, branch))
            case ["commit", branch]:
                self._branch(name, branch)
                self._commit(name, branch)
            case ["tree", branch, *folder]:
                self._tree(self._branch(name, branch), "/".join(folder))
            case ["paths-info", branch]:
                self._paths(self._branch(name, branch))

    def _preupload(self, files: dict[str, Blob]) -> None:
        answers = []
        for file in json.loads(self.data)["files"]:
            mode = "lfs" if file["path"].endswith(_LARGE) else "regular"
            there = files.get(file["path"])
            entry = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
            answers.append({**entry, "oid": there.git if there else None})
        raise _Answer(200, {"files": answers})

    def _batch(self, name: str) -> None:
        self._may_write()
        self._branch(name, "main")
        objects: list[dict[str, Any]] = []
        for item in json.loads(self.data)["objects"]:
            oid, size = item["oid"], item["size"]
            entry: dict[str, Any] = {"oid": oid, "size": size}
            if oid not in self.hub.large:
                put = f"{self.hub.endpoint}/lfs/put/{oid}"
                upload: dict[str, Any] = {"href": put}
                if 0 < self.hub.part < size:
                    count = -(-size // self.hub.part)
                    header = {f"{n:05d}": f"{put}/{n}" for n in range(1, count + 1)}
                    upload = {
                        "href": f"{self.hub.endpoint}/lfs/complete/{oid}",
                        "header": {**header, "chunk_size": str(self.hub.part)},
                    }
                verify = {"href": f"{self.hub.endpoint}/lfs/verify/{oid}"}
                entry["actions"] = {"upload": upload, "verify": verify}
            objects.append(entry)
        raise _Answer(200, {"transfer": "basic", "objects": objects})

    def _put(self, oid: str, number: int) -> None:
        self.hub.parts.setdefault(oid, {})[number] = self.data
        raise _Answer(200, {}, ETag=f'"{number}"')

    def _finish(self, oid: str) -> None:
        parts = self.hub.parts.pop(oid, {})
        if parts:
            data = b"".join(parts[number] for number in sorted(parts))
            if hashlib.sha256(data).hexdigest() != oid:
                raise _Answer(400, {"error": f"the content is not {oid}"})
            self.hub.uploads.append(oid)
            self.hub.large[oid] = data[:-1] + b"x" if self.hub.spoil else data
        raise _Answer(200 if oid in self.hub.large else 404, {})

    def _commit(self, name: str, branch: str) -> None:
        self._may_write()
        repository = self.hub.repositories[name]
        if self.hub.fail_after is not None and len(repository.commits) >= self.hub.fail_after:
            raise _Answer(403, {"error": "Forbidden: out of quota"})
        new: dict[str, Blob] = {}
        summary = ""
        for line in self.data.splitlines():
            item = json.loads(line)
            value = item["value"]
            match item["key"]:
                case "header":
                    summary = value["summary"]
                case "file":
                    new[value["path"]] = Blob(base64.b64decode(value["content"]), large=False)
                case "lfsFile":
                    new[value["path"]] = Blob(self.hub.large[value["oid"]], large=True)
        repository.branches[branch].update(new)
        repository.commits.append(summary)
        oid = repository.head
        url = f"{self.hub.endpoint}/datasets/{name}/commit/{oid}"
        raise _Answer(200, {"commitOid": oid, "commitUrl": url})

    def _tree(self, files: dict[str, Blob], folder: str) -> None:
        prefix = f"{folder}/" if folder else ""
        found = {name: blob for name, blob in sorted(files.items()) if name.startswith(prefix)}
        if folder and not found:
            raise _missing("Entry")
        entries = {}
        for name, blob in found.items():
            parts = name.removeprefix(prefix).split("/")
            for depth in range(1, len(parts)):
                path = prefix + "/".join(parts[:depth])
                entries[path] = {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
            entries[name] = _entry(name, blob)
        if self.query.get("recursive", "").lower() != "true":
            entries = {
                path: entry
                for path, entry in entries.items()
                if "/" not in path.removeprefix(prefix)
            }
        start = int(self.query.get("cursor", 0))
        end = start + self.hub.page
        shown = list(entries.values())[start:end]
        if end >= len(entries):
            raise _Answer(200, shown)
        page = urlsplit(self.path).path
        again = f"recursive={self.query.get('recursive', '')}&cursor={end}"
        raise _Answer(200, shown, Link=f'<{self.hub.endpoint}{page}?{again}>; rel="next"')

    def _paths(self, files: dict[str, Blob]) -> None:
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = json.loads(self.data)["paths"]
        else:
            paths = parse_qs(self.data.decode())["paths"]
        raise _Answer(200, [_entry(path, files[path]) for path in paths if path in files])

    def _resolve(self, files: dict[str, Blob], name: str, commit: str) -> None:
        if name not in files:
            raise _missing("Entry")
        blob = files[name]
        etag = blob.sha256 if blob.large else blob.git
        headers = {"ETag": f'"{etag}"', "X_Repo_Commit": commit, "Accept_Ranges": "bytes"}
        headers["Content_Type"] = "application/octet-stream"
        asked = self.headers.get("Range")
        if asked is None:
            raise _Answer(200, blob.data, **headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(blob.data)), len(blob.data) - 1)
        headers["Content_Range"] = f"bytes {start}-{end}/{len(blob.data)}"
        raise _Answer(206, blob.data[start : end + 1], **headers)


def _entry(name: str, blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "file", "path": name, "oid": blob.git, "size": len(blob.data)
    }  # fmt: skip
    if blob.large:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 130}
    return entry


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """Yield an empty Hub on this machine."""
    hub = HubServer()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
