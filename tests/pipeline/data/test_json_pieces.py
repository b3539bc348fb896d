"""Large documents piece by piece: a line an item, and the head without the rest."""

from __future__ import annotations

import io
import json

import pytest

from unlearnable.pipeline.data.json_pieces import json_pieces, read_before

DOCUMENT = {"a": 'x\n "list": []', "nested": {"list": []}, "list": [], "é": [1, {"b": None}]}


@pytest.mark.parametrize("items", [[], [1], ["é\n", {"list": [], "deep": [{"x": 1}]}, []]])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_the_pieces_are_the_document_with_a_line_an_item(
    items: list[object], ascii_only: bool
) -> None:
    pieces = list(json_pieces(DOCUMENT, "list", iter(items), ensure_ascii=ascii_only))
    text = b"".join(pieces).decode()
    assert json.loads(text) == {**DOCUMENT, "list": items}
    assert text.isascii() is ascii_only
    assert len(pieces) == len(items) + 2
    empty = json.dumps(DOCUMENT, indent=1, ensure_ascii=ascii_only).split("\n")
    # Each item adds its line, and the first one that of the closing bracket.
    assert len(text.split("\n")) == len(empty) + len(items) + bool(items)


def test_the_head_is_read_without_the_list() -> None:
    data = b"".join(json_pieces(DOCUMENT, "list", range(100_000)))
    file = io.BytesIO(data)
    assert read_before(file, "list") == {"a": DOCUMENT["a"], "nested": {"list": []}}
    assert file.tell() < 1000
    assert read_before(io.BytesIO(data), "other")["list"][-1] == 99_999
    with pytest.raises(ValueError, match="Expecting"):
        read_before(io.BytesIO(data[:-1]), "other")
