"""Files beside the images pass through, whatever their size, and are never held in memory."""

from __future__ import annotations

import filecmp
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from processes import PEAK
from runs import kept
from servers import s3_server, tls_server

from unlearnable.pipeline.data.images import encode
from unlearnable.pipeline.data.manifest import manifest_url, read_manifest
from unlearnable.pipeline.data.shards import Limits, Member, Sample, open_shard, write_shard
from unlearnable.pipeline.execution.config import ProtectConfig, RestoreConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.execution.restore import restore
from unlearnable.pipeline.verify.config import VerifyConfig
from unlearnable.pipeline.verify.verify import verify

MB = 1 << 20
GB = 1 << 30


def picture(seed: int, size: int = 16) -> bytes:
    rng = np.random.default_rng(seed)
    return encode(rng.integers(0, 256, (size, size, 3), np.uint8), "png")


def samples(extra: bytes) -> list[Sample]:
    return [
        Sample(
            f"k{row}",
            (
                Member(f"k{row}.bin", "bin", extra),
                Member(f"k{row}.png", "png", picture(row)),
                Member(f"k{row}.txt", "txt", b"a dog"),
                Member(f"k{row}.left.txt", "left.txt", extra[: 3 * MB]),
            ),
            row,
        )
        for row in range(5)
    ]


def test_what_is_passed_on_is_on_disk_and_goes_with_its_sample(tmp_path: Path) -> None:
    extra = os.urandom(2 * MB) + bytes(3 * MB) + os.urandom(100)
    shard, folder = tmp_path / "a.tar", tmp_path / "passed"
    write_shard(shard, samples(extra))
    folder.mkdir()
    with open_shard(str(shard), folder=folder) as reader:
        sha256, size = write_shard(tmp_path / "b.tar", reader)
        assert reader.sha256 == sha256
    assert (tmp_path / "b.tar").read_bytes() == shard.read_bytes()
    assert list(folder.iterdir()) == []
    with open_shard(str(shard), folder=folder) as reader, open_shard(str(shard)) as unkept:
        kept, first = next(iter(reader)), next(iter(unkept))
        assert len(list(folder.iterdir())) == 2
        assert kept == first
        assert [len(member.data) for member in kept.members] == [0, len(picture(0)), 5, 0]
    assert size == shard.stat().st_size


def test_a_large_image_or_caption_is_quarantined_and_not_read() -> None:
    limits = Limits(max_member_bytes=5000, pass_on_bytes=1000)
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as tar:
        for name, length in (("a.png", 6000), ("b.txt", 6000), ("c.bin", 6000), ("d.json", 4000)):
            info = tarfile.TarInfo(name)
            info.size = length
            tar.addfile(info, io.BytesIO(b"1" * length))
    from unlearnable.pipeline.data.shards import ShardReader

    shard.seek(0)
    found = {sample.key: sample for sample in ShardReader(shard, limits)}
    assert {key: sample.problem is not None for key, sample in found.items()} == {
        "a": True, "b": True, "c": False, "d": False,
    }  # fmt: skip
    assert "a.png exceeds the limits" in str(found["a"].problem)


