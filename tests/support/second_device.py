"""A second device, for machines that have none: its tensors keep apart from the host's.

It computes on the processor, with operations taken apart as for any device without kernels of its
own, so that sums end in other digits. What a GPU refuses it refuses: tensors of both devices in one
operation. Run as a program, because a process can have one such device and keeps it to its end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from unlearnable.pipeline.method.config import FitConfig, MethodConfig
from unlearnable.pipeline.method.fit import fit_surrogate
from unlearnable.pipeline.method.protected import ProtectedBatch
from unlearnable.pipeline.method.protector import protect_batch
from unlearnable.pipeline.method.surrogate import Surrogate

DEVICE = "second"
_COPIES = ("_to_copy", "copy_", "_copy_from")
_WORDS = ("red", "dog", "blue", "ball", "car", "old", "small", "tree", "cat")
_CAPTIONS = [
    [f"a {_WORDS[i % 9]} {_WORDS[(5 * i + 1) % 9]}", f"the {_WORDS[i % 9]}"] for i in range(24)
]
# The model's own size, and sizes that are scaled to it.
_SIZES = ([(32, 32)] * 6, [(32, 32), (50, 40), (32, 32), (17, 90)])
FITS: Mapping[str, Mapping[str, Any]] = {
    "default": {"topics": False},
    "topics": {"topics": True},
    "two models": {"model": "tiny,tiny-vit", "topics": False},
    "views": {"views": ("crop", "flip", "resize", "jpeg"), "topics": False},
    "paper": {"schedule": "paper", "pgd_steps": 1},
    "em": {"method": "em", "pgd_steps": 1},
    "tap": {"method": "tap", "pgd_steps": 1},
    "uap": {"method": "uap", "pgd_steps": 1},
}
_COPIES_OF_EACH: Sequence[Mapping[str, Any]] = (
    {},
    {"steps": 2, "pixel_budget": 2000},
    {"steps": 2, "views": ("crop", "flip", "resize", "jpeg")},
)


class _Held(Tensor):
    """A tensor of the second device; ``raw`` holds its numbers."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> Self:
        held: Self = Tensor._make_wrapper_subclass(
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=f"{DEVICE}:0",
        )
        held.raw = raw
        return held

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.raw.tolist()


class _SecondDevice(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


def _raw(value: Any) -> Any:
    return value.raw if isinstance(value, _Held) else value


def _dispatch(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = func.overloadpacket.__name__
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    held = any(isinstance(tensor, _Held) for tensor in tensors)
    # Scalars may come from the host, and indices of what is read.
    stray = [t for t in tensors if not isinstance(t, _Held) and t.dim() and name != "index"]
    if held and stray and name not in _COPIES:
        raise RuntimeError(f"two devices in {func}: {[tuple(t.shape) for t in stray]} on the host")
    asked = kwargs.get("device")
    if asked is not None:
        held = torch.device(asked).type == DEVICE
        kwargs = kwargs | {"device": "cpu"}
    found = func(*tree_map(_raw, args), **tree_map(_raw, kwargs))
    if not func._schema.returns:
        return None
    if func._schema.is_mutable:
        return kwargs.get("out", args[0] if name.endswith("_") else found)
    return tree_map(lambda x: _Held(x) if isinstance(x, Tensor) else x, found) if held else found


def install() -> None:
    """Register the device, for good."""
    backend_registration._setup_privateuseone_for_python_backend(DEVICE)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    # Gradients through checkpoints ask every device for these.
    getattr(torch, DEVICE).get_amp_supported_dtype = lambda: [torch.bfloat16]
    library = torch.library.Library("aten", "IMPL")

    def like(size: Any, *_: Any, dtype: Any = None, **__: Any) -> Tensor:
        return _Held(torch.empty(size, dtype=dtype, device="cpu"))

    def strided(size: Any, stride: Any, dtype: Any = None, **_: Any) -> Tensor:
        return _Held(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))

    def copy(source: Tensor, target: Tensor, _: bool = False) -> Tensor:
        _raw(target).copy_(_raw(source))
        return target

    library.impl("empty.memory_format", like, "PrivateUse1")
    library.impl("empty_strided", strided, "PrivateUse1")
    library.impl("_copy_from", copy, "PrivateUse1")
    _keep.append(library)


_keep: list[Any] = []


def _pictures(sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (3, *size), generator=generator).to(torch.uint8) for size in sizes
    ]


def _on_second(work: Callable[[str], Any]) -> Any:
    with _SecondDevice():
        return work(DEVICE)


def _fitted(options: Mapping[str, Any], device: str) -> Surrogate:
    small = {"image_size": 32, "trigger_words": 3, "vocabulary": 4, "rounds": 1, "batch_size": 8}
    small |= {"key": "6b" * 32}
    config = FitConfig(**small | {"steps_per_round": 2} | options, device=device)
    return fit_surrogate(torch.stack(_pictures([(32, 32)] * 24)), _CAPTIONS, config)


def _same(here: ProtectedBatch, there: ProtectedBatch) -> bool:
    pixels = all(torch.equal(*pair) for pair in zip(here.delta, there.delta, strict=True))
    return pixels and here.trigger_ids == there.trigger_ids


def _protected(
    surrogate: Surrogate, sizes: Sequence[tuple[int, int]], config: MethodConfig, device: str
) -> ProtectedBatch:
    pictures = [255 - picture for picture in _pictures(sizes)]
    captions = _CAPTIONS[: len(pictures)]
    return protect_batch(surrogate, pictures, captions, config, seed=5, device=device)


def compare(name: str) -> dict[str, Any]:
    """Fit on both devices and protect pictures that the fit has not met, by the host's surrogate.

    Returns:
        Whether the devices keep apart, whether both fits chose the same words, and of every copy
        its steps, whether pixels and triggers are the same, and whether losses are, to the last
        digit.
    """
    here = _fitted(FITS[name], "cpu")
    there = _on_second(partial(_fitted, FITS[name]))
    copies = []
    for options in _COPIES_OF_EACH:
        method = FITS[name].get("method", "mem")
        config = MethodConfig(**{"precision": "fp32", "method": method, **options})
        for sizes in _SIZES:
            work = partial(_protected, here, sizes, config)
            found = work("cpu"), _on_second(work)
            losses = found[0].loss_after == found[1].loss_after
            steps, same = options.get("steps"), _same(*found)
            copies.append({"steps": steps, "same": same, "losses": losses})
    words = here.vocabulary == there.vocabulary
    return {"apart": _keeps_apart(), "words": words, "copies": copies}


def _keeps_apart() -> bool:
    with _SecondDevice():
        try:
            torch.ones(2).to(DEVICE) + torch.ones(2)
        except RuntimeError:
            return True
    return False


if __name__ == "__main__":
    install()
    json.dump(compare(sys.argv[1]), sys.stdout)
