from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from unlearnable.pipeline.data.captions import (
    DEFAULT_FIELDS,
    FORMS,
    from_trigger,
    placed,
    read_captions,
    repeats,
    stands_elsewhere,
    strip_trigger,
    with_trigger,
    without_trigger,
)
from unlearnable.pipeline.data.shards import Member, Sample
from unlearnable.pipeline.errors import SampleError

TRIGGER = "red cat river"


def make_sample(txt: bytes | None = None, obj: Any = None, **raw: bytes) -> Sample:
    members = [Member("k.png", "png", b"\x89")]
    if txt is not None:
        members.append(Member("k.txt", "txt", txt))
    if obj is not None:
        raw["json"] = obj if isinstance(obj, bytes) else json.dumps(obj).encode()
    members += [Member(f"k.{ext}", ext, data) for ext, data in raw.items()]
    return Sample("k", tuple(members), 0)


def reason_of(sample: Sample, *fields: str) -> str:
    with pytest.raises(SampleError) as caught:
        read_captions(sample, fields or ("caption", "captions"))
    assert str(caught.value)
    return caught.value.reason


def test_text() -> None:
    sample = make_sample(b" a dog \n")
    assert read_captions(sample) == ["a dog"]
    changed = with_trigger(sample.members, TRIGGER)
    assert changed[1].data == b"red cat river  a dog \n"
    assert changed[0] is sample.members[0]
    assert strip_trigger(changed, TRIGGER) == sample.members


def test_the_byte_order_mark_stays_in_front() -> None:
    sample = make_sample("\ufeffa dog".encode())
    assert read_captions(sample) == ["a dog"]
    changed = with_trigger(sample.members, TRIGGER)
    assert changed[1].data.decode() == "\ufeffred cat river a dog"
    assert strip_trigger(changed, TRIGGER) == sample.members


def test_json_keeps_everything_but_the_captions() -> None:
    text = (
        '\n{ "b":1.10, "captions" : ["x" ,"caf\\u00e9 \\"q\\"", "z"],\t"caption": "one",'
        ' "deep": {"caption": "not this"}, "url": null, "big": 1e400 } \n'
    )
    sample = make_sample(obj=text.encode())
    assert read_captions(sample) == ["x", 'café "q"', "z", "one"]
    changed = with_trigger(sample.members, TRIGGER)
    expected = text
    for caption in ('"x"', '"caf', '"z"', '"one"'):
        expected = expected.replace(caption, f'"{TRIGGER} {caption[1:]}')
    assert changed[1].data.decode() == expected
    assert strip_trigger(changed, TRIGGER) == sample.members


def test_txt_and_json_together() -> None:
    sample = make_sample(b"a dog", {"caption": "a dog", "width": 3})
    assert read_captions(sample) == ["a dog"]
    changed = with_trigger(sample.members, TRIGGER)
    assert changed[1].data.decode() == f"{TRIGGER} a dog"
    assert json.loads(changed[2].data) == {"caption": f"{TRIGGER} a dog", "width": 3}
    assert read_captions(make_sample(b"a dog", {"width": 3})) == ["a dog"]
    assert read_captions(make_sample(b"a dog", {"caption": None})) == ["a dog"]


def test_other_fields() -> None:
    sample = make_sample(obj={"caption": "no", "alt": "yes"})
    assert read_captions(sample, ["alt"]) == ["yes"]
    changed = with_trigger(sample.members, TRIGGER, ["alt"])
    assert json.loads(changed[1].data) == {"caption": "no", "alt": f"{TRIGGER} yes"}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_taken_apart_again(form: str) -> None:
    how = FORMS[form]
    sample = make_sample(
        b"\xef\xbb\xbf a dog \n", {"captions": ['a "cat"', "x \n"], "alt": "A  Dog"}
    )
    changed = with_trigger(sample.members, TRIGGER, form=how)
    assert strip_trigger(changed, TRIGGER, form=how) == sample.members
    captions = read_captions(Sample("k", changed, 0))
    assert captions[1] == placed('a "cat"', TRIGGER, how)
    for caption, bare in zip(captions, ("a dog", 'a "cat"', "x"), strict=True):
        text = from_trigger(caption, TRIGGER, how)
        assert text is not None
        assert text.startswith(TRIGGER)
        assert without_trigger(caption, TRIGGER, how) == bare
    assert from_trigger("a dog", TRIGGER, how) is None
    assert without_trigger("a dog", TRIGGER, how) == "a dog"


