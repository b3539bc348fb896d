"""One step of projected gradient descent on the 8-bit grid, and the model input it leads to."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .backend import LazyKernel, on_gpu

if TYPE_CHECKING:
    import triton.language as tl  # noqa: TC004  (LazyKernel imports it where a kernel runs)

Channels = tuple[float, float, float]

_BLOCK = 2048


def normalise_pixels(pixels: Tensor, mean: Channels, std: Channels) -> Tensor:
    """Map 0..255 levels ``[B, 3, H, W]`` to the model's normalised float32 input."""
    scale = 255.0 * torch.tensor(std, dtype=torch.float32, device=pixels.device)
    shift = 255.0 * torch.tensor(mean, dtype=torch.float32, device=pixels.device)
    if _format_of(pixels) is torch.contiguous_format:
        return (pixels.float() - shift.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1)
    # Three channels side by side are too short a row for a CPU's vectors: whole lines are not.
    count, _, height, width = pixels.shape
    lines = pixels.float().permute(0, 2, 3, 1).reshape(count * height, width * 3)
    seen = (lines - shift.repeat(width)) / scale.repeat(width)
    return seen.view(count, height, width, 3).permute(0, 3, 1, 2)


def pgd_step(
    image: Tensor,
    delta: Tensor,
    gradient: Tensor,
    step: int,
    epsilon: int | Tensor,
    code: Tensor | None = None,
) -> Tensor:
    """Move ``delta`` one signed step down the gradient and project it.

    Args:
        image: uint8 ``[B, 3, H, W]``.
        delta: int8 of the same shape; ``image + delta`` lies in 0..255.
        gradient: of the loss with respect to the pixels or, the scale being positive, to the
            normalised input: any float dtype, same shape. Where it is 0 or NaN there is no step.
        step: step size in 8-bit levels, 1 to 127.
        epsilon: bound on ``|delta|`` in 8-bit levels, at most 127; one for all pixels, or int8 of
            the image's shape.
        code: int8 signs -1, 0, 1 of the same shape; no perturbation crosses zero against its sign.

    Returns:
        New int8 perturbation with ``|delta| <= epsilon`` and ``image + delta`` in 0..255
        (Madry et al. 2018, eq. 2; here every iterate is a real 8-bit image).
    """
    if not on_gpu(image):
        return pgd_step_reference(image, delta, gradient, step, epsilon, code)
    return _launch(image, delta, gradient, step, epsilon, code, _format_of(image), None)


def pgd_step_reference(
    image: Tensor,
    delta: Tensor,
    gradient: Tensor,
    step: int,
    epsilon: int | Tensor,
    code: Tensor | None = None,
) -> Tensor:
    """`pgd_step` in plain torch."""
    levels = image.to(torch.int16)
    published = delta.to(torch.int16).sub_(gradient.sign().to(torch.int16), alpha=step)
    if isinstance(epsilon, Tensor):
        bound = epsilon.to(torch.int16)
        published.clamp_(-bound, bound)
    else:
        published.clamp_(-epsilon, epsilon)
    published.add_(levels).clamp_(0, 255)
    moved = published.sub_(levels).to(torch.int8)
    return moved if code is None else moved.masked_fill_(moved * code < 0, 0)


def pgd_step_input(
    image: Tensor,
    delta: Tensor,
    gradient: Tensor,
    step: int,
    epsilon: int | Tensor,
    mean: Channels,
    std: Channels,
    *,
    code: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.channels_last,
) -> tuple[Tensor, Tensor]:
    """Take a `pgd_step` and return the new perturbation with the model input that it makes.

    One pass over memory on a GPU: 7 bytes an element where ``dtype`` has 2 bytes, one more for a
    code and one for a bound of each pixel, as long as every tensor lies in ``memory_format``
    already (others are copied into it).

    Args:
        image: see `pgd_step`, as ``delta``, ``gradient``, ``step``, ``epsilon`` and ``code``.
        delta: see above.
        gradient: see above.
        step: see above.
        epsilon: see above.
        mean: of each channel in [0, 1] pixel space.
        std: of each channel in [0, 1] pixel space.
        code: see above.
        dtype: of the model input: float32, bfloat16 or float16.
        memory_format: of both results, ``torch.channels_last`` or ``torch.contiguous_format``.

    Returns:
        int8 perturbation, and ``normalise_pixels(image + delta)`` rounded to ``dtype``; both equal
        the plain torch result bit for bit on every device.
    """
    if not on_gpu(image):
        moved = pgd_step_reference(image, delta, gradient, step, epsilon, code)
        levels = image.to(torch.int16) + moved.to(torch.int16)
        seen = normalise_pixels(levels, mean, std).to(dtype)
        return _laid(moved, memory_format), _laid(seen, memory_format)
    seen = torch.empty(image.shape, dtype=dtype, device=image.device, memory_format=memory_format)
    constants = _constants(mean, std)
    moved = _launch(image, delta, gradient, step, epsilon, code, memory_format, seen, constants)
    return moved, seen


def _laid(tensor: Tensor, memory_format: torch.memory_format) -> Tensor:
    return tensor.contiguous(memory_format=memory_format)


