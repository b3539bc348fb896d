import pytest

from unlearnable.jobs.cli import build_app
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.evaluate.attacks.catalogue import (
    KINDS,
    Attack,
    Chain,
    form,
    parse_attacks,
)


def test_names_and_arguments_are_read() -> None:
    texts = ("jpeg:95", "jpeg", "down-up:1.5", "gray", "strip-trigger", "strip-trigger:3")
    attacks = parse_attacks(texts)
    assert [attack for chain in attacks for attack in chain.attacks] == [
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


def test_chains_are_read_in_their_order() -> None:
    assert parse_attacks(("average+strip-trigger:3+gray",)) == [
        Chain((Attack("average"), Attack("strip-trigger", 3), Attack("gray")))
    ]
    with pytest.raises(UsageError, match="no attack is called 'nothing'"):
        parse_attacks(("gray+nothing",))


def test_the_option_s_help_names_every_attack() -> None:
    arguments = build_app()["evaluate"].assemble_argument_collection()
    shown = next(one.parameter.help for one in arguments if "--attack" in one.names)
    assert shown is not None
    assert all(f"{form(name)} ({kind.text})" in shown for name, kind in KINDS.items())


@pytest.mark.parametrize("name", KINDS)
def test_every_attack_has_a_file_of_its_own(name: str) -> None:
    assert KINDS[name].run.__module__.rsplit(".", 1)[-1] == name.replace("-", "_")