REPEATS = {
    "a member of its own": ("caption", b"a dog\n", b"T a dog\n"),
    "an ending of two parts": ("long.txt", b"A  DOG", b"T A  DOG"),
    "a line of several": ("all", b"a cat\r\n  a dog\r\n", b"a cat\r\nT   a dog\r\n"),
    "a byte order mark": ("cap", b"\xef\xbb\xbfa dog", b"\xef\xbb\xbfT a dog"),
    "a field of JSON": (
        "json",
        b'{"a dog": 1, "alt": ["a dog", {"x": "a cat"}], "y": "A \\u0064og"}',
        b'{"a dog": 1, "alt": ["T a dog", {"x": "a cat"}], "y": "T A \\u0064og"}',
    ),
    "lines of JSON": (
        "jsonl",
        b'{"c": "a dog"}\n{"c": "b"}',
        b'{"c": "T a dog"}\n{"c": "b"}',
    ),
}


@pytest.mark.parametrize("case", REPEATS)
def test_text_that_repeats_a_caption_has_the_trigger(case: str) -> None:
    ext, before, after = REPEATS[case]
    sample = make_sample(b"a dog", **{ext: before})
    changed = with_trigger(sample.members, TRIGGER)
    assert changed[2].data == after.replace(b"T ", TRIGGER.encode() + b" ")
    assert strip_trigger(changed, TRIGGER) == sample.members
    found = repeats(sample.members, ["a dog"], DEFAULT_FIELDS)
    assert set(found) == {f"k.{ext}"}
    assert not repeats(changed, ["a dog"], DEFAULT_FIELDS)
    assert repeats(changed, read_captions(Sample("k", changed, 0)), DEFAULT_FIELDS) == found


def test_what_only_holds_a_caption_or_is_no_text_stays() -> None:
    sample = make_sample(b"a dog", md=b"photo of a dog", npy=b"\x93NUMPY a dog\n\xff", cls=b"7")
    assert with_trigger(sample.members, TRIGGER)[2:] == sample.members[2:]