def _format_of(tensor: Tensor) -> torch.memory_format:
    if tensor.is_contiguous() or not tensor.is_contiguous(memory_format=torch.channels_last):
        return torch.contiguous_format
    return torch.channels_last


@cache
def _constants(mean: Channels, std: Channels) -> dict[str, float]:
    """Shift, scale and reciprocal scale of each channel, as float32 holds them."""
    scale = 255.0 * torch.tensor(std, dtype=torch.float32)
    shift = 255.0 * torch.tensor(mean, dtype=torch.float32)
    named = {"shift": shift, "scale": scale, "inverse": 1.0 / scale}
    return {f"{name}{c}": float(v[c]) for name, v in named.items() for c in range(3)}


def _launch(
    image: Tensor,
    delta: Tensor,
    gradient: Tensor,
    step: int,
    epsilon: int | Tensor,
    code: Tensor | None,
    memory_format: torch.memory_format,
    seen: Tensor | None,
    constants: dict[str, float] | None = None,
) -> Tensor:
    """Run the kernel; it writes ``seen`` where it is given."""
    image, delta, gradient = (_laid(t, memory_format) for t in (image, delta, gradient))
    moved = torch.empty_like(delta)
    if not image.numel():
        return moved
    last = memory_format == torch.channels_last
    plane = image.numel() if last else image.shape[2] * image.shape[3]
    _STEP.launch(
        (image.numel() // plane * -(-plane // _BLOCK),),
        image,
        delta,
        gradient,
        image if code is None else _laid(code, memory_format),
        _laid(epsilon, memory_format) if isinstance(epsilon, Tensor) else image,
        moved,
        image if seen is None else seen,
        plane=plane,
        step=step,
        epsilon=0 if isinstance(epsilon, Tensor) else epsilon,
        **(constants or _constants((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
        has_code=code is not None,
        has_bound=isinstance(epsilon, Tensor),
        has_input=seen is not None,
        channels_last=last,
        block=_BLOCK,
        num_warps=4,
    )
    return moved


def _step_kernel(  # type: ignore[no-untyped-def]
    image,
    delta,
    gradient,
    code,
    bound,
    moved,
    seen,
    plane,
    step,
    epsilon,
    shift0,
    shift1,
    shift2,
    scale0,
    scale1,
    scale2,
    inverse0,
    inverse1,
    inverse2,
    has_code: tl.constexpr,
    has_bound: tl.constexpr,
    has_input: tl.constexpr,
    channels_last: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Each program takes ``block`` neighbours in memory, of one channel unless channels last."""
    blocks = tl.cdiv(plane, block)
    which = tl.program_id(0) // blocks
    first = (tl.program_id(0) % blocks).to(tl.int64) * block
    base = which.to(tl.int64) * plane + first
    # Sixteen neighbours a thread: 16 bytes of levels, and channels that repeat in the same order.
    group, member = tl.arange(0, block // 16)[:, None], tl.arange(0, 16)[None, :]
    lane = group * 16 + member
    inside = lane < tl.minimum(plane - first, block).to(tl.int32)
    level = tl.load(image + base + lane, mask=inside, other=0).to(tl.int32)
    value = tl.load(delta + base + lane, mask=inside, other=0).to(tl.int32)
    pull = tl.load(gradient + base + lane, mask=inside, other=0).to(tl.float32)
    value = tl.where(pull > 0, value - step, tl.where(pull < 0, value + step, value))
    if has_bound:
        most = tl.load(bound + base + lane, mask=inside, other=0).to(tl.int32)
        value = tl.minimum(tl.maximum(value, -most), most)
    else:
        value = tl.minimum(tl.maximum(value, -epsilon), epsilon)
    value = tl.minimum(tl.maximum(value, -level), 255 - level)
    if has_code:
        sign = tl.load(code + base + lane, mask=inside, other=0).to(tl.int32)
        value = tl.where(value * sign < 0, 0, value)
    tl.store(moved + base + lane, value.to(tl.int8), mask=inside)
    if has_input:
        if channels_last:
            # 16 = 1 modulo 3: each group begins one channel after the one before it.
            channel = (group + (first % 3).to(tl.int32)) % 3 + member % 3
            channel = tl.where(channel < 3, channel, channel - 3)
        else:
            channel = which % 3
        shift = tl.where(channel == 0, shift0, tl.where(channel == 1, shift1, shift2))
        scale = tl.where(channel == 0, scale0, tl.where(channel == 1, scale1, scale2))
        inverse = tl.where(channel == 0, inverse0, tl.where(channel == 1, inverse1, inverse2))
        # The correctly rounded quotient, as torch has it, without the branches of a division: two
        # corrections by the exact remainder (Markstein 1990).
        pixel = (level + value).to(tl.float32) - shift
        result = pixel * inverse
        result = tl.fma(tl.fma(-result, scale, pixel), inverse, result)
        result = tl.fma(tl.fma(-result, scale, pixel), inverse, result)
        tl.store(seen + base + lane, result.to(seen.dtype.element_ty), mask=inside)


_STEP = LazyKernel(_step_kernel)
