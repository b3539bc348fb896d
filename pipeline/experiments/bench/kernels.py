"""Each kernel against its plain torch reference and, on a GPU, against copying memory.

Needs nothing but torch, and Triton on a GPU.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ....kernels.backend import on_gpu
from ....kernels.hotflip_topk import hotflip_topk, hotflip_topk_reference
from ....kernels.pgd_step import normalise_pixels, pgd_step_input, pgd_step_reference
from .record import Figure, seconds

SECTION = "kernels"
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_SIDE = 224


def bench_kernels(device: str, *, scale: float = 1.0) -> Iterator[Figure]:
    """Measure every kernel; ``scale`` shrinks the batches, for a first try."""
    gpu = device.startswith("cuda")
    copied = _copy_bandwidth(device, int((1 << 30 if gpu else 1 << 26) * scale))
    yield Figure(SECTION, "copy", "bandwidth", copied / 1e9, "GB/s")
    batch = max(1, int((256 if gpu else 16) * scale))
    for memory_format in (torch.channels_last, torch.contiguous_format):
        for dtype in (torch.bfloat16, torch.float32):
            yield from _pgd_step(device, batch, dtype, memory_format, copied)
    for positions in (1, 5):
        words = 49_408 if gpu else 8192
        rows = max(1, int((256 if gpu else 16) * scale))
        yield from _hotflip(device, rows, positions, words)


def _copy_bandwidth(device: str, size: int) -> float:
    """Bytes read and written a second by torch's own copy."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source), device)


def _compared(case: str, ours: float, reference: float) -> Iterator[Figure]:
    yield Figure(SECTION, case, "time", ours * 1e3, "ms")
    yield Figure(SECTION, case, "reference time", reference * 1e3, "ms")
    yield Figure(SECTION, case, "speed-up over reference", reference / ours, "ratio")


def _pixels(batch: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Image, its perturbation and a gradient, [B, 3, 224, 224]."""
    generator = torch.Generator(device).manual_seed(0)
    shape = (batch, 3, _SIDE, _SIDE)
    image = torch.randint(8, 248, shape, generator=generator, device=device, dtype=torch.uint8)
    delta = torch.randint(-8, 9, shape, generator=generator, device=device, dtype=torch.int8)
    return image, delta, torch.randn(shape, generator=generator, device=device)


def _pgd_step(
    device: str, batch: int, dtype: torch.dtype, memory_format: torch.memory_format, copied: float
) -> Iterator[Figure]:
    layout = "channels last" if memory_format == torch.channels_last else "contiguous"
    case = f"pgd_step {str(dtype).removeprefix('torch.')} {layout}"
    image, delta, gradient = (
        t.contiguous(memory_format=memory_format) for t in _pixels(batch, device)
    )
    gradient = gradient.to(dtype)

    def chain() -> tuple[Tensor, Tensor]:
        moved = pgd_step_reference(image, delta, gradient, 1, 8)
        levels = image.to(torch.int16) + moved.to(torch.int16)
        return moved, normalise_pixels(levels, _MEAN, _STD).to(dtype, memory_format=memory_format)

    ours: Callable[[], tuple[Tensor, Tensor]] = partial(
        pgd_step_input, image, delta, gradient, 1, 8, _MEAN, _STD,
        dtype=dtype, memory_format=memory_format,
    )  # fmt: skip
    equal = all(map(torch.equal, ours(), chain()))
    taken = seconds(ours, device)
    yield from _compared(case, taken, seconds(chain, device))
    yield Figure(SECTION, case, "equal to reference", float(equal), "share")
    if on_gpu(image):
        # Read: level, perturbation, gradient; written: perturbation, model input.
        moved = image.numel() * (3 + 2 * gradient.element_size())
        yield Figure(SECTION, case, "share of copy bandwidth", moved / taken / copied, "share")


def _hotflip(device: str, batch: int, positions: int, words: int) -> Iterator[Figure]:
    case = f"hotflip_topk {batch}x{positions}x{words}"
    generator = torch.Generator(device).manual_seed(0)
    gradient = torch.randn(batch, positions, 512, generator=generator, device=device)
    embedding = torch.randn(words, 512, generator=generator, device=device)

    def usual() -> Tensor:
        return (gradient @ embedding.T).topk(16, largest=False).indices

    ours = partial(hotflip_topk, gradient, embedding, 16)
    yield from _compared(case, seconds(ours, device), seconds(usual, device))
    # Words whose scores lie closer than rounding may change inputs.
    agreed = (ours() == hotflip_topk_reference(gradient, embedding, 16)).double().mean()
    yield Figure(SECTION, case, "words equal to reference", float(agreed), "share")
    if on_gpu(gradient):
        for name, function in (("memory", ours), ("reference memory", usual)):
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            function()
            most = torch.cuda.max_memory_allocated(device) - before
            yield Figure(SECTION, case, name, most / 1e6, "MB")
