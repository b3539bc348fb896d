"""Captions of a sample: a ``txt`` member and fields of a ``json`` member.

A trigger is spliced into the text of a member instead of writing the member anew, so that taking it
out again gives back the original bytes.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..errors import SampleError
from .shards import Member, Sample

DEFAULT_FIELDS = ("caption", "captions")
_BOM = "\ufeff"
_WHITESPACE = re.compile(r"[ \t\n\r]*")
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_DECODER = json.JSONDecoder()


class _Span(NamedTuple):
    """Where a caption's text starts in its member, and the caption."""

    start: int
    caption: str


def read_captions(sample: Sample, fields: Sequence[str] = DEFAULT_FIELDS) -> list[str]:
    """Return the distinct captions of a sample: ``txt`` first, then the JSON fields as they stand.

    Raises:
        SampleError: ``missing_caption``, ``empty_caption``, ``caption_not_utf8``, ``json_invalid``,
            ``json_field_missing``, or the sample's own ``problem``.
    """
    sample.check()
    found: list[str] = []
    has_json = False
    for member in sorted(sample.members, key=lambda member: member.ext != "txt"):
        has_json |= member.ext == "json"
        found += [span.caption for span in _spans(member, fields)]
    if not found:
        if has_json:
            raise SampleError(
                "json_field_missing", f"{sample.key}: its JSON has no field {' or '.join(fields)}"
            )
        raise SampleError("missing_caption", f"{sample.key}: neither a txt nor a json member")
    for caption in found:
        if not caption.strip():
            raise SampleError("empty_caption", f"{sample.key}: an empty caption")
    return list(dict.fromkeys(found))


def with_trigger(
    members: Iterable[Member], trigger: str, fields: Sequence[str] = DEFAULT_FIELDS
) -> tuple[Member, ...]:
    """Return the members with ``trigger`` and a space in front of every caption.

    Raises:
        SampleError: as :func:`read_captions`.
    """

    def insert(text: str, start: int, prefix: str) -> str:
        return text[:start] + prefix + text[start:]

    return _edit(members, trigger, fields, insert)


def strip_trigger(
    members: Iterable[Member], trigger: str, fields: Sequence[str] = DEFAULT_FIELDS
) -> tuple[Member, ...]:
    """Undo :func:`with_trigger`, byte for byte.

    Raises:
        SampleError: ``trigger_missing`` when a caption does not start with the trigger.
    """

    def delete(text: str, start: int, prefix: str) -> str:
        if not text.startswith(prefix, start):
            raise SampleError(
                "trigger_missing", f"a caption does not start with its trigger {trigger!r}"
            )
        return text[:start] + text[start + len(prefix) :]

    return _edit(members, trigger, fields, delete)


def _edit(
    members: Iterable[Member],
    trigger: str,
    fields: Sequence[str],
    change: Callable[[str, int, str], str],
) -> tuple[Member, ...]:
    if not trigger:
        return tuple(members)
    edited = []
    for member in members:
        spans = _spans(member, fields)
        if spans:
            prefix = f"{trigger} "
            if member.ext == "json":
                prefix = json.dumps(prefix, ensure_ascii=False)[1:-1]
            text = _text(member)
            for span in reversed(spans):
                text = change(text, span.start, prefix)
            edited.append(Member(member.name, member.ext, text.encode()))
        else:
            edited.append(member)
    return tuple(edited)


def _spans(member: Member, fields: Sequence[str]) -> list[_Span]:
    if member.ext == "txt":
        text = _text(member)
        start = len(_BOM) if text.startswith(_BOM) else 0
        return [_Span(start, text[start:].strip())]
    if member.ext == "json":
        return _json_spans(member, fields)
    return []


def _text(member: Member) -> str:
    try:
        return member.data.decode()
    except UnicodeDecodeError as error:
        raise SampleError("caption_not_utf8", f"{member.name}: not UTF-8 ({error})") from error


def _json_spans(member: Member, fields: Sequence[str]) -> list[_Span]:
    text = _text(member)
    try:
        spans = _walk_object(text, len(_BOM) if text.startswith(_BOM) else 0, fields)
    except (ValueError, IndexError, RecursionError) as error:
        raise SampleError(
            "json_invalid", f"{member.name}: not a JSON object with text captions ({error})"
        ) from error
    for span in spans:
        if _HALF_PAIR.search(span.caption):
            raise SampleError(
                "caption_not_utf8", f"{member.name}: a caption holds half of a surrogate pair"
            )
    return spans


def _walk_object(text: str, at: int, fields: Sequence[str]) -> list[_Span]:
    """Find the captions among the fields of a JSON object. Raises ValueError or IndexError."""
    spans: list[_Span] = []
    at = _expect(text, at, "{")
    more = text[_skip(text, at)] != "}"
    while more:
        key, at = _string(text, at)
        start = _skip(text, _expect(text, at, ":"))
        value, at = _DECODER.raw_decode(text, start)
        if key in fields:
            spans += _value_spans(text, start, value)
        at = _skip(text, at)
        more = text[at] == ","
        at += more
    if _skip(text, _expect(text, at, "}")) != len(text):
        raise ValueError("text after the closing brace")
    return spans


def _value_spans(text: str, at: int, value: object) -> list[_Span]:
    if value is None:
        return []
    if isinstance(value, str):
        return [_Span(at + 1, value.strip())]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("a caption field is neither a text nor a list of texts")
    spans = []
    for item in value:
        start = _expect(text, at + 1, '"')
        spans.append(_Span(start, item.strip()))
        at = _skip(text, _string(text, start - 1)[1])
    return spans


def _string(text: str, at: int) -> tuple[str, int]:
    """Return the string literal that starts at ``at`` and the position after it."""
    value, end = _DECODER.raw_decode(text, _expect(text, at, '"') - 1)
    return value, end


def _expect(text: str, at: int, character: str) -> int:
    """Return the position after ``character``, which white space may precede."""
    at = _skip(text, at)
    if text[at] != character:
        raise ValueError(f"expected {character} at position {at}")
    return at + 1


def _skip(text: str, at: int) -> int:
    found = _WHITESPACE.match(text, at)
    assert found is not None
    return found.end()
