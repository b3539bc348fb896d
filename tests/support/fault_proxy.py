"""A web proxy that harms chosen requests, in front of a real server."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please slow down</Message></Error>"


SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAQUITEUNMISTAKABLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI-not-to-be-seen",
    "AWS_SESSION_TOKEN": "FwoGZXIvYXdz-token-not-to-be-seen",
}


class Request(NamedTuple):
    """One request as it arrived: its number from 0, its method, its path with the query."""

    number: int
    method: str
    path: str


Rule = Callable[[Request], str]
"""Names the fault for a request, empty for none.

slow-down, error-500, error-429: answers that ask to come back later
forbidden: no access
refuse: the connection is reset before anything is read
cut-request: reset after half of the request's body, which the server never gets
lose-answer: the server did what it was asked, then the connection is reset
cut-answer: reset after half of the answer's body
truncate: the connection ends in good order after half of the answer's body
slow: the answer comes in pieces, with pauses
stale: a list is answered as it was when it was first asked for
"""


def no_fault(_: Request) -> str:
    return ""


class FaultProxy:
    """Forwards to a server on this machine.

    ``rule`` may be changed at any time; ``strike`` is called at the instant of a reset.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.rule: Rule = no_fault
        self.requests: list[Request] = []
        self.faults = 0
        self.strike: Callable[[], None] = bool
        self.lists: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}
        self._lock = threading.Lock()

    def note(self, method: str, path: str) -> tuple[Request, str]:
        with self._lock:
            request = Request(len(self.requests), method, path)
            self.requests.append(request)
            fault = self.rule(request)
            self.faults += bool(fault)
        return request, fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def handle_one_request(self) -> None:
        # A client that was killed or cut off leaves its connection in any state.
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def _serve(self) -> None:
        _, fault = self.proxy.note(self.command, self.path)
        if fault == "refuse":
            self.proxy.strike()
            return self._reset()
        length = int(self.headers.get("Content-Length") or 0)
        if fault == "cut-request":
            self.rfile.read(length // 2)
            self.proxy.strike()
            return self._reset()
        body = self.rfile.read(length)
        answers = {
            "slow-down": (503, SLOW_DOWN),
            "error-500": (500, b""),
            "error-429": (429, b""),
            "forbidden": (403, b""),
        }
        if fault in answers:
            return self._answer(answers[fault][0], [], answers[fault][1], "")
        status, headers, answer = self._forward(body)
        if fault == "stale" and "list-type" in self.path:
            status, headers, answer = self.proxy.lists.setdefault(
                self.path, (status, headers, answer)
            )
        if fault == "lose-answer":
            self.proxy.strike()
            return self._reset()
        return self._answer(status, headers, answer, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - names by http.server

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.target, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
        connection.request(self.command, self.path, body or None, headers | {"Connection": "close"})
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, response.getheaders(), data

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, fault: str) -> None:
        self.send_response_only(status)
        skipped = {"connection", "transfer-encoding", "content-length"}
        for name, value in headers:
            if name.lower() not in skipped:
                self.send_header(name, value)
        size = {n.lower(): v for n, v in headers}.get("content-length", str(len(body)))
        self.send_header("Content-Length", size if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault in {"cut-answer", "truncate"}:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
            if fault == "cut-answer":
                self._reset()
        elif fault == "slow":
            step = len(body) // 10 + 1
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                self.wfile.flush()
                time.sleep(0.05)
        else:
            self.wfile.write(body)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Only the last reference ends the connection; the buffered files hold one each.
        self.rfile.close()
        self.connection.close()

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def fault_proxy(port: int) -> Iterator[tuple[FaultProxy, str]]:
    """Yield a proxy in front of ``port`` and its URL."""
    proxy = FaultProxy(port)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield proxy, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def s3_behind_a_proxy(bucket: str) -> Iterator[FaultProxy]:
    """Yield a proxy in front of moto's server, which the environment names as the S3 endpoint.

    Key and secret are those of `SECRETS`: they must turn up nowhere.
    """
    import boto3
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    port = server.get_host_and_port()[1]
    try:
        with fault_proxy(port) as (proxy, url), pytest.MonkeyPatch.context() as patch:
            for name, value in {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1"}.items():
                patch.setenv(name, value)
            for name, value in SECRETS.items():
                patch.setenv(name, value)
            # Connections are kept by the options they were made with, not by the environment.
            s3fs.S3FileSystem.clear_instance_cache()
            boto3.client("s3").create_bucket(Bucket=bucket)
            yield proxy
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()
