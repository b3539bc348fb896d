"""Victims that start from weights, and the weights that victims leave."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.evaluate.checkpoints import load_weights
from unlearnable.pipeline.evaluate.config import EvaluateConfig
from unlearnable.pipeline.evaluate.evaluate import evaluate
from unlearnable.pipeline.method.models import build_model


@pytest.fixture
def config(corpus: Path, tmp_path: Path) -> EvaluateConfig:
    return EvaluateConfig(
        train=(f"clean={corpus}",),
        test=str(corpus),
        output=str(tmp_path / "results.json"),
        weights=str(tmp_path / "weights"),
        image_size=32,
        epochs=1,
        batch_size=40,
        device="cpu",
    )


def test_a_victim_goes_on_from_the_weights_of_another(
    config: EvaluateConfig, tmp_path: Path
) -> None:
    first = evaluate(config).cells[0]
    path = tmp_path / "weights/clean-seed0.safetensors"
    assert "init_sha256" not in first.config
    further = replace(
        config, init=str(path), seeds=(1,), output=str(tmp_path / "2.json"), weights=None
    )
    second = evaluate(further).cells[0]
    scratch = evaluate(replace(further, init=None, output=str(tmp_path / "3.json"))).cells[0]
    assert second.curve[0].train_loss is not None
    assert scratch.curve[0].train_loss is not None
    assert second.curve[0].train_loss < scratch.curve[0].train_loss
    assert len(second.config["init_sha256"]) == 64
    assert str(tmp_path) not in str(second.config)

    path.unlink()
    assert evaluate(config).cells[0].curve == first.curve
    assert path.exists(), "a finished victim whose weights are gone is trained again"


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_weights_for_longer_captions_are_fitted_to_the_model(tmp_path: Path, suffix: str) -> None:
    wide = build_model("tiny", image_size=32, context_length=24, seed=5)
    path = tmp_path / f"wide.{suffix}"
    if suffix == "pt":
        torch.save({"state_dict": wide.state_dict()}, path)
    else:
        save_file({k: v.contiguous() for k, v in wide.state_dict().items()}, path)
    model = build_model("tiny", image_size=32, context_length=16, seed=1)
    load_weights(model, str(path))
    assert torch.equal(model.token_embedding.weight, wide.token_embedding.weight)
    assert model.positional_embedding.shape[0] == 16


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code of a checkpoint was run')",)


def test_what_is_no_checkpoint_of_the_model_is_refused(
    config: EvaluateConfig, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.pt cannot be read"):
        evaluate(replace(config, init=str(tmp_path / "nowhere.pt")))
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    with pytest.raises(UsageError, match="does not fit the model: Missing key"):
        evaluate(replace(config, init=str(other)))
    for name, content in {
        "text.pt": b"no weights",
        "cut.safetensors": other.read_bytes()[:-3],
        "code.pt": pickle.dumps(_Payload()),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=f"{name} is no file of weights"):
            evaluate(replace(config, init=str(tmp_path / name)))
    assert not Path(config.output).exists()
    assert "weight" in load_file(other)