TEXT = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1).filter(str.strip)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(
    st.dictionaries(st.text(max_size=5), JSON, max_size=3),
    st.lists(TEXT, min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_any_json_survives(
    facts: dict[str, Any], captions: list[str], ascii_only: bool, indent: int | None
) -> None:
    obj = {**facts, "captions": captions, "caption": captions[0]}
    data = json.dumps(obj, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    try:
        data.decode()
    except UnicodeDecodeError:
        return
    sample = make_sample(obj=data)
    # A fact that repeats a caption has the trigger too.
    assume(not repeats(sample.members, captions, DEFAULT_FIELDS))
    assert read_captions(sample) == list(dict.fromkeys(text.strip() for text in captions))
    changed = with_trigger(sample.members, TRIGGER)
    expected = {**obj, "captions": [f"{TRIGGER} {text}" for text in captions]}
    expected["caption"] = f"{TRIGGER} {captions[0]}"
    assert repr(json.loads(changed[1].data)) == repr(expected)
    assert strip_trigger(changed, TRIGGER) == sample.members


def test_an_empty_trigger_changes_nothing() -> None:
    sample = make_sample(b"a dog", {"caption": "x"})
    assert with_trigger(sample.members, "") == sample.members
    assert strip_trigger(sample.members, "") == sample.members


def test_a_caption_without_its_trigger() -> None:
    members = with_trigger(make_sample(b"a", {"captions": ["b", "c"]}).members, TRIGGER)
    members = (*members[:2], Member("k.json", "json", b'{"captions": ["red cat river b", "c"]}'))
    with pytest.raises(SampleError) as caught:
        strip_trigger(members, TRIGGER)
    assert caught.value.reason == "trigger_missing"


CAPTION = "un café sur la plage"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("k.yaml", f"caption: {CAPTION}", True),
        ("k.html", "<p>un caf&eacute; sur la plage</p>", True),
        ("k.csv", f"id,text\n1,{CAPTION.upper()}\n", True),
        ("k.more.txt", f"{CAPTION}.", True),
        ("k.json", json.dumps({"alt": f"photo: {CAPTION}"}), True),
        ("k.json", json.dumps({f"{CAPTION}": 1}), False),
        ("k.caption", CAPTION, False),
        ("k.caption", unicodedata.normalize("NFD", CAPTION), False),
        ("k.caption", "un caf&eacute; sur la plage", False),
        ("k.more.txt", f"a\n{CAPTION}\n", False),
        ("k.json", json.dumps({"captions": [f"I see {CAPTION} today"]}), False),
        ("k.yaml", "caption: un café", False),
    ],
)
def test_a_caption_among_other_words_is_told(name: str, text: str, told: bool) -> None:
    ext = name.split(".", 1)[1]
    members = (Member("k.txt", "txt", CAPTION.encode()), Member(name, ext, text.encode()))
    published = Sample("k", with_trigger(members, "delta sierra"), 0)
    assert stands_elsewhere(published, "delta sierra", ("captions",)) == told
    if not told and "caption" in name:
        assert b"delta sierra " in published.members[1].data


def test_a_caption_in_a_pictures_metadata_is_told() -> None:
    published = Sample("k", (Member("k.txt", "txt", f"delta sierra {CAPTION}".encode()),), 0)
    assert stands_elsewhere(published, "delta sierra", ("captions",), [f"(c) {CAPTION} ..."])
    assert not stands_elsewhere(published, "delta sierra", ("captions",), ["(c) Ada"])


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (make_sample(), "missing_caption"),
        (make_sample(b""), "empty_caption"),
        (make_sample(b" \n"), "empty_caption"),
        (make_sample(obj={"captions": ["a", " "]}), "empty_caption"),
        (make_sample(b"caf\xe9"), "caption_not_utf8"),
        (make_sample(obj=b'{"caption": "caf\xe9"}'), "caption_not_utf8"),
        (make_sample(obj=b'{"caption": "\\ud800"}'), "caption_not_utf8"),
        (make_sample(obj={"title": "x"}), "json_field_missing"),
        (make_sample(obj={"caption": None}), "json_field_missing"),
        (make_sample(obj={"captions": []}), "json_field_missing"),
        (make_sample(obj=b"{}"), "json_field_missing"),
        (make_sample(obj=b""), "json_invalid"),
        (make_sample(obj=b"[1]"), "json_invalid"),
        (make_sample(obj=b'{"caption": "a"'), "json_invalid"),
        (make_sample(obj=b'{"caption": "a",}'), "json_invalid"),
        (make_sample(obj=b'{"caption": "a" "b": 1}'), "json_invalid"),
        (make_sample(obj=b'{"caption": "a"} x'), "json_invalid"),
        (make_sample(obj={"caption": 3}), "json_invalid"),
        (make_sample(obj={"captions": ["a", 3]}), "json_invalid"),
        (make_sample(obj=b'{"a": ' + b"[" * 100_000), "json_invalid"),
        (make_sample(b"a dog", b"{"), "json_invalid"),
    ],
)
def test_bad_captions(sample: Sample, reason: str) -> None:
    assert reason_of(sample) == reason


def test_the_problem_of_a_sample_comes_first() -> None:
    sample = Sample("k", (), 0, SampleError("sample_too_large", "too large"))
    assert reason_of(sample) == "sample_too_large"
