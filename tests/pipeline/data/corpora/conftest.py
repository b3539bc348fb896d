"""What the tests of builders share: reading back, and the real data where they are at hand."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """Return a function that makes a small image file, another one for each seed."""

    def make(seed: int, fmt: str = "JPEG", mode: str = "RGB") -> bytes:
        shape = (24, 32) if mode == "L" else (24, 32, 3)
        pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, fmt)
        return buffer.getvalue()

    return make


@pytest.fixture
def plant(tmp_path: Path, picture: Callable[..., bytes]) -> Callable[[Mapping[str, Any]], Path]:
    """Return a function that writes files of a corpus: texts, JSON contents, None for a picture."""

    def write(files: Mapping[str, Any]) -> Path:
        folder = tmp_path / "src"
        for seed, (name, content) in enumerate(files.items()):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.write_bytes(picture(seed))
            elif isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(content if isinstance(content, str) else json.dumps(content))
        return folder

    return write


@pytest.fixture
def contents() -> Callable[[Path], dict[str, dict[str, dict[str, Any]]]]:
    """Return a function that reads shards: split to key to members, in order, JSON parsed."""
    from unlearnable.pipeline.data.plan import resolve_input
    from unlearnable.pipeline.data.shards import open_shard

    def read(out: Path) -> dict[str, dict[str, dict[str, Any]]]:
        splits: dict[str, dict[str, dict[str, Any]]] = {}
        for shard in resolve_input(str(out)):
            split = splits.setdefault(shard.name.rsplit("-", 1)[0], {})
            with open_shard(shard.url) as reader:
                for sample in reader:
                    members: dict[str, Any] = {m.ext: m.data for m in sample.members}
                    members["txt"] = members["txt"].decode()
                    members["json"] = json.loads(members["json"])
                    split[sample.key] = members
        return splits

    return read


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Return a function that gives a folder of the real data beside the checkout, or skips."""

    def find(name: str) -> Path:
        folder = ROOT.parent / "shared" / "data" / name
        if not folder.is_dir():
            pytest.skip(f"the real data {name} are not at hand")
        return folder

    return find
