"""Checks of one published sample: against its manifest row, and against its original."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...kernels.image_stats import measure
from ...kernels.planes import take_apart
from ..data.captions import (
    from_trigger,
    read_captions,
    repeats,
    with_trigger,
    without_trigger,
)
from ..data.images import (
    Decoded,
    budget_of,
    decode,
    image_member,
    image_members,
    output_ext,
    replace_image,
    written_format,
)
from ..data.manifest import STATUSES, ManifestRow
from ..data.shards import Member, Sample
from ..data.xmp import NO_EDITS, Edits
from ..errors import SampleError
from ..method.models import Tokenizer, get_tokenizer
from ..method.perceptual import bound_map
from ..method.vocabulary import leading_ids
from .picture_checks import Problem, check_beside_pixels, check_shown, unreadable


@dataclass(frozen=True)
class Rules:
    """What the run promised.

    Attributes:
        epsilon: largest change of a pixel, in 8-bit levels.
        trigger_words: words in front of a caption; 0 when the method sets none.
        image_format: ``png``, ``webp``, ``jpeg`` or ``same``.
        fields: JSON fields that hold captions.
        surrogate_sha256: of the surrogate; empty when the method needs none.
        max_pixels: limit of what is decoded.
        edits: what the run changes in metadata.
        several: whether a sample may hold several pictures, each protected.
        floor: share of epsilon that smooth ground gets; 1 where every pixel gets all of it.
    """

    epsilon: int
    trigger_words: int
    image_format: str
    fields: tuple[str, ...]
    surrogate_sha256: str
    max_pixels: int
    edits: Edits = NO_EDITS
    floor: float = 1.0
    several: bool = False

    @staticmethod
    def of(config: Mapping[str, Any], max_pixels: int) -> "Rules":
        """Read a plan's configuration. Raises KeyError, TypeError or ValueError."""
        return Rules(
            epsilon=int(config["mem"]["epsilon"]),
            trigger_words=int(config["trigger_words"]),
            image_format=str(config["image_format"]),
            fields=tuple(config["caption_fields"]),
            surrogate_sha256=str(config["surrogate_sha256"]),
            max_pixels=max_pixels,
            edits=Edits(
                bool(config.get("drop_location")),
                bool(config.get("reserve")),
                str(config.get("file_license", "")),
            ),
            floor=float(config.get("floor", 1.0)),
            several=config.get("images") == "all",
        )


def check_row(row: ManifestRow, rules: Rules) -> Iterator[Problem]:
    """Compare a row with the run's configuration, without any sample."""
    if row.status == "quarantined":
        if not row.reason:
            yield "row_invalid", "a quarantined sample without a reason"
        return
    if row.status not in STATUSES:
        yield "row_invalid", f"status {row.status!r}"
        return
    expected = {
        "epsilon": rules.epsilon,
        "surrogate_sha256": rules.surrogate_sha256 or None,
        "image_ext": output_ext(row.source_ext or "", row.format or "", rules.image_format),
    }
    for column, value in expected.items():
        if getattr(row, column) != value:
            yield "row_invalid", f"{column} is {getattr(row, column)!r}, the run's is {value!r}"
    if len(row.trigger_tokens or []) != rules.trigger_words or bool(row.trigger_text) != bool(
        rules.trigger_words
    ):
        yield (
            "row_invalid",
            f"trigger {row.trigger_text!r} is not one of {rules.trigger_words} words",
        )
    budget = _budget(row, rules)
    if row.linf is None or row.linf > budget:
        yield "budget_exceeded", f"linf {row.linf} by the row, {budget} are allowed"


def check_published(
    sample: Sample, row: ManifestRow, rules: Rules, tokenizer: Tokenizer | None
) -> Iterator[Problem]:
    """Compare a published sample with its row."""
    if sample.problem is not None:
        yield "sample_unreadable", str(sample.problem)
        return
    yield from _check_image(sample, row, rules)
    yield from _check_captions(sample, row, rules, tokenizer)


def _check_image(sample: Sample, row: ManifestRow, rules: Rules) -> Iterator[Problem]:
    try:
        member = image_member(sample, several=rules.several)
        found = decode(member.data, rules.max_pixels)
        others = image_members(sample)[1:]
        if row.pictures is not None and row.pictures != 1 + len(others):
            yield "image_unprotected", f"{1 + len(others)} pictures, its row says {row.pictures}"
        for other in others:
            yield from check_shown(decode(other.data, rules.max_pixels))
    except SampleError as error:
        yield unreadable(error)
        return
    yield from check_shown(found)
    digest = hashlib.sha256(member.data).hexdigest()
    expected_ext = row.image_ext if row.status == "protected" else row.source_ext
    if digest != row.output_sha256:
        yield (
            "image_changed",
            f"{member.name} has sha256 {digest}, its row says {row.output_sha256}",
        )
    if member.ext != expected_ext:
        yield "image_changed", f"{member.name} should have the extension {expected_ext}"
    elif row.status == "protected" and found.source_format != _written(row, rules):
        yield "image_changed", f"{member.name} is a {found.source_format} file"
    if found.values.shape[:2] != (row.height, row.width):
        size = f"{found.values.shape[1]}x{found.values.shape[0]}"
        yield (
            "image_changed",
            f"{member.name} has {size} pixels, its row says {row.width}x{row.height}",
        )


