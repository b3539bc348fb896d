"""Captions of a sample: a ``txt`` member and fields of a ``json`` member.

A trigger is spliced into the text of a member instead of writing the member anew, so that taking it
out again gives back the original bytes. Text elsewhere in the sample that repeats a caption gets
the trigger too.
"""

import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from ..errors import SampleError
from .shards import Member, Sample
from .short_texts import kept_if_short

DEFAULT_FIELDS = ("caption", "captions")
_BOM = "\ufeff"
_SPACE = re.compile(r"[ \t\n\r]*")
_HALF_A_PAIR = re.compile(r"[\ud800-\udfff]")
# A string of a JSON document, with the colon that makes it a key.
_LITERAL = re.compile(r'"(?:[^"\\]++|\\.)*+"(\s*+:)?', re.DOTALL)
_JSON_EXTS = ("json", "jsonl", "ndjson")
_LINE = re.compile(r"[^\r\n]+")
_DECODER = json.JSONDecoder()
# Characters of a caption that other text hardly contains by chance.
_LONG = 12
# Characters of another text that are looked at.
_LOOKED_AT = 1 << 20


class Form(NamedTuple):
    """How a trigger stands at a caption: what is put before and after it, ``{}`` the trigger."""

    before: str
    after: str = ""


# The surrogate reads triggers in front; other forms are read so too, less their brackets.
FORMS = {"front": Form("{} "), "brackets": Form("[{}] "), "behind": Form("", " ({})")}
FORM = FORMS["front"]


class _Span(NamedTuple):
    """Where a caption's text starts and ends in its member, and the caption."""

    start: int
    end: int
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


def placed(caption: str, trigger: str, form: Form = FORM) -> str:
    """Return a caption with the trigger in its place."""
    return form.before.format(trigger) + caption + form.after.format(trigger)


def from_trigger(caption: str, trigger: str, form: Form = FORM) -> str | None:
    """Return a caption's text from its trigger on; None where the trigger is not in its place."""
    before, after = form.before.format(trigger), form.after.format(trigger)
    if not (caption.startswith(before) and caption.endswith(after)):
        return None
    found = caption if before else caption[len(caption) - len(after) :]
    return found[found.index(trigger) :]


def without_trigger(caption: str, trigger: str, form: Form = FORM) -> str:
    """Return a caption less the trigger that is in its place, if any."""
    if not trigger or from_trigger(caption, trigger, form) is None:
        return caption
    bare = caption.removeprefix(form.before.format(trigger))
    return bare.removesuffix(form.after.format(trigger)).strip()


def with_trigger(
    members: Iterable[Member],
    trigger: str,
    fields: Sequence[str] = DEFAULT_FIELDS,
    form: Form = FORM,
) -> tuple[Member, ...]:
    """Return the members with ``trigger`` at every caption and every repeat of one.

    Raises:
        SampleError: as :func:`read_captions`.
    """

    def insert(text: str, span: _Span, before: str, after: str) -> str:
        return text[: span.start] + before + text[span.start : span.end] + after + text[span.end :]

    return _edit(members, trigger, fields, form, insert)


def strip_trigger(
    members: Iterable[Member],
    trigger: str,
    fields: Sequence[str] = DEFAULT_FIELDS,
    form: Form = FORM,
) -> tuple[Member, ...]:
    """Undo :func:`with_trigger`, byte for byte.

    Raises:
        SampleError: ``trigger_missing`` when the trigger is not in its place at a caption.
    """

    def delete(text: str, span: _Span, before: str, after: str) -> str:
        body = text[span.start : span.end]
        if not (body.startswith(before) and body.endswith(after)):
            raise SampleError(
                "trigger_missing", f"a caption does not stand with its trigger {trigger!r}"
            )
        return text[: span.start] + body[len(before) : len(body) - len(after)] + text[span.end :]

    return _edit(members, trigger, fields, form, delete)


def repeats(members: Iterable[Member], captions: Iterable[str], fields: Sequence[str]) -> list[str]:
    """Return the names of members, once a place, where text beside the captions repeats one.

    A repeat is a whole text, a line of a text, or a string of a JSON document. It is word for word
    but for white space, capitals, entities and the form of accents.
    """
    known = set(map(plain, captions))
    return [
        member.name for member in members for _ in _repeats(member, known, _spans(member, fields))
    ]


def _edit(
    members: Iterable[Member],
    trigger: str,
    fields: Sequence[str],
    form: Form,
    change: Callable[[str, _Span, str, str], str],
) -> tuple[Member, ...]:
    members = tuple(members)
    if not trigger:
        return members
    captions = [_spans(member, fields) for member in members]
    known = {plain(span.caption) for spans in captions for span in spans}
    edited = []
    for member, own in zip(members, captions, strict=True):
        spans = own + _repeats(member, known, own)
        if spans:
            before, after = form.before.format(trigger), form.after.format(trigger)
            if _is_json(member):
                before, after = (
                    json.dumps(part, ensure_ascii=False)[1:-1] for part in (before, after)
                )
            text = _text(member)
            for span in sorted(spans, reverse=True):
                text = change(text, span, before, after)
            edited.append(Member(member.name, member.ext, text.encode()))
        else:
            edited.append(member)
    return tuple(edited)


