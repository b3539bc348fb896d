import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnable.pipeline.method.models import get_tokenizer
from unlearnable.pipeline.method.tokens import insert_trigger
from unlearnable.pipeline.method.vocabulary import leading_ids, whole_words

TOKENIZER = get_tokenizer("tiny", 16)
WORDS = whole_words(TOKENIZER)


@settings(max_examples=60, deadline=None)
@given(
    caption=st.text(
        alphabet=st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=120
    ),
    trigger=st.lists(st.sampled_from(sorted(WORDS)), min_size=1, max_size=7),
)
def test_inserted_ids_are_those_of_the_written_caption(caption: str, trigger: list[str]) -> None:
    ids = torch.tensor([[WORDS[word] for word in trigger]])
    inserted = insert_trigger(TOKENIZER([caption]), ids)
    written = f"{' '.join(trigger)} {caption}"
    assert torch.equal(inserted, TOKENIZER([written]))
    assert leading_ids(TOKENIZER, written, len(trigger)) == ids[0].tolist()


@settings(max_examples=300, deadline=None)
@given(
    text=st.one_of(
        st.text(max_size=60),
        st.text(alphabet="aZ09 -'&;#<>_.\n\t\x1b\xe9\u2019", max_size=60),
        st.lists(
            st.sampled_from([*sorted(WORDS)[::999], "<end_of_text>", "&amp;", "don't", "..."])
        ).map(" ".join),
    ),
    count=st.integers(1, 20),
)
def test_leading_ids_are_those_of_the_whole_text(text: str, count: int) -> None:
    assert leading_ids(TOKENIZER, text, count) == TOKENIZER([text])[0, 1 : 1 + count].tolist()


def test_a_caption_that_fills_the_context_keeps_trigger_and_end() -> None:
    caption = "dog " * 40
    row = insert_trigger(TOKENIZER([caption]), torch.tensor([[WORDS["red"], WORDS["lamp"]]]))[0]
    assert row[1:3].tolist() == [WORDS["red"], WORDS["lamp"]]
    assert row[-1] == 49407
    assert len(row) == 16