def _check_captions(
    sample: Sample, row: ManifestRow, rules: Rules, tokenizer: Tokenizer | None
) -> Iterator[Problem]:
    try:
        captions = read_captions(sample, rules.fields)
    except SampleError as error:
        yield "caption_unreadable", str(error)
        return
    trigger = row.trigger_text or ""
    if row.status != "protected" or not trigger:
        return
    ids = list(row.trigger_tokens or [])
    for caption in captions:
        text = from_trigger(caption, trigger)
        if text is None:
            yield "trigger_missing", f"{caption[:60]!r} does not start with {trigger!r}"
        elif tokenizer is not None:
            found = leading_ids(tokenizer, text, len(ids))
            if found != ids:
                yield "trigger_ids", f"{caption[:60]!r} starts with the tokens {found}, not {ids}"
    bare = [without_trigger(caption, trigger) for caption in captions]
    for name in repeats(sample.members, bare, rules.fields):
        yield "trigger_missing", f"{name} repeats a caption without its trigger"


def check_against(
    original: Sample, published: Sample, row: ManifestRow, rules: Rules
) -> Iterator[Problem]:
    """Compare a published sample with its original."""
    yield from check_original(original, row, rules)
    yield from _check_members(original, published, row, rules)
    try:
        befores, afters = image_members(original), image_members(published)
        for place, (before, after) in enumerate(zip(befores, afters, strict=False)):
            source = decode(before.data, rules.max_pixels)
            found = decode(after.data, rules.max_pixels)
            yield from _check_picture(source, found, row, rules, first=not place)
    except SampleError as error:
        yield unreadable(error)


def _check_picture(
    source: Decoded, found: Decoded, row: ManifestRow, rules: Rules, *, first: bool
) -> Iterator[Problem]:
    """Compare a published picture with its original; the row is that of a sample's first."""
    if first and source.source_format != row.format:
        yield "row_invalid", f"format is {row.format!r}, the input's is {source.source_format!r}"
    fmt = written_format(source.source_format, rules.image_format)
    if found.source_format != fmt:
        yield "image_changed", f"a {found.source_format} file, where a {fmt} file was promised"
        return
    yield from check_beside_pixels(source, found, fmt, rules.edits)
    clean, changed = take_apart(source.for_format(fmt)), take_apart(found.values)
    if clean.shape != changed.shape:
        shapes = f"{tuple(changed.shape)} for {tuple(clean.shape)}"
        yield "budget_exceeded", f"the image has another size, {shapes}"
        return
    stats = measure(clean, changed)
    yield from _check_bound(clean, changed, stats.linf, fmt, rules)
    for column, value in stats._asdict().items() if first else ():
        if not _same(getattr(row, column), value):
            yield "measure_mismatch", f"{column} is {value}, its row says {getattr(row, column)}"


def _check_bound(
    clean: Tensor, changed: Tensor, linf: int, fmt: str, rules: Rules
) -> Iterator[Problem]:
    """Hold a picture (uint8 [3, H, W]) to what its format may add, and without loss to its map."""
    budget = budget_of(fmt, rules.epsilon)
    if not linf and rules.several:
        yield "image_unprotected", "a picture of the sample is the original's, pixel for pixel"
    if linf > budget:
        yield "budget_exceeded", f"a pixel changed by {linf} levels, {budget} are allowed"
    elif budget == rules.epsilon and rules.floor < 1:
        bound = bound_map(clean[None], rules.epsilon, rules.floor)[0]
        over = (changed.to(torch.int16) - clean.to(torch.int16)).abs() - bound
        if over.max() > 0:
            values, most = int((over > 0).sum()), int(over.max())
            message = f"{values} values exceed the bound map, by up to {most} levels"
            yield "budget_exceeded", message


def check_original(original: Sample, row: ManifestRow, rules: Rules) -> Iterator[Problem]:
    """Compare an input sample with what its row says of it."""
    if original.row != row.row:
        yield "row_without_input", f"row {row.row} is at place {original.row} of the input"
    if row.input_sha256 is None:
        return
    try:
        digest = hashlib.sha256(image_member(original, several=rules.several).data).hexdigest()
    except SampleError as error:
        yield "input_image_changed", str(error)
        return
    if digest != row.input_sha256:
        yield (
            "input_image_changed",
            f"the input image has sha256 {digest}, its row says {row.input_sha256}",
        )


def load_tokenizer(metadata: Mapping[str, str]) -> Tokenizer:
    """Return the tokenizer that a manifest names. Raises KeyError or ValueError."""
    return get_tokenizer(metadata["tokenizer"], int(metadata["context_length"]))


def _check_members(
    original: Sample, published: Sample, row: ManifestRow, rules: Rules
) -> Iterator[Problem]:
    """The published members are the original's, in order, but for the pixels and the triggers."""
    expected: tuple[Member, ...] = original.members
    if row.status == "protected":
        try:
            pairs = list(zip(image_members(original), image_members(published), strict=False))
        except SampleError:
            return  # reported with the pictures
        for place, (source, output) in enumerate(pairs):
            ext = output.ext if place else row.image_ext or source.ext
            expected = replace_image(expected, source, output.data, ext)
        try:
            expected = with_trigger(expected, row.trigger_text or "", rules.fields)
        except SampleError as error:
            yield "member_changed", f"the input's captions cannot be read: {error}"
            return
    names = [member.name for member in published.members]
    if names != [member.name for member in expected]:
        yield "member_changed", f"members {names}, expected {[m.name for m in expected]}"
        return
    for member, wanted in zip(published.members, expected, strict=True):
        if (member.data, member.passed) != (wanted.data, wanted.passed):
            yield "member_changed", f"{member.name} is not the input's member with the trigger"


def _written(row: ManifestRow, rules: Rules) -> str:
    return written_format(row.format or "", rules.image_format)


def _budget(row: ManifestRow, rules: Rules) -> int:
    return budget_of(_written(row, rules), rules.epsilon)


def _same(stated: float | None, value: float) -> bool:
    return stated is not None and (
        stated == value or math.isclose(stated, value, rel_tol=1e-6, abs_tol=1e-6)
    )
