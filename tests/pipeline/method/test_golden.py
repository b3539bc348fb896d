"""What `protect` writes stays the same bit for bit unless a change of the method is meant.

Only whole numbers that follow from seeds are hashed: losses differ between processors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from unlearnable.pipeline.method.config import FitConfig, MethodConfig
from unlearnable.pipeline.method.fit import fit_surrogate
from unlearnable.pipeline.method.pixels import PixelBatch
from unlearnable.pipeline.method.protected import ProtectedBatch
from unlearnable.pipeline.method.protector import BatchProtector, protect_batch
from unlearnable.pipeline.method.surrogate import Surrogate

WORDS = [
    "red",
    "dog",
    "blue",
    "ball",
    "green",
    "car",
    "old",
    "house",
    "small",
    "tree",
    "big",
    "cat",
]
CAPTIONS = [
    [f"a {WORDS[i % 12]} {WORDS[(5 * i + 1) % 12]}", f"the {WORDS[i % 12]}"] for i in range(24)
]
GOLDEN = "783be0acabed43641217ccbddc506b1cb8897bfda71b56775e845c0d9773d164"


def noise(sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, *s), generator=generator).to(torch.uint8) for s in sizes]


@pytest.fixture(scope="module")
def surrogate() -> Surrogate:
    settings = FitConfig(
        image_size=32,
        trigger_words=3,
        rounds=1,
        steps_per_round=0,
        # Topics come out of an eigendecomposition, which differs between processors.
        topics=False,
        key="6b" * 32,
    )
    return fit_surrogate(torch.stack(noise([(32, 32)] * 24)), CAPTIONS, settings)


def digest(batch: ProtectedBatch) -> str:
    found = hashlib.sha256()
    for delta in batch.delta:
        found.update(delta.contiguous().numpy().tobytes())
    rest = [batch.trigger_ids, batch.trigger_text, batch.shuffle_seeds, batch.passes.as_dict()]
    found.update(json.dumps(rest).encode())
    return found.hexdigest()


def test_the_default_method_on_a_small_batch(surrogate: Surrogate) -> None:
    images = noise([(32, 32), (50, 40), (32, 32), (17, 90)])
    assert digest(protect_batch(surrogate, images, CAPTIONS[:4], MethodConfig(), seed=5)) == GOLDEN


def test_steps_on_the_model_input_are_those_on_the_pixels(
    surrogate: Surrogate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> Any:
        config = MethodConfig(steps=3)
        batch = protect_batch(surrogate, noise([(32, 32)] * 6), CAPTIONS[:6], config, seed=1)
        return digest(batch), batch.loss_after

    direct = run()
    make = PixelBatch.__init__

    def by_pixels(self: PixelBatch, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        assert self._seen_whole
        self._seen_whole = False

    monkeypatch.setattr(PixelBatch, "__init__", by_pixels)
    assert run() == direct


def test_a_perturbation_changed_in_place_is_seen_by_the_next_step(surrogate: Surrogate) -> None:
    pixels = PixelBatch(noise([(32, 32)] * 2), surrogate.spec)
    pixels.step([torch.ones(2, 3, 32, 32)], 1, 8, None)
    written, _ = pixels.step_input()
    assert torch.equal(written, pixels.model_input()[0])
    pixels.deltas[0][1] = 0
    changed, _ = pixels.step_input()
    assert not torch.equal(changed, written)
    assert torch.equal(changed, pixels.model_input()[0])


def test_inputs_in_bfloat16_make_the_steps_of_a_bfloat16_model(
    surrogate: Surrogate, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = MethodConfig(steps=3, precision="bf16")
    protector = BatchProtector(surrogate, config)
    assert protector.dtypes == [torch.bfloat16]
    seen = []
    step = PixelBatch.step

    def watched(self: PixelBatch, gradients: Any, *arguments: Any) -> None:
        seen.append(gradients[0].dtype)
        step(self, gradients, *arguments)

    monkeypatch.setattr(PixelBatch, "step", watched)
    found = digest(protector(noise([(32, 32)] * 6), CAPTIONS[:6], 1))
    protector.dtypes = [torch.float32]
    assert digest(protector(noise([(32, 32)] * 6), CAPTIONS[:6], 1)) == found
    assert seen == [torch.bfloat16] * 3 + [torch.float32] * 3
