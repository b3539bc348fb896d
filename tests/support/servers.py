"""Servers in processes of their own, that end with the test: an S3 store, a web server, Ray."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_S3 = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
_WEB = """
import functools, http.server, ssl, sys, threading
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
"""
_RAY = """
import sys
import ray
context = ray.init(
    address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
    object_store_memory=100 << 20,
)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
ray.shutdown()
"""


@contextmanager
def _served(
    script: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Yield the first line that ``script`` prints; it ends when its standard input does."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=environment,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def s3_server() -> Iterator[int]:
    """Yield the port of an empty S3 store."""
    with _served(_S3) as port:
        yield int(port)


@contextmanager
def tls_server(folder: Path, certificate: Path) -> Iterator[str]:
    """Yield the https URL of ``folder``; whoever trusts ``certificate``, made here, may read."""
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-out", "-", "-keyout", "-"]
    done = subprocess.run(made, check=True, capture_output=True)
    certificate.write_bytes(done.stdout)
    with _served(_WEB, str(folder), str(certificate)) as port:
        yield f"https://127.0.0.1:{port}"


@contextmanager
def ray_server(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the address of a cluster of two CPUs whose workers have ``environment``."""
    with _served(_RAY, environment=environment) as address:
        yield address
