"""`run`: one command from a folder of pictures to a verified copy; killed anywhere it goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pictures import write_captioned
from PIL import Image
from runs import Digests, Run, digests, kept

from unlearnable.jobs.cli import main
from unlearnable.jobs.run_config import WholeRunConfig
from unlearnable.pipeline.data.plan import read_plan
from unlearnable.pipeline.execution.artifact import load_surrogate
from unlearnable.pipeline.execution.config import FitRunConfig, ProtectConfig
from unlearnable.pipeline.execution.options import step_of
from unlearnable.pipeline.verify.config import VerifyConfig

# A fit of a moment, and three shards.
SHORT = (
    "--rounds", "1", "--steps-per-round", "1", "--no-topics",
    "--vocabulary", "2", "--trigger-words", "2", "--batch-size", "8", "--samples-per-shard", "8",
)  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_captioned(tmp_path_factory.mktemp("run") / "pictures")
    # Without a key each fit draws one of its own.
    folder.with_name("key").write_text("5a" * 32)
    return folder


def line(pictures: Path, output: Path, *more: str) -> list[str]:
    key = str(pictures.with_name("key"))
    return ["run", str(pictures), str(output), *SHORT, "--key", key, *more]


def shards(output: Path) -> Digests:
    """The shards alone: manifests name the surrogate, which names the folder it was fitted on."""
    return {name: value for name, value in digests(output).items() if name.endswith(".tar")}


@pytest.fixture(scope="module")
def output(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that an undisturbed run has written."""
    output = tmp_path_factory.mktemp("undisturbed") / "copy"
    assert main(line(pictures, output, "--owner", "The Example Archive")) == 0
    return output


@pytest.fixture(scope="module")
def undisturbed(output: Path) -> Digests:
    found = shards(output)
    assert len(found) == 3
    return found


def test_one_command_takes_a_folder_to_a_verified_copy_and_is_idempotent(
    pictures: Path, output: Path, run: Run
) -> None:
    assert "<html" in Path(f"{output}-report.html").read_text()
    assert "The Example Archive" in (output / "README.md").read_text()
    before = {path: path.stat().st_mtime_ns for path in output.glob("*.tar")}
    code, told = run(*line(pictures, output, "--owner", "The Example Archive"))
    assert code == 0
    assert "step 1 of 5, pack" in told
    assert "step 5 of 5, report" in told
    assert "left in all" in told
    assert "is there already and is kept" in told
    assert f"publish  {output}" in told
    for name in ("record", "surrogate", "shards"):
        assert f"keep     {output}-{name}" in told
    assert {path: path.stat().st_mtime_ns for path in output.glob("*.tar")} == before
    assert run("publish", output)[0] == 0


def test_the_exit_code_is_that_of_the_step_that_failed(
    pictures: Path, output: Path, undisturbed: Digests, run: Run
) -> None:
    shard = min(output.glob("*.tar"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-2048])
    code, told = run(*line(pictures, output))
    assert code == 4
    assert "the run stops here: verify ended with 4" in told
    code, told = run(*line(pictures, output, "--image-format", "webp"))
    assert code == 2
    assert "belongs to another configuration" in told
    shard.write_bytes(whole)


def test_every_option_reaches_its_step(pictures: Path, tmp_path: Path, run: Run) -> None:
    output = tmp_path / "copy"
    settings = tmp_path / "run.yaml"
    settings.write_text("epsilon: 4\nstrength: gentle\nmax-quarantined: 0.5\nreserve: true\n")
    more = ("--config", settings, "--image-format", "webp", "--html", tmp_path / "page.html")
    code, told = run(*line(pictures, output), *more, "--surrogate", tmp_path / "fitted")
    assert code == 0, told
    assert "step 2 of 5, fit: 1 of 1 steps, " in told
    plan = read_plan(str(kept(output)))
    assert plan is not None
    assert plan.config["mem"]["epsilon"] == 4
    assert (plan.config["image_format"], plan.config["trigger_words"]) == ("webp", 2)
    assert plan.request["max_quarantined"] == 0.5
    assert plan.config["reserve"] is True
    fitted = load_surrogate(str(tmp_path / "fitted"))[0].meta["fit"]
    assert (fitted["epsilon"], fitted["strength"], fitted["batch_size"]) == (4, "gentle", 8)
    assert (tmp_path / "page.html").exists()


