"""What happens to one sample before and after the optimisation: pure functions, run on threads."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ....kernels.image_stats import ImageStats, largest_change, measure
from ....kernels.planes import put_together, take_apart
from ...data.captions import (
    from_trigger,
    read_captions,
    repeats,
    stands_elsewhere,
    with_trigger,
)
from ...data.images import (
    Decoded,
    budget_of,
    decode,
    encode,
    image_member,
    image_members,
    output_ext,
    replace_image,
    written_format,
)
from ...data.manifest import ManifestRow
from ...data.metadata import Metadata, published_metadata
from ...data.shards import Member, Sample
from ...errors import SampleError
from ...method.perceptual import bound_map, is_grey
from ...method.vocabulary import leading_ids
from ..spec import RunSpec
from .told_once import ToldOnce


@dataclass(frozen=True)
class Content:
    """A sample that can be protected.

    Attributes:
        sample: as it was read.
        source: its image member.
        image: uint8 [3, H, W], what is protected of it.
        captions: at least one.
        form: the picture as it was decoded, its values left out.
        format: that the published image will have.
        others: further pictures of the sample, each as if it were the only one.
    """

    sample: Sample
    source: Member
    image: Tensor
    captions: list[str]
    form: Decoded
    format: str
    others: "tuple[Content, ...]" = ()


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


def load_sample(sample: Sample, shard: str, spec: RunSpec, told: ToldOnce) -> Item:
    """Decode ``sample``; one that cannot be protected is quarantined, and ``told``."""
    row = ManifestRow(key=sample.key, shard=shard, row=sample.row, status="protected")
    try:
        source = image_member(sample, several=spec.images == "all")
        row = replace(
            row, input_sha256=hashlib.sha256(source.data).hexdigest(), source_ext=source.ext
        )
        captions = read_captions(sample, spec.caption_fields)
        first, *others = (
            _content(sample, picture, captions, spec) for picture in image_members(sample)
        )
    except SampleError as error:
        return Item(_quarantined(row, error, told))
    row = replace(
        row,
        height=first.image.shape[1],
        width=first.image.shape[2],
        format=first.form.source_format,
        picture_digest=_digest(first.image.numpy()),
        pictures=1 + len(others),
    )
    return Item(row, replace(first, others=tuple(others)))


def _content(sample: Sample, source: Member, captions: list[str], spec: RunSpec) -> Content:
    decoded = decode(source.data, spec.max_pixels)
    fmt = written_format(decoded.source_format, spec.image_format)
    image = take_apart(decoded.for_format(fmt))
    form = replace(decoded, values=decoded.values[:0])
    return Content(sample, source, image, captions, form, fmt)


def _digest(pixels: npt.NDArray[np.uint8]) -> str:
    """Return what is equal for equal pictures, whatever files they came in."""
    shape = ",".join(map(str, pixels.shape)).encode()
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16, key=shape).hexdigest()


def publish_sample(
    item: Item, change: Change | None, spec: RunSpec, tokenizer: Any, told: ToldOnce
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
        written = _write(content, change.delta, spec)
        members = _replaced(content.sample.members, content, written)
        notes = set(written.notes)
        for other in content.others:
            more = _write(other, _fitted(change.delta, other.image, spec), spec)
            members, notes = _replaced(members, other, more), notes | more.notes
        members = with_trigger(members, change.trigger_text, spec.caption_fields)
        published = replace(content.sample, members=members)
        _check_triggers(published, change, spec, tokenizer)
        notes |= _beside(published, content, change.trigger_text, spec)
    except SampleError as error:
        return _quarantined(begun, error, told), None
    row = replace(
        begun,
        output_sha256=hashlib.sha256(written.data).hexdigest(),
        image_ext=written.ext,
        trigger_tokens=change.trigger_ids,
        trigger_text=change.trigger_text,
        epsilon=spec.mem.epsilon,
        linf=written.stats.linf,
        l2=written.stats.l2,
        psnr=written.stats.psnr,
        ssim=written.stats.ssim,
        shuffle_seeds=change.shuffle_seeds,
        loss_before=change.loss_before,
        loss_after=change.loss_after,
        surrogate_sha256=spec.surrogate_sha256 or None,
        notes=sorted(notes),
    )
    return row, published


def count_repeats(published: Sample, spec: RunSpec) -> int:
    """Count the texts beside the captions that repeat one, trigger included."""
    if not spec.trigger_words:
        return 0
    fields = spec.caption_fields
    return len(repeats(published.members, read_captions(published, fields), fields))


def _quarantined(row: ManifestRow, error: SampleError, told: ToldOnce) -> ManifestRow:
    told.add(row.key, error)
    return replace(row, status="quarantined", reason=error.reason, detail=str(error))


def _beside(published: Sample, content: Content, trigger: str, spec: RunSpec) -> set[str]:
    """Return notes of what is published beside the pictures and the captions."""
    notes = {"passed_on"} if any(member.is_opaque for member in published.members) else set()
    texts = content.form.kept.texts
    if trigger and stands_elsewhere(published, trigger, spec.caption_fields, texts):
        notes.add("caption_elsewhere")
    return notes


class _Written(NamedTuple):
    """A published picture: file, extension, how far it is from the input's, and what is noted."""

    data: bytes
    ext: str
    stats: ImageStats
    notes: frozenset[str]


