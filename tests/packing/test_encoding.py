"""Token boundaries, end tokens, truncation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from prefine.errors import DataError
from prefine.lab.model import build_tokenizer
from prefine.packing.encoding import Encoder
from prefine.preferences import Pair


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A byte-level tokenizer that merges 'q'+'a' and has no template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # type: ignore[assignment]
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(["qa qa qa qa"], trainers.BpeTrainer(vocab_size=265, special_tokens=["</s>"], initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", pad_token="</s>")


def test_chat_template_and_one_end_token() -> None:
    tokenizer = build_tokenizer()
    encoder = Encoder(tokenizer)
    group = encoder.encode(({"role": "user", "content": "my printer is hot"},), ["clean the fan", "restart it"])
    assert group is not None
    assert tokenizer.decode(group.prompt_ids) == "<user> my printer is hot <assistant>"
    assert tokenizer.decode(group.completion_ids[0]) == "clean the fan <end>"
    assert encoder.report.end_tokens_added == 0


def test_end_token_is_added_once_to_text(bpe: Any) -> None:
    encoder = Encoder(bpe)
    group = encoder.encode("hello", [" x", " x</s>"])
    assert group is None  # equal once the end token stands on both
    assert encoder.report.dropped == {"responses are equal once truncated or tokenised": [0]}
    group = encoder.encode("hello", [" x", " y</s>"])
    assert group is not None
    for ids in group.completion_ids:
        assert ids.tolist().count(bpe.eos_token_id) == 1
        assert ids[-1] == bpe.eos_token_id


def test_merged_boundary_is_counted_and_prompt_stays_a_prefix(bpe: Any) -> None:
    encoder = Encoder(bpe)
    group = encoder.encode("q", ["a", "b"])
    assert group is not None
    assert bpe.decode(group.prompt_ids) == "q"
    assert bpe.decode(group.completion_ids[0]) == "a</s>"
    assert encoder.report.merges == 1


def test_messages_without_a_template_become_a_transcript(bpe: Any) -> None:
    group = Encoder(bpe).encode(({"role": "user", "content": "hi"},), ["a", "b"])
    assert group is not None
    assert bpe.decode(group.prompt_ids) == "\n\nHuman: hi\n\nAssistant:"
    assert bpe.decode(group.completion_ids[1]) == " b</s>"


def test_unknown_role_is_named(bpe: Any) -> None:
    with pytest.raises(DataError, match=r"row 7.*'critic'"):
        list(Encoder(bpe).encode_pairs([Pair(({"role": "critic", "content": "hi"},), "a", "b", 7)]))
    with pytest.raises(DataError, match="critic"):
        list(Encoder(build_tokenizer()).encode_pairs([Pair(({"role": "critic", "content": "hi"},), "a", "b", 7)]))


@pytest.mark.parametrize(
    ("mode", "limit", "prompt_limit", "expected"),
    [
        ("keep_start", None, 3, ("abc", "XY", "Z")),
        ("keep_end", None, 3, ("def", "XY", "Z")),
        ("drop", None, 3, None),
        ("keep_end", 5, None, ("ef", "XY", "Z")),  # 2 + "XY</s>"
        ("keep_start", 8, None, ("abcdef", "XY", "Z")),  # "XY</s>" cut to "XY"
        ("drop", 8, None, None),
        ("keep_start", 6, None, None),  # the prompt fills it
    ],
)
def test_truncation(bpe: Any, mode: str, limit: int | None, prompt_limit: int | None, expected: Any) -> None:
    encoder = Encoder(bpe, limit, prompt_limit, mode)
    group = encoder.encode("abcdef", ["XY", "Z"], row=4)
    if expected is None:
        assert group is None
        assert [rows for rows in encoder.report.dropped.values()] == [[4]]
        return
    assert group is not None
    texts = tuple(bpe.decode(ids).replace("</s>", "") for ids in (group.prompt_ids, *group.completion_ids))
    assert texts == expected
    assert sum(encoder.report.cut.values()) == 1


def test_pairs_that_differ_past_the_cut_are_dropped(bpe: Any) -> None:
    encoder = Encoder(bpe, 4)
    with pytest.raises(DataError, match=r"1 dropped.* responses are equal once truncated"):
        list(encoder.encode_pairs([Pair("ab", "xxx1", "xxx2", 9)]))


def test_folder_round_trip(tmp_path: Path) -> None:
    build_tokenizer().save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert (
        Encoder(again).prompt_ids(({"role": "user", "content": "my tv"},)).tolist()
        == Encoder(build_tokenizer()).prompt_ids(({"role": "user", "content": "my tv"},)).tolist()
    )


def test_tools_reach_the_template() -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = "{% if tools %}{% for t in tools %}what is {{ t.function.name }} {% endfor %}{% endif %}" + str(
        tokenizer.chat_template
    )
    tool = {"type": "function", "function": {"name": "restart", "parameters": {}}}
    prompt = ({"role": "user", "content": "my printer is slow"},)
    assert Encoder(tokenizer).render(prompt, [], [tool]).prompt.startswith("what is restart <user>")
    pair = Pair(prompt, "1", "2", 1, None, (tool,))
    (group,) = Encoder(tokenizer).encode_pairs([pair])
    assert tokenizer.decode(group.prompt_ids).startswith("what is restart")