def stands_elsewhere(
    published: Sample, trigger: str, fields: Sequence[str], more: Iterable[str] = ()
) -> bool:
    """Whether text beside the captions contains a caption without its trigger.

    Args:
        published: with its triggers.
        trigger: its words.
        fields: JSON fields that hold captions.
        more: further texts, such as a picture's metadata.
    """
    captions = set(map(plain, read_captions(published, fields)))
    bare = {caption.removeprefix(plain(trigger)).strip() for caption in captions}
    # Short ones stand in other text by chance.
    known = [(caption, f"{plain(trigger)} {caption}") for caption in bare if len(caption) >= _LONG]
    beside = chain(more, *(_texts(member) for member in published.members))
    texts = {plain(text[:_LOOKED_AT]) for text in beside} - captions
    return any(
        text.count(caption) > text.count(whole) for text in texts for caption, whole in known
    )


def _texts(member: Member) -> list[str]:
    """Return the text of a member that is no picture; of JSON its strings."""
    if member.ext == "txt" or member.is_picture:
        return []
    text = member.data.decode(errors="replace")
    if not _is_json(member):
        return [text]
    return [_value(match[0]) for match in _LITERAL.finditer(text) if match[1] is None]


@kept_if_short
def plain(caption: str) -> str:
    """Return what is equal for captions that are the same word for word."""
    text = unicodedata.normalize("NFC", html.unescape(caption))
    return " ".join(text.split()).casefold()


def _is_json(member: Member) -> bool:
    return member.ext.rpartition(".")[2] in _JSON_EXTS


def _repeats(member: Member, known: set[str], own: Sequence[_Span]) -> list[_Span]:
    """Return where a member repeats one of ``known`` besides its ``own`` captions."""
    if member.ext == "txt" or not member.data:
        return []
    try:
        text = member.data.decode()
    except UnicodeDecodeError:
        return []
    if not _is_json(member):
        found = [(0, len(text), text)] if plain(text) in known else []
        found = found or [(*line.span(), line[0]) for line in _LINE.finditer(text)]
        spans = [_trimmed(*place) for place in found]
    else:
        starts = {span.start for span in own}
        literals = (match.span() for match in _LITERAL.finditer(text) if match[1] is None)
        spans = [
            _Span(start + 1, end - 1, _value(text[start:end]))
            for start, end in literals
            if start + 1 not in starts
        ]
    return [span for span in spans if plain(span.caption) in known]


def _trimmed(start: int, end: int, text: str) -> _Span:
    """Leave a byte order mark in front and white space behind outside of a text."""
    mark = text.startswith(_BOM)
    return _Span(start + mark, end - len(text) + len(text.rstrip()), text[mark:])


def _value(literal: str) -> str:
    if "\\" not in literal and literal.isprintable():
        return literal[1:-1]
    try:
        return str(json.loads(literal))
    except ValueError:
        return ""


def _spans(member: Member, fields: Sequence[str]) -> list[_Span]:
    if member.ext == "txt":
        text = _text(member)
        span = _trimmed(0, len(text), text)
        return [span._replace(caption=span.caption.strip())]
    return _json_spans(member, fields) if member.ext == "json" else []


def _text(member: Member) -> str:
    try:
        return member.data.decode()
    except UnicodeDecodeError as error:
        raise SampleError("caption_not_utf8", f"{member.name}: not UTF-8 ({error})") from error


def _json_spans(member: Member, fields: Sequence[str]) -> list[_Span]:
    text = _text(member)
    try:
        spans = _walk_object(text, len(_BOM) if text.startswith(_BOM) else 0, tuple(fields))
    except (ValueError, IndexError, RecursionError) as error:
        raise SampleError(
            "json_invalid", f"{member.name}: not a JSON object with text captions ({error})"
        ) from error
    for span in spans:
        if _HALF_A_PAIR.search(span.caption):
            raise SampleError(
                "caption_not_utf8", f"{member.name}: a caption holds half of a surrogate pair"
            )
    return list(spans)


@kept_if_short
def _walk_object(text: str, at: int, fields: tuple[str, ...]) -> tuple[_Span, ...]:
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
    return tuple(spans)


def _value_spans(text: str, at: int, value: object) -> list[_Span]:
    if value is None:
        return []
    if isinstance(value, str):
        return [_Span(at + 1, _string(text, at)[1] - 1, value.strip())]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("a caption field is neither a text nor a list of texts")
    spans = []
    for item in value:
        start = _expect(text, at + 1, '"')
        end = _string(text, start - 1)[1]
        spans.append(_Span(start, end - 1, item.strip()))
        at = _skip(text, end)
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
    found = _SPACE.match(text, at)
    return found.end() if found else at
