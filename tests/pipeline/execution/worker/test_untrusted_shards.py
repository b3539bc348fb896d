"""Shards made by someone who means harm: nothing runs, nothing is written elsewhere."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import pickle
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from runs import kept

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.images import decode, encode
from unlearnable.pipeline.data.manifest import manifest_url, read_manifest
from unlearnable.pipeline.data.shards import Limits, ShardReader
from unlearnable.pipeline.errors import SampleError, ShardError

ROOT = Path(__file__).resolve().parents[4]
PICTURE = encode(np.zeros((16, 16, 3), np.uint8), "png")


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


class Harm:
    """Unpickling it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_shard_is_run_or_followed(tmp_path: Path) -> None:
    """Commands in URLs, links to elsewhere, pickles: all are bytes that are passed on."""
    mark = tmp_path / "mark"
    (tmp_path / "in").mkdir()
    command = f"pipe:touch {mark}"
    harm = pickle.dumps(Harm(mark))
    pickle_names = ("pyd", "pickle", "pkl", "pth", "pt", "npy")
    pack(
        tmp_path / "in" / "a.tar",
        {
            "__worker_urls__": command.encode(),
            "k.png": PICTURE,
            "k.txt": command.encode(),
            "k.json": f'{{"caption": "{command}", "url": "{command}", "__url__": "gs://b/x"}}'.encode(),
            "k.url": command.encode(),
            **{f"k.{ext}": harm for ext in pickle_names},
        },
    )
    output = tmp_path / "out"
    assert main(["protect", str(tmp_path / "in"), str(output), "--method", "random"]) == 0
    assert main(["verify", str(output), "--against", str(tmp_path / "in")]) == 0
    assert not mark.exists()
    with tarfile.open(output / "a.tar") as tar:
        for ext in pickle_names:
            member = tar.extractfile(f"k.{ext}")
            assert member is not None
            assert member.read() == harm


@pytest.mark.parametrize(
    "url",
    [
        "pipe:touch {mark}",
        "pipe:touch {mark} #.tar",
        "{folder}/{{a,b}}.tar::pipe:touch {mark}",
        "gs://bucket/a.tar",
        "ssh://host/a.tar",
        "git://{folder}/a.tar",
        "exec:touch {mark}",
    ],
)
def test_a_url_never_runs_a_command(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "mark"
    source = url.format(mark=mark, folder=tmp_path)
    output = tmp_path / "out"
    assert main(["protect", source, str(output), "--method", "random", "--executor", "local"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not mark.exists()
    assert not output.exists()


def test_no_source_can_load_a_pickle_or_start_a_shell() -> None:
    """Where it cannot be called, no input can make it so."""
    forbidden_modules = {"cloudpickle", "shelve", "marshal", "dill", "joblib"}
    forbidden_calls = {"system", "popen", "eval", "exec"}
    found = []
    for path in [p for d in ("pipeline", "kernels", "jobs") for p in (ROOT / d).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            bad = any(name.split(".")[0] in forbidden_modules for name in names)
            bad |= isinstance(node, ast.ImportFrom) and node.module == "pickle"
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle":
                # Catching what a refused pickle raises loads none.
                bad |= node.attr not in {"UnpicklingError", "PickleError"}
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                bad |= called in forbidden_calls or called.split(".")[-1] in {"system", "popen"}
                bad |= called == "torch.load" and "weights_only=True" not in ast.unparse(node)
                bad |= called.endswith(".load") and "allow_pickle" in ast.unparse(node)
                bad |= any(k.arg == "shell" for k in node.keywords)
            if bad:
                found.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}")
    assert found == []


def text_chunk_bomb() -> bytes:
    """A picture whose comment of 100 kB unpacks to 100 MB."""
    body = b"zTXt" + b"k\0\0" + zlib.compress(bytes(100_000_000), 9)
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return PICTURE[:33] + chunk + PICTURE[33:]


def test_a_bomb_in_the_comments_of_a_picture() -> None:
    bomb = text_chunk_bomb()
    tracemalloc.start()
    # Whether the picture is taken is the decoder's choice; that it is not unpacked is ours.
    with contextlib.suppress(SampleError):
        decode(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_tens_of_thousands_of_members_a_key() -> None:
    count = 20_000
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as tar:
        for number in range(count):
            info = tarfile.TarInfo(f"k.{number}")
            tar.addfile(info)
        for name in ("l.png", "l.txt"):
            tar.addfile(tarfile.TarInfo(name))
    shard.seek(0)
    first, second = ShardReader(shard, Limits())
    assert first.problem is not None
    assert first.problem.reason == "sample_too_large"
    assert len(first.members) == 64
    assert second.problem is None


@pytest.mark.parametrize(
    "names",
    [
        ("k.png", "k.PNG"),
        ("a/k.png", "a/k.png"),
        ("k.png", "l.png", "k.txt"),
        ("./k.png", "k.png", "./k.txt"),
    ],
)
def test_keys_that_become_one_are_no_two_samples(names: tuple[str, ...], tmp_path: Path) -> None:
    """Nothing is sanitised: names differ or are refused, and what is written has the same ones."""
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    shard.seek(0)
    try:
        found = [m.name for sample in ShardReader(shard, Limits()) for m in sample.members]
    except ShardError as error:
        assert "key" in str(error)  # noqa: PT017 - one of two good endings
    else:
        assert found == list(names)


def test_harmful_shards_fail_alone_and_write_nothing_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names that leave the folder, links, devices, a name with a NUL and one with a line break."""
    source, output = tmp_path / "deep" / "in", tmp_path / "deep" / "out"
    source.mkdir(parents=True)
    good = {"k.png": PICTURE, "k.txt": b"a dog"}
    pack(source / "good.tar", good)
    for number, name in enumerate(
        ("../up.png", "/tmp/abs.png", "a/../../up.png", "a\\..\\up.png", "k\nl.png", "k\x01.png")  # noqa: S108
    ):
        pack(source / f"bad{number}.tar", {**good, name: b"x"})
    for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE)):
        info = tarfile.TarInfo("link.png")
        info.type, info.linkname = kind, "/etc/passwd"
        with tarfile.open(source / f"link{number}.tar", "w") as tar:
            tar.addfile(info)
    before = {path for path in tmp_path.rglob("*") if output not in path.parents}
    options = ["--method", "random", "--executor", "local"]
    assert main(["protect", str(source), str(output), *options]) == 3
    assert capsys.readouterr().out.count("failed: ") == 9
    ours = {output, kept(output)}
    found = {path for path in tmp_path.rglob("*") if not ours.intersection(path.parents)}
    assert found - before <= ours
    assert [path.name for path in output.glob("*.tar")] == ["good.tar"]
    assert read_manifest(manifest_url(str(kept(output)), "good"))[0][0].status == "protected"
