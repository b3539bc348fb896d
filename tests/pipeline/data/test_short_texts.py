from __future__ import annotations

from unlearnable.pipeline.data import short_texts
from unlearnable.pipeline.data.short_texts import kept_if_short


def test_short_texts_are_looked_at_once_and_long_ones_never_kept() -> None:
    asked: list[tuple[str, int]] = []

    @kept_if_short
    def function(text: str, more: int) -> str:
        """Say so."""
        asked.append((text, more))
        return text * more

    long = "a" * (short_texts._SHORT + 1)
    assert [function(text, 2) for text in ("a", long, "a", long)] == ["aa", long * 2] * 2
    assert asked == [("a", 2), (long, 2), (long, 2)]
    assert function("a", 3) == "aaa"
    assert function.__doc__ == "Say so."
