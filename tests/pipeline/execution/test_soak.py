"""Hours of small shards on two workers with a fault every few seconds."""

from __future__ import annotations

import json
import os
import secrets
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_proxy import SECRETS, fault_proxy
from servers import ray_server, s3_server
from soak import BUCKET, Settings, Soak, Store

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(6 * 3600)]


def settings() -> Settings:
    """Taken from the environment: two hours with a fault every 20 s when nothing is set."""
    return Settings(
        minutes=float(os.environ.get("SOAK_MINUTES", "120")),
        fault_seconds=float(os.environ.get("SOAK_FAULT_SECONDS", "20")),
        shards=int(os.environ.get("SOAK_SHARDS", "400")),
        samples=8,
    )


def test_a_soak(
    build_shards: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    chosen = settings()
    source = build_shards(tmp_path / "in", shards=chosen.shards, samples=chosen.samples, size=32)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # Ray gives a new cluster a token unless told; drivers and workers have to know it.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    log = tmp_path / "drivers.log"
    with s3_server() as port, fault_proxy(port) as (proxy, url):
        direct = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
        direct.create_bucket(Bucket=BUCKET)
        for path in source.iterdir():
            direct.upload_file(str(path), BUCKET, f"in/{path.name}")
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with ray_server(os.environ) as address:
            soak = Soak(chosen, proxy, Store(port), address, log)
            soak.undisturbed()
            try:
                soak.run()
            finally:
                report = json.dumps(soak.record.as_dict(), indent=1)
                Path(os.environ.get("SOAK_REPORT", tmp_path / "soak.json")).write_text(report)
                print(report)
    text = log.read_text()
    assert not [value for value in SECRETS.values() if value in text]
    assert soak.record.faults.total() >= 0.8 * chosen.minutes * 60 / chosen.fault_seconds
    for role in ("worker", "driver"):
        grown = soak.record.growth().get(role)
        assert grown is not None or chosen.minutes < 30, role
        if grown is not None:
            assert grown["memory_growth_mb"] < 0.1 * grown["memory_mb"], role
            assert grown["files_growth"] <= 5, role
    rates = [window["samples_per_worker_cpu_second"] for window in soak.record.windows]
    if len(rates) >= 6:
        third = len(rates) // 3
        assert statistics.median(rates[-third:]) > 0.8 * statistics.median(rates[:third])