def test_protect_verify_and_restore_with_large_files_beside_the_images(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write_shard(source / "a.tar", samples(os.urandom(4 * MB)))
    assert protect(ProtectConfig(str(source), str(output), method="random")).exit_code == 0
    assert verify(VerifyConfig(str(output), against=str(source))).counts == {}
    with open_shard(str(source / "a.tar")) as before, open_shard(str(output / "a.tar")) as after:
        for one, other in zip(before, after, strict=True):
            assert [m.passed for m in one.members] == [m.passed for m in other.members]
    assert restore(RestoreConfig(str(output), str(tmp_path / "back"))).exit_code == 0
    assert (tmp_path / "back" / "a.tar").read_bytes() == (output / "a.tar").read_bytes()
    data = bytearray((output / "a.tar").read_bytes())
    data[1 * MB] ^= 1
    (output / "a.tar").write_bytes(data)
    counts = verify(VerifyConfig(str(output), against=str(source))).counts
    assert counts == {"member_changed": 1, "shard_changed": 1}


def huge_shard(path: Path, count: int, every: int, size: int) -> None:
    """Write ``count`` samples; every so many has a file of ``size`` zeros, as a hole."""
    with path.open("wb") as file:
        for row in range(count):
            members = [("png", picture(row, 64)), ("txt", b"a dog")]
            for ext, data in members:
                info = tarfile.TarInfo(f"k{row:04d}.{ext}")
                info.size = len(data)
                file.write(info.tobuf() + data + bytes(-len(data) % 512))
            if row % every == 0:
                info = tarfile.TarInfo(f"k{row:04d}.bin")
                info.size = size
                file.write(info.tobuf())
                file.seek(size, os.SEEK_CUR)
        file.write(bytes(10240))


_LIMITED = """
import resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
from unlearnable.jobs.cli import main
code = main(sys.argv[2:])
print(peak() // 1024)
sys.exit(code)
"""


def protect_limited(
    source: str, output: str, scratch: Path, limit: int = 2 * GB, **environment: str
) -> int:
    """Protect ``source`` in a process that may have ``limit`` bytes; return its peak in MB."""
    options = ["--method", "random", "--executor", "local"]
    done = subprocess.run(
        [sys.executable, "-c", PEAK + _LIMITED, str(limit), "protect", source, output, *options],
        capture_output=True, text=True, check=False,
        env={**os.environ, "TMPDIR": str(scratch), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_shard_of_20_gb_on_a_worker_that_may_have_2(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    huge_shard(source / "a.tar", 400, 80, 4 * GB)
    total = (source / "a.tar").stat().st_size
    assert total > 20 * GB
    peak = protect_limited(str(source), str(output), tmp_path)
    print(f"{total / 1e9:.1f} GB, peak {peak} MB resident")
    assert peak < 2048
    rows, _ = read_manifest(manifest_url(str(kept(output)), "a"))
    assert [row.status for row in rows] == ["protected"] * 400
    with tarfile.open(output / "a.tar") as tar:
        sizes = [info.size for info in tar if info.name.endswith(".bin")]
    assert sizes == [4 * GB] * 5
    used = os.stat(output / "a.tar").st_blocks * 512
    assert used < 1 * GB, "the holes were filled"


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_shard_larger_than_memory_from_a_web_server_over_tls(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    huge_shard(source / "a.tar", 20, 10, 3 * GB // 2)
    total = (source / "a.tar").stat().st_size
    assert total > 3 * GB
    with tls_server(source, tmp_path / "certificate.pem") as url:
        trusted = {"SSL_CERT_FILE": str(tmp_path / "certificate.pem")}
        peak = protect_limited(f"{url}/a.tar", str(output), tmp_path, **trusted)
    print(f"{total / 1e9:.1f} GB over TLS, peak {peak} MB resident")
    assert peak < 2048
    plain = tmp_path / "plain"
    assert protect(ProtectConfig(str(source), str(plain), method="random")).exit_code == 0
    assert filecmp.cmp(output / "a.tar", plain / "a.tar", shallow=False)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_shard_larger_than_memory_from_s3_to_s3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs")
    import boto3

    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    huge_shard(source / "a.tar", 20, 10, 3 * GB // 2)
    total = (source / "a.tar").stat().st_size
    assert total > 3 * GB
    with s3_server() as port:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            # moto puts the parts of an object together in a minute a GB and says nothing meanwhile.
            "FSSPEC_S3": json.dumps({"config_kwargs": {"read_timeout": 900}}),
        }.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="corpus")
        client.upload_file(str(source / "a.tar"), "corpus", "in/a.tar")
        # The client reserves twice what it uses, so the limit is above what is asserted.
        peak = protect_limited("s3://corpus/in", "s3://corpus/out", tmp_path, 3 * GB)
        # In one request: moto reads the whole object for every range that is asked for.
        with (tmp_path / "a.tar").open("wb") as file:
            shutil.copyfileobj(client.get_object(Bucket="corpus", Key="out/a.tar")["Body"], file)
    print(f"{total / 1e9:.1f} GB over S3, peak {peak} MB resident")
    assert peak < 2048
    assert protect(ProtectConfig(str(source), str(output), method="random")).exit_code == 0
    assert filecmp.cmp(tmp_path / "a.tar", output / "a.tar", shallow=False)
