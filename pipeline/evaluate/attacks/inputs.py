"""What an attack on captions or on a whole corpus is given."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from PIL import Image

from ..pairs import Pairs


class Trigger(NamedTuple):
    """What an attacker knows of a published corpus: words of a trigger, bound in 8-bit levels."""

    words: int
    epsilon: int


@dataclass(frozen=True)
class Inputs:
    """What an attack may use.

    Attributes:
        value: its argument; 0 where it takes none.
        seed: decides all that is random.
        path: raw file for new pixels.
        device: where a network is trained.
        threads: of tensor operations.
        clean: the unprotected corpus, for attacks that need ``clean``; else unset.
        trigger: for attacks that need ``trigger``; else unset.
        published: gives the pictures of the copy one by one, for attacks that survey it.
        own: gives clean pictures of the attacker's own, for attacks that need ``own``.
        is_rest: the corpus is the unprotected one, of which the attack leaves a control.
    """

    value: float
    seed: int
    path: str
    device: torch.device
    threads: int = 1
    clean: Pairs = None  # type: ignore[assignment]
    trigger: Trigger = None  # type: ignore[assignment]
    published: Callable[[], Iterator[Image.Image]] = lambda: iter(())
    own: Callable[[], Iterator[Image.Image]] = lambda: iter(())
    is_rest: bool = False
