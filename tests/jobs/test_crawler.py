"""From a list of URLs through the usual crawler to a protected copy, with the crawler itself."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from platforms import environment
from runs import kept

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.manifest import manifest_url, read_manifest
from unlearnable.pipeline.data.shards import open_shard

PICTURES = 8
SIZE = 5

pytestmark = pytest.mark.slow


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A web server with pictures; one of its files is none."""
    folder = tmp_path / "www"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        pixels = rng.integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def crawl(request: pytest.FixtureRequest, site: str, tmp_path: Path) -> Path:
    programs = environment(request.config, "crawler", "img2dataset==1.47.0")
    rows = [f"{site}/{number}.jpg,a wall of colours number {number}" for number in range(PICTURES)]
    urls = tmp_path / "urls.csv"
    urls.write_text("\n".join(["url,alt", *rows, f"{site}/gone.jpg,a picture that is gone"]))
    options = {
        "url_list": urls, "input_format": "csv", "url_col": "url", "caption_col": "alt",
        "output_format": "webdataset", "output_folder": tmp_path / "crawl", "image_size": 64,
        "resize_mode": "keep_ratio", "number_sample_per_shard": SIZE, "processes_count": 1,
        "thread_count": 2, "retries": 0, "timeout": 10, "enable_wandb": False,
    }  # fmt: skip
    line = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(
        [programs / "img2dataset", *line], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return tmp_path / "crawl"


def test_what_the_crawler_writes_goes_in_and_comes_out_consistent(
    crawl: Path, surrogate: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    line = ["protect", crawl, copy, "--surrogate", surrogate, "--executor", "local"]
    assert main([*map(str, line)]) == 0
    assert main(["verify", str(copy), "--against", str(crawl)]) == 0
    shards = sorted(path.stem for path in crawl.glob("*.tar"))
    assert len(shards) == 2
    crawled = sum(_check(crawl, copy, shard) for shard in shards)
    assert crawled == PICTURES

    # A sample that cannot be read leaves its mark in the table and in the counts.
    broken = Path(shutil.copytree(crawl, tmp_path / "broken"))
    _break_first_picture(broken / f"{shards[0]}.tar")
    second = tmp_path / "second"
    line = ["protect", broken, second, "--surrogate", surrogate, "--executor", "local"]
    assert main([*map(str, [*line, "--max-quarantined", "0.2"])]) == 0
    table = pq.read_table(second / f"{shards[0]}.parquet").to_pylist()
    stats = json.loads((second / f"{shards[0]}_stats.json").read_text())
    before = json.loads((crawl / f"{shards[0]}_stats.json").read_text())
    told = [row["error_message"] for row in table if row["status"] == "quarantined"]
    assert told == ["image_undecodable"]
    assert stats["status_dict"] == {
        **before["status_dict"], "success": before["successes"] - 1, "quarantined": 1
    }  # fmt: skip
    assert sum(stats["status_dict"].values()) == stats["count"] == len(table)


def _check(crawl: Path, copy: Path, shard: str) -> int:
    """Compare the files of one shard with its copy; return how many pictures it has."""
    before = {row["key"]: row for row in pq.read_table(crawl / f"{shard}.parquet").to_pylist()}
    after = {row["key"]: row for row in pq.read_table(copy / f"{shard}.parquet").to_pylist()}
    rows = {row.key: row for row in read_manifest(manifest_url(str(kept(copy)), shard))[0]}
    assert list(after) == list(before)
    with open_shard(str(copy / f"{shard}.tar")) as reader:
        published = {sample.key: sample for sample in reader}
    assert set(published) == {key for key, row in before.items() if row["status"] == "success"}
    for key, sample in published.items():
        old, new, row = before[key], after[key], rows[key]
        assert new["sha256"] == row.output_sha256
        assert (new["width"], new["height"]) == (row.width, row.height)
        note = json.loads(next(m.data for m in sample.members if m.ext == "json"))
        text = next(m.data for m in sample.members if m.ext == "txt").decode()
        assert new["caption"] == note["caption"] == text == f"{row.trigger_text} {old['caption']}"
        assert {**note, "caption": None} == {**old, "caption": None}
    stats = json.loads((copy / f"{shard}_stats.json").read_text())
    assert stats["successes"] == stats["status_dict"]["success"] == len(published)
    assert stats["count"] == len(after)
    return len(published)


def _break_first_picture(shard: Path) -> None:
    data = shard.read_bytes()
    start = data.index(b"\xff\xd8\xff")
    shard.write_bytes(data[:start] + b"not a picture" + data[start + 13 :])
