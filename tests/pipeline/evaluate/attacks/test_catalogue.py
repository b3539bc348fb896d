import inspect

import pytest

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.evaluate import config
from unlearnable.pipeline.evaluate.attacks.catalogue import KINDS, Attack, parse_attacks
from unlearnable.pipeline.evaluate.attacks.images import _EDITS


def test_names_and_arguments_are_read() -> None:
    texts = ("jpeg:95", "jpeg", "down-up:1.5", "gray", "strip-trigger", "strip-trigger:3")
    attacks = parse_attacks(texts)
    assert attacks == [
        Attack("jpeg", 95),
        Attack("jpeg", 75),
        Attack("down-up", 1.5),
        Attack("gray"),
        Attack("strip-trigger"),
        Attack("strip-trigger", 3),
    ]
    assert [str(attack) for attack in attacks] == [
        "jpeg:95",
        "jpeg:75",
        "down-up:1.5",
        "gray",
        "strip-trigger",
        "strip-trigger:3",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jpg:75", r"no attack is called 'jpg'; did you mean 'jpeg'\?"),
        ("list", "There are: jpeg\\[:QUALITY\\], crawl, .*purify\\[:PAIRS\\]"),
        ("jpeg:0", "a whole number from 1 to 100, not '0'"),
        ("jpeg:75.5", "a whole number"),
        ("jpeg:", "not ''"),
        ("jpeg:nan", "not 'nan'"),
        ("median:4", "an odd number from 3"),
        ("blur:-1", "a number from 0.1"),
        ("share:101", "from 1 to 100"),
        ("gray:3", "gray takes no argument"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_attacks((text,))


def test_no_attack_is_asked_for_twice() -> None:
    with pytest.raises(UsageError, match="jpeg:75 is asked for twice"):
        parse_attacks(("jpeg", "gray", "jpeg:75"))


def test_the_option_s_help_names_every_attack() -> None:
    help_text = inspect.getsource(config)
    for name, kind in KINDS.items():
        form = f"{name}[:{kind.argument}]" if kind.argument else name
        assert form in help_text


def test_every_image_attack_is_there() -> None:
    named = {name for name, kind in KINDS.items() if kind.stage == "image"}
    assert named == {*_EDITS, "noise"}