def _write(content: Content, delta: Tensor, spec: RunSpec) -> _Written:
    form = content.form
    ext = output_ext(content.source.ext, form.source_format, spec.image_format)
    kept, notes = published_metadata(form.kept, content.format, spec.edits, grey=form.grey)
    data, stats = _encode(content, delta, kept, spec)
    return _Written(data, ext, stats, form.notes_in(content.format) | notes)


def _replaced(
    members: tuple[Member, ...], content: Content, written: _Written
) -> tuple[Member, ...]:
    found = replace_image(members, content.source, written.data, written.ext)
    if len({member.name for member in found}) < len(found):
        names = f"two members would be named alike in the format of {content.source.name}"
        raise SampleError("several_images", f"{content.sample.key}: {names}")
    return found


def _fitted(delta: Tensor, image: Tensor, spec: RunSpec) -> Tensor:
    """Return the perturbation of a sample's first picture on another picture of it.

    A trigger stands for patterns in shares of a picture's sides, so they are scaled with it.

    Args:
        delta: int8 [3, H, W].
        image: uint8 [3, h, w].
        spec: its budget.

    Returns:
        int8 [3, h, w] inside the bound map of ``image``; ``image`` plus it lies in 0..255.
    """
    bound = bound_map(image[None], spec.mem.epsilon, spec.floor)[0].float()
    scaled = interpolate(delta[None].float(), tuple(image.shape[1:]), mode="bilinear")[0].round()
    scaled = scaled.clamp(-bound, bound)
    return ((image + scaled).clamp(0, 255) - image).to(torch.int8)


def _encode(
    content: Content, delta: Tensor, kept: Metadata, spec: RunSpec
) -> tuple[bytes, ImageStats]:
    """Encode ``image + delta``, decode the file again and measure it against ``image``.

    A lossy file is written in the first of its styles that keeps to its budget.
    """
    image, fmt = content.image, content.format
    budget = budget_of(fmt, spec.mem.epsilon)
    # The sum lies in 0..255, so it is right modulo 256.
    levels = image + _where_it_shows(content, delta).view(torch.uint8)
    pixels = content.form.in_channels(put_together(levels), fmt)
    for style in content.form.styles(fmt):
        data = encode(pixels, fmt, style, kept)
        changed = take_apart(decode(data, spec.max_pixels).values)
        # One file in some needs a second style; the other figures take longer than writing it.
        largest = largest_change(image, changed)
        if largest <= budget:
            return data, measure(image, changed)
    raise SampleError("budget_exceeded", f"a pixel changed by {largest} levels")


def _where_it_shows(content: Content, change: Tensor) -> Tensor:
    """Keep a grey picture grey, and leave what is wholly transparent as it is.

    Args:
        content: the sample.
        change: int8 [3, H, W].
    """
    image, alpha = content.image, content.form.alpha
    if is_grey(image):
        change = change.float().mean(0, keepdim=True).round().to(torch.int8).expand(3, -1, -1)
    if alpha is not None and content.format != "jpeg":
        change = change * torch.from_numpy(alpha != 0)
    return change


def _check_triggers(published: Sample, change: Change, spec: RunSpec, tokenizer: Any) -> None:
    """Tokenise every written caption again: a reader must find the trigger's ids in front."""
    if not change.trigger_ids:
        return
    for caption in read_captions(published, spec.caption_fields):
        text = from_trigger(caption, change.trigger_text) or ""
        found = leading_ids(tokenizer, text, len(change.trigger_ids))
        if found != change.trigger_ids:
            raise SampleError("trigger_lost", f"{published.key}: trigger ids {found} after writing")