def test_a_step_takes_what_was_changed_and_keeps_its_own_defaults() -> None:
    config = WholeRunConfig("in", "out", seed=3)
    fit = step_of(FitRunConfig, config, input="shards", output="fitted")
    assert fit == FitRunConfig("shards", output="fitted", seed=3)
    assert (fit.trigger_words, fit.torch_threads) == (3, 0)
    protect = step_of(ProtectConfig, config, surrogate="fitted")
    assert protect == ProtectConfig("in", "out", seed=3, surrogate="fitted")
    changed = WholeRunConfig("in", "out", trigger_words=5, workers=2, max_pixels=9)
    assert step_of(FitRunConfig, changed, output="fitted").trigger_words == 5
    assert step_of(ProtectConfig, changed).trigger_words == 5
    assert step_of(VerifyConfig, changed, against="in") == VerifyConfig(
        "out", against="in", workers=2, max_pixels=9
    )


def test_a_surrogate_that_is_there_is_taken_unless_another_was_asked_for(
    corpus: Path, surrogate: str, tmp_path: Path, run: Run
) -> None:
    output = tmp_path / "copy"
    base = ("run", corpus, output, "--surrogate", surrogate, "--batch-size", "20")
    code, told = run(*base, "--vocabulary", "5")
    assert code == 2
    assert "fitted with vocabulary 4, this run has 5" in told
    assert not output.exists()
    (tmp_path / "key").write_text("5a" * 32)
    code, told = run(*base, "--key", tmp_path / "key")
    assert code == 2
    assert "fitted with key 'another one'" in told
    code, told = run(*base)
    assert code == 0
    assert "is there already and is kept" in told
    assert f"keep     {output}-shards" not in told


def test_noise_needs_no_surrogate(corpus: Path, tmp_path: Path, run: Run) -> None:
    output = tmp_path / "copy"
    code, told = run("run", corpus, output, "--method", "random")
    assert code == 0, told
    assert "step 1 of 3, protect" in told
    assert "the surrogate:" not in told
    assert not Path(f"{output}-surrogate").exists()


def test_a_table_that_loses_pictures_ends_with_3(pictures: Path, tmp_path: Path, run: Run) -> None:
    table = tmp_path / "captions.csv"
    table.write_text((pictures / "captions.csv").read_text() + "gone.png,a picture that is gone\n")
    code, told = run(*line(pictures, tmp_path / "copy", "--captions", str(table)))
    assert code == 3
    assert "pack ended with 3" in told
    more = ("--captions", str(table), "--max-left-out", "0.5", "--dry-run")
    code, told = run(*line(pictures, tmp_path / "copy", *more))
    assert code == 0
    assert "Nothing was written" in told
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--html", "copy/page.html"), "would be published with it"),
        (("--surrogate", "copy/fitted"), "would be published with it"),
        (("--slice", "0/2"), "takes no --slice"),
        (("--workers", "2", "--executor", "local"), "use --executor ray"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_first(
    more: tuple[str, str], why: str, pictures: Path, tmp_path: Path, run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, told = run(*line(pictures, Path("copy")), *more)
    assert code == 2
    assert why in told
    assert list(tmp_path.iterdir()) == []


def test_names_are_no_captions(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (32, 32)).save(folder / "a red boat.png")
    code, told = run("run", folder, tmp_path / "copy")
    assert code == 2
    assert "File names are not taken as captions" in told
    assert "captions.csv" in told
    assert not (tmp_path / "copy").exists()


def start(pictures: Path, output: Path, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "unlearnable", *line(pictures, output)]
    return subprocess.Popen(words, stderr=stderr, start_new_session=True, text=True)


def end(process: subprocess.Popen[str]) -> int:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait(timeout=60)


def test_killed_between_steps_the_same_command_goes_on(
    pictures: Path, tmp_path: Path, undisturbed: Digests, run: Run
) -> None:
    output = tmp_path / "copy"
    process = start(pictures, output)
    try:
        fitted = Path(f"{output}-surrogate") / "surrogate.json"
        while not fitted.exists() and process.poll() is None:
            time.sleep(0.01)
    finally:
        assert end(process) == -signal.SIGKILL
    assert not (output / "_SUCCESS").exists()
    code, told = run(*line(pictures, output))
    assert code == 0, told
    assert "is there already and is kept" in told
    assert shards(output) == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2))
def test_killed_in_any_step_the_same_command_goes_on(
    seed: int, pictures: Path, tmp_path: Path, undisturbed: Digests, run: Run
) -> None:
    output = tmp_path / "copy"
    rng = random.Random(seed)
    steps = ["pack", "fit", "protect", "verify", "report"]
    for name in rng.sample(steps, len(steps)):
        process = start(pictures, output, subprocess.PIPE)
        assert process.stderr is not None
        try:
            assert any(f"of 5, {name}" in text for text in process.stderr), name
            time.sleep(rng.uniform(0, 1))
        finally:
            end(process)
            process.stderr.close()
    code, told = run(*line(pictures, output))
    assert code == 0, told
    assert shards(output) == undisturbed
