"""A fit that was interrupted between two rounds ends as one that was not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from unlearnable.pipeline.execution import fit as fit_run
from unlearnable.pipeline.execution.checkpoint import NAME, Checkpoint
from unlearnable.pipeline.execution.config import FitRunConfig
from unlearnable.pipeline.method.rounds import State


def settings(corpus: Path, output: Path, method: str, seed: int = 0) -> FitRunConfig:
    return FitRunConfig(
        str(corpus),
        output=str(output),
        method=method,  # type: ignore[arg-type]
        schedule="paper",
        trigger_words=2,
        rounds=3,
        steps_per_round=2,
        pgd_steps=1,
        batch_size=20,
        image_size=32,
        torch_threads=1,
        seed=seed,
        overwrite=True,
    )


class _PowerCutError(Exception):
    pass


@pytest.mark.parametrize("method", ["mem", "uap"])
def test_an_interrupted_fit_goes_on_and_ends_with_the_same_artifact(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    whole = fit_run.fit(settings(corpus, tmp_path / "whole", method))
    save, load, rounds = Checkpoint.save, Checkpoint.load, []

    def cut(self: Checkpoint, state: State) -> None:
        save(self, state)
        if len(state["curve"]) == 2:
            raise _PowerCutError

    def tell(self: Checkpoint) -> State | None:
        state = load(self)
        rounds.append(0 if state is None else len(state["curve"]))
        return state

    output = tmp_path / "cut"
    monkeypatch.setattr(Checkpoint, "load", tell)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", cut)
        with pytest.raises(_PowerCutError):
            fit_run.fit(settings(corpus, output, method))
    assert [path.name for path in output.iterdir()] == [NAME]
    again = fit_run.fit(settings(corpus, output, method))
    assert rounds == [0, 2]
    assert again.sha256 == whole.sha256
    assert not (output / NAME).exists()


def test_a_checkpoint_of_another_fit_or_a_damaged_one_is_not_taken_up(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = fit_run.fit(settings(corpus, tmp_path / "whole", "em", seed=1))
    monkeypatch.setattr(Checkpoint, "remove", lambda _: None)
    output = tmp_path / "used"
    fit_run.fit(settings(corpus, output, "em", seed=0))
    assert fit_run.fit(settings(corpus, output, "em", seed=1)).sha256 == whole.sha256
    kept = (output / NAME).read_bytes()
    cut = (b"", b"no checkpoint", kept[: len(kept) // 2], b"\x80\x02" + kept[2:])
    for number, damaged in enumerate(cut, 1):
        (output / NAME).write_bytes(damaged)
        assert fit_run.fit(settings(corpus, output, "em", seed=1)).sha256 == whole.sha256
        assert caplog.text.count("begins anew") == number
    digest = hashlib.sha256((output / "weights.safetensors").read_bytes()).hexdigest()
    expected = hashlib.sha256((tmp_path / "whole/weights.safetensors").read_bytes()).hexdigest()
    assert digest == expected
