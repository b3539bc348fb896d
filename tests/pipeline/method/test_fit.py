"""How many steps a fit takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from unlearnable.pipeline.method import fit as module
from unlearnable.pipeline.method.config import FitConfig
from unlearnable.pipeline.method.fit import fit_surrogate

SETTINGS = FitConfig(image_size=32, batch_size=4, topics=False, key="6b" * 32)


@pytest.mark.parametrize(("samples", "asked", "taken"), [(12, None, 6), (3, None, 2), (12, 9, 9)])
def test_a_small_corpus_takes_few_passes_unless_steps_are_asked_for(
    samples: int, asked: int | None, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PASSES", 2)
    images = torch.zeros(samples, 3, 32, 32, dtype=torch.uint8)
    captions = [["a dog"]] * samples
    surrogate = fit_surrogate(images, captions, replace(SETTINGS, steps_per_round=asked))
    assert surrogate.meta["passes"]["image_forward"] == taken * min(samples, 4)
    assert surrogate.meta["fit"]["steps_per_round"] == taken
