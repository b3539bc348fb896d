"""The alternation of a fit: patterns are laid when they are needed."""

from __future__ import annotations

import torch

from unlearnable.pipeline.method.captions import Captions
from unlearnable.pipeline.method.config import FitConfig
from unlearnable.pipeline.method.models import get_tokenizer
from unlearnable.pipeline.method.rounds import Rounds

SETTINGS = FitConfig(
    image_size=32,
    context_length=16,
    vocabulary=4,
    batch_size=4,
    steps_per_round=3,
    texture=0.5,
    topics=False,
    key="6b" * 32,
)


def rounds() -> Rounds:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 3, 32, 32), generator=generator).to(torch.uint8)
    texts = [[f"a dog and {number} cats"] for number in range(12)]
    return Rounds(images, Captions(texts, get_tokenizer("tiny", 16)), SETTINGS)


def test_patterns_are_laid_once_and_only_where_a_step_looks() -> None:
    parts, whole = rounds(), rounds()
    whole._lay(torch.arange(12))
    parts._lay(torch.tensor([7, 2]))
    assert parts.is_laid.nonzero().flatten().tolist() == [2, 7]
    assert torch.equal(parts.deltas[[2, 7]], whole.deltas[[2, 7]])
    assert not parts.deltas[0].any()
    assert whole.deltas.flatten(1).any(dim=1).all()
    # What steps have changed since is not laid again.
    parts.deltas[7] = 1
    parts._lay(torch.arange(12))
    assert parts.deltas[7].eq(1).all()
    parts.deltas[7] = whole.deltas[7]
    assert torch.equal(parts.deltas, whole.deltas)
