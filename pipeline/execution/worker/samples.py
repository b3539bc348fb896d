"""What happens to one sample before and after the optimisation: pure functions, run on threads."""

import hashlib
import logging
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ....kernels.image_stats import ImageStats, measure
from ...data.captions import from_trigger, read_captions, repeats, with_trigger
from ...data.images import (
    JPEG_QUALITIES,
    budget_of,
    decode,
    encode,
    format_of_ext,
    image_member,
    output_ext,
    replace_image,
)
from ...data.manifest import ManifestRow
from ...data.shards import Member, Sample
from ...errors import SampleError
from ...method.vocabulary import leading_ids
from ..spec import RunSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Content:
    """A sample that can be protected.

    Attributes:
        sample: as it was read.
        source: its image member.
        image: uint8 [3, H, W].
        captions: at least one.
    """

    sample: Sample
    source: Member
    image: Tensor
    captions: list[str]


@dataclass(frozen=True)
class Item:
    """A sample on its way: its manifest row as far as it is known, and what is left to do.

    Attributes:
        row: the manifest row.
        content: None when the sample is quarantined.
    """

    row: ManifestRow
    content: Content | None = None


@dataclass(frozen=True)
class Change:
    """What the method found for one sample.

    Attributes:
        delta: int8 [3, H, W].
        trigger_ids: token ids of the trigger; empty when the method sets none.
        trigger_text: its words.
        batch: index of its batch in the shard.
        batch_seed: what all that is random in the batch derives from.
        shuffle_seeds: of the caption order in each step.
        loss_before: of the sample as it came; None where it was not measured.
        loss_after: of the sample as it is published.
    """

    delta: Tensor
    trigger_ids: list[int]
    trigger_text: str
    batch: int
    batch_seed: int
    shuffle_seeds: list[int]
    loss_before: float | None
    loss_after: float | None


def load_sample(sample: Sample, shard: str, spec: RunSpec) -> Item:
    """Decode ``sample``; one that cannot be protected becomes a quarantined row."""
    row = ManifestRow(key=sample.key, shard=shard, row=sample.row, status="protected")
    try:
        source = image_member(sample)
        row = replace(
            row, input_sha256=hashlib.sha256(source.data).hexdigest(), source_ext=source.ext
        )
        captions = read_captions(sample, spec.caption_fields)
        pixels, source_format = decode(source.data, spec.max_pixels)
    except SampleError as error:
        return Item(_quarantined(row, error))
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    row = replace(row, height=image.shape[1], width=image.shape[2], format=source_format)
    return Item(row, Content(sample, source, image, captions))


def stored_format(content: Content, spec: RunSpec) -> str:
    """Return the format that the published image of a sample will have."""
    return format_of_ext(output_ext(content.source.ext, spec.image_format))


def publish_sample(
    item: Item, change: Change | None, spec: RunSpec, tokenizer: Any
) -> tuple[ManifestRow, Sample | None]:
    """Write the protected sample, then read it again and measure what was written.

    Returns:
        the finished manifest row, and the sample to publish; None when it is quarantined.
    """
    if item.content is None or change is None:
        return item.row, None
    # A sample that is quarantined only now was part of its batch: who makes that again needs it.
    begun = replace(item.row, batch=change.batch, batch_seed=change.batch_seed)
    try:
        content = item.content
        ext = output_ext(content.source.ext, spec.image_format)
        output, stats = _encode(content.image, change.delta, format_of_ext(ext), spec)
        members = replace_image(content.sample.members, content.source, output, ext)
        members = with_trigger(members, change.trigger_text, spec.caption_fields)
        published = replace(content.sample, members=members)
        _check_triggers(published, change, spec, tokenizer)
    except SampleError as error:
        return _quarantined(begun, error), None
    row = replace(
        begun,
        output_sha256=hashlib.sha256(output).hexdigest(),
        image_ext=ext,
        trigger_tokens=change.trigger_ids,
        trigger_text=change.trigger_text,
        epsilon=spec.mem.epsilon,
        linf=stats.linf,
        l2=stats.l2,
        psnr=stats.psnr,
        ssim=stats.ssim,
        shuffle_seeds=change.shuffle_seeds,
        loss_before=change.loss_before,
        loss_after=change.loss_after,
        surrogate_sha256=spec.surrogate_sha256 or None,
    )
    return row, published


def count_repeats(published: Sample, spec: RunSpec) -> int:
    """Count the texts beside the captions that repeat one, trigger included."""
    if not spec.trigger_words:
        return 0
    fields = spec.caption_fields
    return len(repeats(published.members, read_captions(published, fields), fields))


def _quarantined(row: ManifestRow, error: SampleError) -> ManifestRow:
    log.warning("%s/%s is quarantined (%s): %s", row.shard, row.key, error.reason, error)
    return replace(row, status="quarantined", reason=error.reason)


def _encode(image: Tensor, delta: Tensor, fmt: str, spec: RunSpec) -> tuple[bytes, ImageStats]:
    """Encode ``image + delta``, decode the file again and measure it against ``image``.

    A lossy file is written at the first quality at which it keeps to its budget.
    """
    levels = (image.to(torch.int16) + delta.to(torch.int16)).to(torch.uint8)
    pixels = levels.permute(1, 2, 0).contiguous().numpy()
    for quality in JPEG_QUALITIES if fmt == "jpeg" else JPEG_QUALITIES[:1]:
        data = encode(pixels, fmt, quality)
        decoded = decode(data, spec.max_pixels).pixels
        stats = measure(image, torch.from_numpy(decoded.transpose(2, 0, 1).copy()))
        if stats.linf <= budget_of(fmt, spec.mem.epsilon):
            return data, stats
    raise SampleError("budget_exceeded", f"a pixel changed by {stats.linf} levels")


def _check_triggers(published: Sample, change: Change, spec: RunSpec, tokenizer: Any) -> None:
    """Tokenise every written caption again: a reader must find the trigger's ids in front."""
    if not change.trigger_ids:
        return
    for caption in read_captions(published, spec.caption_fields):
        text = from_trigger(caption, change.trigger_text) or ""
        found = leading_ids(tokenizer, text, len(change.trigger_ids))
        if found != change.trigger_ids:
            raise SampleError("trigger_lost", f"{published.key}: trigger ids {found} after writing")
