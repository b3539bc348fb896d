"""The surrogate artifact: what was saved comes back, and what is not whole is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.artifact import load_surrogate, save_surrogate


@pytest.fixture
def copy(surrogate: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(surrogate, tmp_path / "copy"))


def test_a_saved_surrogate_comes_back_equal(surrogate: str, tmp_path: Path) -> None:
    first, sha256 = load_surrogate(surrogate)
    assert save_surrogate(first, str(tmp_path / "again")) == sha256
    second, again = load_surrogate(str(tmp_path / "again"))
    assert again == sha256
    (tensors, meta), (tensors2, meta2) = first.state(), second.state()
    assert tensors.keys() == tensors2.keys()
    assert all(torch.equal(tensors[name], tensors2[name]) for name in tensors)
    assert json.dumps(meta) == json.dumps(meta2)


def test_the_folder_holds_no_pickle(surrogate: str) -> None:
    names = {path.name for path in Path(surrogate).iterdir()}
    assert names == {"weights.safetensors", "surrogate.json"}


def test_the_key_is_its_owners_alone(surrogate: str) -> None:
    path = Path(surrogate) / "surrogate.json"
    assert path.stat().st_mode & 0o777 == 0o600
    description = json.loads(path.read_text())
    assert "Keep this folder to yourself" in description["private"]
    assert len(bytes.fromhex(description["surrogate"]["fit"]["key"])) == 32


def test_an_artifact_of_version_0_1_is_refused_by_name(copy: Path) -> None:
    path = copy / "surrogate.json"
    old = json.loads(path.read_text()) | {"format": 1, "version": "0.1.0"}
    path.write_text(json.dumps(old))
    with pytest.raises(UsageError, match=r"format 1, written by .* fit it again"):
        load_surrogate(str(copy))


def test_a_flipped_bit_in_the_weights_is_found(copy: Path) -> None:
    data = bytearray((copy / "weights.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "weights.safetensors").write_bytes(data)
    with pytest.raises(
        UsageError, match=r"damaged: weights\.safetensors has sha256 .*fit it again"
    ):
        load_surrogate(str(copy))


def test_changed_words_give_another_sha256(copy: Path, surrogate: str) -> None:
    text = json.loads((copy / "surrogate.json").read_text())
    text["surrogate"]["vocabulary"]["words"][0][0] = "dog"
    (copy / "surrogate.json").write_text(json.dumps(text))
    assert load_surrogate(str(copy))[1] != load_surrogate(surrogate)[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "surrogate.json").unlink(), "is no surrogate"),
        (lambda d: (d / "weights.safetensors").unlink(), r"weights\.safetensors is missing"),
        (lambda d: (d / "surrogate.json").write_text('{"format": 2'), "is damaged"),
        (lambda d: (d / "surrogate.json").write_text("[]"), "is damaged"),
        (lambda d: (d / "surrogate.json").write_text('{"format": 2}'), "lacks fields"),
        (
            lambda d: (d / "surrogate.json").write_text('{"format": 99, "version": "9.0"}'),
            "format 99, written by unlearnable '9.0'",
        ),
        (
            lambda d: (d / "surrogate.json").write_text('{"format": 1, "version": "0.1.0"}'),
            r"format 1, written by unlearnable '0.1.0'.*fit it again with this version",
        ),
    ],
    ids=[
        "no description",
        "no weights",
        "cut",
        "a list",
        "fields missing",
        "other format",
        "old format",
    ],
)
def test_what_is_no_whole_artifact_is_refused(copy: Path, change: object, message: str) -> None:
    change(copy)  # type: ignore[operator]
    with pytest.raises(UsageError, match=message):
        load_surrogate(str(copy))
