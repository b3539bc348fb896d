"""First-order candidate words of HotFlip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .backend import LazyKernel, dot_precision, on_gpu

if TYPE_CHECKING:
    import triton.language as tl  # noqa: TC004  (LazyKernel imports it where a kernel runs)

# A key orders words by score, then by id: the score's bits in the upper half, mapped so that they
# sort as integers do, and in the lower half the id counted down from the largest.
_LAST_ID = 0x7FFFFFFF
_LEAST_KEY = -0x7F800001 << 32  # that of a score of minus infinity and no id at all

_MAX_COUNT = 128
_DEPTH = 32


def hotflip_topk(
    gradient: Tensor, embedding: Tensor, count: int, allowed: Tensor | None = None
) -> Tensor:
    """Return the ``count`` words of each trigger position with the lowest first-order loss.

    Args:
        gradient: of the loss at the embeddings of k trigger positions, [B, k, D].
        embedding: of the vocabulary, [V, D].
        count: words to return, at least 1 (above 128 a GPU takes the plain torch way, too).
        allowed: ids that each position may use, int64 [k, W], each at most once, rows filled up
            with -1; all words where None.

    Returns:
        int64 [B, k, count], ids, best first; -1 where fewer words are allowed. The score of a word
        w is ``-gradient . embedding[w]`` (Ebrahimi et al. 2018, eq. 2; the term of the present
        word is the same for every candidate and left out). Of equal scores the lowest id comes
        first; NaN ranks as minus infinity.

        The products of float32 are summed in float32, on a GPU through three TF32 products each
        (`backend.dot_precision`): words whose scores are closer than a float32 sum's rounding may
        change places between devices. On a GPU the scores never reach memory.
    """
    assert count >= 1
    if on_gpu(gradient) and gradient.dtype != torch.float64 and count <= _MAX_COUNT:
        return _launch(gradient, embedding, count, allowed)
    return hotflip_topk_reference(gradient, embedding, count, allowed)


def hotflip_topk_reference(
    gradient: Tensor, embedding: Tensor, count: int, allowed: Tensor | None = None
) -> Tensor:
    """`hotflip_topk` in plain torch."""
    gradient, embedding = gradient.float(), embedding.float()
    batch, positions, _ = gradient.shape
    best = gradient.new_full((batch, positions, count), -1, dtype=torch.int64)
    every = torch.arange(len(embedding), device=gradient.device)
    for position in range(positions):
        words, table = every, embedding
        if allowed is not None:
            words = allowed[position][allowed[position] >= 0]
            table = embedding[words]
        scores = -(gradient[:, position] @ table.T)
        found = _keys(scores, words).topk(min(count, len(words)), dim=1).values
        best[:, position, : found.shape[1]] = _ids(found)
    return best


def _keys(scores: Tensor, words: Tensor) -> Tensor:
    # Adding zero makes the two zeros one.
    bits = (scores.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf) + 0.0).view(
        torch.int32
    )
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (ordered.to(torch.int64) << 32) | (_LAST_ID - words)


def _ids(keys: Tensor) -> Tensor:
    return torch.where(keys >= _LEAST_KEY, _LAST_ID - (keys & _LAST_ID), -1)


def _launch(gradient: Tensor, embedding: Tensor, count: int, allowed: Tensor | None) -> Tensor:
    """Find the best of each part of the vocabulary in one pass, then the best of those."""
    if gradient.dtype != embedding.dtype:
        gradient, embedding = gradient.float(), embedding.float()
    gradient, embedding = _rows_dense(gradient), _rows_dense(embedding)
    batch, positions, width = gradient.shape
    words = len(embedding) if allowed is None else allowed.shape[1]
    rows, columns = (64 if batch > 32 else 32 if batch > 16 else 16), 128
    row_tiles, column_tiles = -(-batch // rows), -(-words // columns)
    if not (row_tiles and positions and column_tiles):
        return gradient.new_full((batch, positions, count), -1, dtype=torch.int64)
    parts = min(column_tiles, -(-_programs(gradient) // (row_tiles * positions)))
    tiles = -(-column_tiles // parts)
    parts = -(-column_tiles // tiles)
    kept = 1 << (count - 1).bit_length()
    best = torch.empty((batch, positions, parts, kept), dtype=torch.int64, device=gradient.device)
    _CANDIDATES.launch(
        (row_tiles * parts, positions),
        gradient,
        embedding,
        gradient if allowed is None else allowed.contiguous(),
        best,
        batch=batch,
        width=width,
        words=words,
        row_stride=gradient.stride(0),
        position_stride=gradient.stride(1),
        word_stride=embedding.stride(0),
        parts=parts,
        tiles=tiles,
        least_key=torch.iinfo(torch.int64).min,
        has_allowed=allowed is not None,
        kept=kept,
        rows=rows,
        columns=columns,
        depth=_DEPTH,
        precision=dot_precision(),
        num_warps=4,
        num_stages=3,
    )
    # No two keys are equal, so the order in which topk meets them does not matter.
    return _ids(best.flatten(2).topk(count, dim=2).values)


def _rows_dense(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _programs(tensor: Tensor) -> int:
    """Programs that fill the device twice over."""
    if not tensor.is_cuda:
        return 4
    return 2 * torch.cuda.get_device_properties(tensor.device).multi_processor_count


def _candidates_kernel(  # type: ignore[no-untyped-def]
    gradient,
    embedding,
    allowed,
    best,
    batch,
    width,
    words,
    row_stride,
    position_stride,
    word_stride,
    parts,
    tiles,
    least_key,
    has_allowed: tl.constexpr,
    kept: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
    precision: tl.constexpr,
) -> None:
    """Each program keeps the best words of ``rows`` samples in one part of the vocabulary.

    Programs of one part follow each other, so that they find its embeddings in the cache.
    """
    row_tiles = tl.cdiv(batch, rows)
    part = tl.program_id(0) // row_tiles
    position = tl.program_id(1).to(tl.int64)
    row = (tl.program_id(0) % row_tiles) * rows + tl.arange(0, rows)
    here = row < batch
    left = gradient + position * position_stride + row.to(tl.int64)[:, None] * row_stride
    slot, inner = tl.arange(0, kept), tl.arange(0, depth)
    held = tl.zeros([rows, kept], tl.int64) + least_key + slot[None, :]
    for tile in range(part * tiles, tl.minimum((part + 1) * tiles, tl.cdiv(words, columns))):
        column = tile * columns + tl.arange(0, columns)
        word, usable = column.to(tl.int64), column < words
        if has_allowed:
            word = tl.load(allowed + position * words + column, mask=usable, other=-1)
            usable = word >= 0
        right = embedding + word[:, None] * word_stride
        total = tl.zeros([rows, columns], tl.float32)
        for start in range(0, width, depth):
            within = start + inner < width
            a = tl.load(
                left + start + inner[None, :], mask=here[:, None] & within[None, :], other=0
            )
            b = tl.load(
                right + start + inner[None, :], mask=usable[:, None] & within[None, :], other=0
            )
            total = tl.dot(a, tl.trans(b), total, input_precision=precision)
        score = 0.0 - total
        score = tl.where(score == score, score, float("-inf"))  # noqa: PLR0124  (NaN)
        bits = score.to(tl.int32, bitcast=True)
        ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
        key = (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - word)[None, :]
        key = tl.where(usable[None, :] & here[:, None], key, least_key)
        # Later tiles rarely hold a better word: the loop ends with the last row that has one.
        top, least = tl.max(key, axis=1), tl.min(held, axis=1)
        while tl.max((top > least).to(tl.int32), axis=0) > 0:
            replaced = (held == least[:, None]) & (top > least)[:, None]
            held = tl.where(replaced, top[:, None], held)
            key = tl.where(key == top[:, None], least_key, key)
            top, least = tl.max(key, axis=1), tl.min(held, axis=1)
    target = best + (row.to(tl.int64)[:, None] * tl.num_programs(1) + position) * parts * kept
    tl.store(target + part * kept + slot[None, :], held, mask=here[:, None])


_CANDIDATES = LazyKernel(_candidates_kernel)
