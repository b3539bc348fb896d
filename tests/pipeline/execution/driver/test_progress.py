"""Progress: samples in work count, the steps of a run are one display, silence is told."""

from __future__ import annotations

import logging
import os
import pty
import re
import subprocess
import sys
import termios
import time

import pytest

from unlearnable.pipeline.execution.driver import progress as module
from unlearnable.pipeline.execution.driver.progress import Progress, Steps, duration


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="unlearnable")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (16.8, "17 s"), (150, "2 min"), (9000, "2.5 h"), (400_000, "4.6 days")],
)
def test_a_time_reads_as_people_say_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_last_unit_is_always_told(caplog: pytest.LogCaptureFixture) -> None:
    with Progress(2) as progress:
        progress.update(10)
        assert not caplog.messages
        progress.update(10)
    (line,) = caplog.messages
    assert line.startswith("2 of 2 shards, ")
    assert "samples/s, about 0 s left" in line


def test_samples_in_work_move_the_share() -> None:
    done = [0]
    with Progress(4, 1, in_work=lambda: done[0]) as progress:
        progress.update(20)
        assert progress.share == pytest.approx(1 / 3)
        done[0] = 10
        assert progress.share == pytest.approx(0.5)
        assert progress.render()[0] == pytest.approx(0.25 + 0.5 * 0.75)


def test_the_first_shard_is_measured_where_the_collection_is_known() -> None:
    with (
        Steps({"protect": 10.0}) as steps,
        steps.step("protect"),
        Progress(1, in_work=lambda: 75) as progress,
    ):
        assert progress.share == 0.0
        assert "0 of 1 shards, 75 samples" in steps.render()[1]
        steps.samples = 300
        assert progress.share == 0.25


def test_steps_are_one_run_and_what_was_measured_corrects_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Steps({"pack": 0.1, "protect": 0.3, "verify": 100.0}) as steps:
        with steps.step("pack"):
            time.sleep(0.2)
        with steps.step("protect"), Progress(2) as progress:
            progress.update(5)
            share, text = steps.render()
            assert share == pytest.approx((0.1 + 0.15) / 100.4)
            assert text.startswith("step 2 of 3, protect: 1 of 2 shards, ")
            # This machine took at least 0.2 s for 0.25 expected ones.
            assert "left in all" in text
            steps.expect({"verify": 0.1, "unknown": 9.0})
            assert steps.render()[0] == pytest.approx(0.25 / 0.5)
    assert caplog.messages[0].startswith("step 1 of 3, pack, about ")
    assert caplog.messages[1].startswith("step 2 of 3, protect, about ")


def test_a_step_that_was_done_before_says_nothing_about_the_machine() -> None:
    with Steps({"fit": 1000.0, "protect": 50.0}) as steps:
        with steps.step("fit"):
            pass
        with steps.step("protect"):
            assert "about 50 s left in all" in steps.render()[1]


def test_a_short_step_says_little_about_long_ones() -> None:
    with Steps({"pack": 0.5, "fit": 100.0}) as steps:
        with steps.step("pack"):
            time.sleep(0.06)
        with steps.step("fit"):
            assert re.search("about 9[789] s left in all", steps.render()[1])


def test_long_work_that_reports_nothing_is_not_silent(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LINE_SECONDS", 0.05)
    monkeypatch.setattr(module, "_TICK_SECONDS", 0.05)
    with Steps({"fit": 0.1}) as steps, steps.step("fit"):
        time.sleep(0.5)
    assert len(caplog.messages) >= 3
    assert "step 1 of 1, fit, for 0 s, longer than expected" in caplog.messages


SCRIPT = """
import logging, time
from unlearnable.pipeline.execution.driver.progress import Progress, Steps
logging.basicConfig(level=logging.INFO, format="%(message)s")
with Steps({"fit": 1.0, "protect": 1.0}) as steps:
    with steps.step("fit"):
        logging.info("a line of the log")
    with steps.step("protect"), Progress(2) as progress:
        progress.update(3)
        progress.update(3)
"""


def test_a_terminal_shows_one_bar_and_the_log_above_it() -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    try:
        line = [sys.executable, "-c", SCRIPT]
        subprocess.run(line, stderr=theirs, check=True, timeout=120)
        told = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "step 2 of 2, protect: 2 of 2 shards" in told
    assert "100 % |" in told
    assert "a line of the log\r\n" in told
    # One bar, redrawn: nothing but it and the line of the log takes a line of its own.
    assert told.count("\n") == 2
