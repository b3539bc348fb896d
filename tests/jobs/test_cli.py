"""The command line: where options come from, and how each ending is reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs import random_options

import unlearnable
from unlearnable.jobs.cli import build_app, main
from unlearnable.jobs.options import FileOptions, split_numbers
from unlearnable.pipeline.errors import UsageError

COMMANDS = (
    "data", "fit", "protect", "verify", "evaluate", "status", "retry", "restore", "bench", "demo"
)  # fmt: skip


def parsed(*tokens: str, file: Path | None = None) -> Any:
    """The configuration that a command would run with."""
    app = build_app()
    if file is not None:
        app.config = (FileOptions(str(file)), split_numbers)
    _, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    return bound.arguments["config"]


def refused(capsys: pytest.CaptureFixture[str], *tokens: str) -> str:
    """The one line that a refused command line prints."""
    assert main(tokens) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("unlearnable: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.fixture
def yaml_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("epsilon: 4\nimage-format: webp\ncaption_fields: [title, alt]\ndry_run: true\n")
    return path


def test_options_from_the_command_line() -> None:
    config = parsed("protect", "in", "out", "--epsilon", "6", "--workers", "2", "--dry-run")
    assert (config.input, config.output, config.epsilon, config.workers) == ("in", "out", 6, 2)
    assert config.dry_run is True
    assert config.seed == 0


def test_gpus_may_be_a_fraction_or_auto() -> None:
    assert parsed("protect", "in", "out", "--gpus-per-worker", "0.25").gpus_per_worker == 0.25
    assert parsed("protect", "in", "out").gpus_per_worker == "auto"


@pytest.mark.parametrize("seeds", [("0,1,2",), ("0", "1", "2"), ("0,1", "2")])
def test_number_lists_take_commas_and_spaces(seeds: tuple[str, ...]) -> None:
    line = ("evaluate", "--train", "a=x", "b=y", "--test", "z", "--output", "r", "--seeds", *seeds)
    config = parsed(*line)
    assert config.seeds == (0, 1, 2)
    assert config.train == ("a=x", "b=y")


def test_options_from_a_file_and_the_command_line_wins(yaml_file: Path) -> None:
    config = parsed("protect", "in", "out", file=yaml_file)
    assert (config.epsilon, config.image_format, config.dry_run) == (4, "webp", True)
    assert config.caption_fields == ("title", "alt")
    config = parsed("protect", "in", "out", "--epsilon", "2", "--no-dry-run", file=yaml_file)
    assert (config.epsilon, config.image_format, config.dry_run) == (2, "webp", False)


def test_positional_arguments_may_stand_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("input: shards\noutput: copy\nseed: 3\n")
    config = parsed("protect", file=path)
    assert (config.input, config.output, config.seed) == ("shards", "copy", 3)


def test_empty_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("# nothing yet\n")
    assert parsed("protect", "in", "out", file=path) == parsed("protect", "in", "out")


def test_config_option_is_read_wherever_it_stands(
    yaml_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml_file.write_text("epsilom: 4\n")
    for line in (
        ("--config", str(yaml_file), "protect", "in", "out"),
        ("protect", "in", "out", f"--config={yaml_file}"),
    ):
        message = refused(capsys, *line)
        assert "'epsilom'" in message
        assert "did you mean 'epsilon'" in message
        assert str(yaml_file) in message


def test_null_in_a_file_leaves_an_option_unset(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("surrogate: null\nsteps: ~\n")
    assert parsed("protect", "in", "out", file=path) == parsed("protect", "in", "out")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("- epsilon\n", "one mapping"),
        ("epsilon: [1\n", "not YAML"),
        ("4: epsilon\n", "one mapping"),
        ("seed: 2024-13-45\n", "not YAML"),
        ("epsilon: many\n", "many"),
        ("no-dry-run: true\n", "did you mean 'dry-run'"),
        ("config: other.yaml\n", "'config' is no option"),
        ("image-format: gif\n", "gif"),
    ],
)
def test_bad_files_are_refused(
    content: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content)
    assert part in refused(capsys, "protect", "in", "out", "--config", str(path))


def test_a_pattern_that_the_shell_made_words_of(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "protect", "a-000.tar", "a-001.tar", "a-002.tar", "out")
    assert "too many arguments: a-002.tar out; quote a pattern" in message


def test_missing_config_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot read --config nowhere.yaml" in refused(
        capsys, "protect", "in", "out", "--config", "nowhere.yaml"
    )


def test_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not YAML"):
        FileOptions(str(path))


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("protect in out --epsilom 3", "--epsilon"),
        ("protect in", "--output"),
        ("protect in out more", "more"),
        ("protect in out --epsilon much", "much"),
        ("protect in out --executor rai", '"ray"'),
        ("protcet in out", '"protect"'),
        ("fit in", "--output"),
        ("status", "--output"),
    ],
)
def test_wrong_command_lines_name_the_remedy(
    line: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refused(capsys, *line.split())


@pytest.mark.parametrize(
    "line",
    [
        "protect {nowhere} {out} --method random",
        "fit {nowhere} --output {out}",
        "status {nowhere}",
        "retry {nowhere}",
        "restore {nowhere} {out}",
    ],
)
def test_users_mistakes_end_in_one_line(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere, out = tmp_path / "nowhere", tmp_path / "out"
    assert str(nowhere) in refused(capsys, *line.format(nowhere=nowhere, out=out).split())
    assert not out.exists()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == unlearnable.__version__


def test_help_names_every_command_and_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert all(any(f" {name} " in line for line in lines) for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_no_heavy_library_and_is_quick(command: str) -> None:
    heavy = {"torch", "ray", "pyarrow", "open_clip", "matplotlib", "fsspec"}
    script = (
        "import sys, time; from unlearnable.jobs.cli import main; main(sys.argv[1:]);"
        f"print(time.process_time(), *({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    line = [sys.executable, "-c", script, command, "--help"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    seconds, *loaded = done.stderr.split()
    assert loaded == []
    assert float(seconds) < 1.0
    assert f"unlearnable {command}" in done.stdout


def test_module_runs_as_the_command() -> None:
    line = [sys.executable, "-m", "unlearnable", "protect", "--epsilom", "1"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_defects_keep_their_traceback() -> None:
    script = (
        "import sys; sys.modules['unlearnable.pipeline.execution.status'] = None\n"
        "from unlearnable.jobs.cli import main; sys.exit(main(['status', 'x']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_command_with_their_code(
    signum: signal.Signals, code: int, tmp_path: Path
) -> None:
    pipe = tmp_path / "run.yaml"
    os.mkfifo(pipe)
    line = [sys.executable, "-m", "unlearnable", "protect", "in", "out", "--config", str(pipe)]
    with (
        subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process,
        pipe.open("w"),  # returns when the command has begun to read its options
    ):
        process.send_signal(signum)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "resume" in errors
    assert "Traceback" not in errors


def test_a_reader_that_leaves_early_changes_no_exit_code(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert main(random_options(corpus, output)) == 0
    for shard in output.glob("*.tar"):
        shard.write_bytes(b"")
    for line, code in ((["status", str(output)], 0), (["verify", str(output)], 4)):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [sys.executable, "-m", "unlearnable", *line],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(writing)
        assert (done.returncode, "Error" in done.stderr) == (code, False), done.stderr
