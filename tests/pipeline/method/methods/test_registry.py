"""A new method is one file and one line: a toy is added by the recipe and runs in every command."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from runs import kept

from unlearnable.pipeline.data.manifest import manifest_url, read_manifest
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.evaluate.config import EvaluateConfig
from unlearnable.pipeline.evaluate.evaluate import evaluate
from unlearnable.pipeline.execution.config import FitRunConfig, ProtectConfig
from unlearnable.pipeline.execution.fit import fit
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.method.batch import Batch
from unlearnable.pipeline.method.methods import METHODS, get_method
from unlearnable.pipeline.method.methods.base import Replayed
from unlearnable.pipeline.verify.config import VerifyConfig
from unlearnable.pipeline.verify.verify import verify


class Brighter(Replayed):
    """Every pixel is one level brighter; no step is taken."""

    alternates = False

    def start(self, batch: Batch) -> None:
        for group, images in enumerate(batch.pixels.images):
            batch.pixels.set_delta(group, torch.ones_like(images, dtype=torch.int8))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("toy_method")
    module.METHOD = Brighter()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_method", module)
    monkeypatch.setitem(METHODS, "brighter", "toy_method")
    return "brighter"


def test_a_new_method_runs_from_fit_to_evaluate(corpus: Path, tmp_path: Path, toy: str) -> None:
    surrogate, output = str(tmp_path / "surrogate"), str(tmp_path / "out")
    small = {"image_size": 32, "context_length": 16, "batch_size": 16}
    fit(
        FitRunConfig(
            str(corpus), output=surrogate, method=toy, rounds=1, steps_per_round=1, **small
        )  # type: ignore[arg-type]
    )
    run = protect(
        ProtectConfig(str(corpus), output, surrogate=surrogate, method=toy, executor="local")
    )
    assert run.exit_code == 0
    rows, metadata = read_manifest(manifest_url(str(kept(Path(output))), "shard-000"))
    assert {row.linf for row in rows} == {1}
    assert all(row.trigger_tokens == [] for row in rows)
    assert '"method":"brighter"' in metadata["config"]
    assert verify(VerifyConfig(output, against=str(corpus))).exit_code == 0
    asked = EvaluateConfig(
        train=(f"clean={corpus}", f"copy={output}"),
        test=str(corpus),
        output=str(tmp_path / "results.json"),
        epochs=1,
        **small,  # type: ignore[arg-type]
    )
    results = evaluate(asked)
    assert results.names == ["clean", "copy"]


def test_a_method_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(
        UsageError, match="method 'nothing' is none of mem, em, tap, tap-untargeted, uap"
    ):
        get_method("nothing")


def test_a_method_without_surrogate_is_not_fitted(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="method random needs no surrogate"):
        fit(FitRunConfig(str(corpus), output=str(tmp_path / "s"), method="random"))
