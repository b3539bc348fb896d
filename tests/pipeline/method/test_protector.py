"""The settings that run, and the name of what they make."""

from __future__ import annotations

import pytest

from unlearnable.pipeline.method.config import MethodConfig
from unlearnable.pipeline.method.methods import get_method
from unlearnable.pipeline.method.models import model_spec
from unlearnable.pipeline.method.protector import settled
from unlearnable.pipeline.method.surrogate import Surrogate
from unlearnable.pipeline.method.vocabulary import TriggerVocabulary


@pytest.mark.parametrize(
    ("method", "asked", "visit_steps", "steps", "shuffle", "name"),
    [
        ("mem", None, 0, 0, False, "code"),
        ("mem", None, 8, 8, True, "mem"),
        ("mem", 0, 8, 0, False, "code"),
        ("mem", 3, 0, 3, True, "mem"),
        ("em", None, 50, 50, False, "em"),
        ("em", 0, 50, 0, False, "em"),
        ("tap", None, 0, 40, True, "tap"),
        ("tap-untargeted", None, 0, 8, False, "tap-untargeted"),
        ("uap", None, 0, 0, False, "uap"),
        ("random", 5, 0, 0, False, "random"),
    ],
)
def test_settings_say_what_runs(
    method: str, asked: int | None, visit_steps: int, steps: int, shuffle: bool, name: str
) -> None:
    surrogate = Surrogate(
        model_spec("tiny"), TriggerVocabulary((), ()), [], visit_steps=visit_steps
    )
    config = settled(MethodConfig(method=method, steps=asked), surrogate)
    assert (config.steps, config.shuffle) == (steps, shuffle)
    assert settled(config, surrogate) == config
    assert get_method(method).published_name(config) == name
    still = settled(MethodConfig(method=method, steps=asked, shuffle=False), surrogate)
    assert not still.shuffle
