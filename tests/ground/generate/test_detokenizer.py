"""Pieces of a growing text: together the text, never half a character, never the beginning of a stop."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

import toys
from charter.ground.generate.detokenizer import StopSearch, TextPieces, TokenText
from charter.ground.generate.requests import Completion
from charter.ground.text.tokenizer import Tokenizer

BYTE_LEVEL = toys.tokenizer()


def fallback() -> str:
    """A vocabulary of a few pieces that spells the rest in bytes and cuts the first space, as Llama 2's."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁a", "b", "é", "▁▁"]
    backend = Backend(models.BPE({word: n for n, word in enumerate(words)}, [], unk_token="<unk>", byte_fallback=True))
    parts = (decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0))
    backend.decoder = decoders.Sequence(list(parts))
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return str(backend.to_str())


FALLBACK_JSON = fallback()
FALLBACK = Tokenizer.from_json(FALLBACK_JSON, eos="</s>", bos="<s>", unk="<unk>")
TEXTS = st.text(st.sampled_from("ab ,\n.éß日🙂👩‍🚀\u0301\ufffd"), max_size=40)
IDS = st.lists(st.integers(0, toys.VOCABULARY + 2), max_size=40)  # any bytes, special and unknown tokens
STOPS = st.lists(st.text(st.sampled_from("ab \né🙂"), min_size=1, max_size=5), max_size=4)


def cut(text: str, stops: Sequence[str]) -> int:
    """The place of the first stop, -1 without one, by a search from the start."""
    return min((at for stop in stops if (at := text.find(stop)) >= 0), default=-1)


def pieces(tokenizer: Tokenizer, ids: Sequence[int], stops: Sequence[str] = ()) -> tuple[list[str], str]:
    """What is given after each token of a sample that ends as the engine ends it, and its text."""
    cutter, completion, parts = TextPieces(tokenizer, stops), Completion(), list[str]()
    for n, token in enumerate(ids, 1):
        completion.ids.append(token)
        text = tokenizer.decode(completion.ids)
        completion.text = text[:at] if (at := cut(text, stops)) >= 0 else text
        completion.done = at >= 0 or n == len(ids)
        parts.append(cutter.add(completion))
        if completion.done:
            break
    return parts, completion.text


@settings(max_examples=300, deadline=None)
@given(ids=IDS)
@example(ids=[173, 98])
def test_bytes_that_come_one_by_one_are_the_text_of_all(ids: list[int]) -> None:
    text = TokenText(BYTE_LEVEL)
    parts = [text.add(token) for token in ids]
    whole = BYTE_LEVEL.decode(ids)
    left = whole.removeprefix("".join(parts))
    # bytes that no character begins with, such as half a surrogate, are replaced one by one
    assert left in ("", "\ufffd", "\ufffd\ufffd"), "all but a last character that isn't complete"
    texts, final = pieces(BYTE_LEVEL, ids)
    assert "".join(texts) == final == whole


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, stops=STOPS, tokenizer=st.sampled_from([BYTE_LEVEL, FALLBACK]))
@example(text=" a", stops=[], tokenizer=FALLBACK)
def test_pieces_are_the_text_up_to_the_stop(text: str, stops: list[str], tokenizer: Tokenizer) -> None:
    parts, final = pieces(tokenizer, tokenizer.encode(text), stops)
    assert "".join(parts) == final
    given_so_far = ""
    for piece in parts[:-1]:
        given_so_far += piece
        assert final.startswith(given_so_far)
        assert "\ufffd" not in piece.replace("\ufffd", "", text.count("\ufffd")), "no half characters"


@pytest.mark.parametrize("first", ["<s>", "<0x20>", "<0x41>", "▁", "▁a", "b", "▁▁"])
@pytest.mark.parametrize("second", ["<s>", "<0x20>", "▁", "▁a", "b", "é"])
def test_only_the_first_token_loses_its_space(first: str, second: str) -> None:
    words = json.loads(FALLBACK_JSON)["model"]["vocab"]
    ids = [words[first], words[second], words["▁a"]]
    text = TokenText(FALLBACK)
    assert "".join(text.add(token) for token in ids) == FALLBACK.decode(ids)


def test_the_replaced_bytes_of_a_broken_run_are_given_at_the_end() -> None:
    """The whole characters of the run were given already; `decode` replaces them too."""
    text = TokenText(FALLBACK)
    assert "".join(text.add(token) for token in [3 + 0xC3, 3 + 0xA9, 3 + 0xFF]) == "é\ufffd"
    assert FALLBACK.decode([3 + 0xC3, 3 + 0xA9, 3 + 0xFF]) == "\ufffd" * 3


def test_what_may_become_a_stop_waits_and_the_rest_does_not() -> None:
    ids = [BYTE_LEVEL.encode(char)[0] for char in "say Hum, then \n\nHumane"]
    parts, final = pieces(BYTE_LEVEL, ids, ["\n\nHuman:"])
    assert parts[:14] == list("say Hum, then "), "text that begins no stop is given at once"
    assert parts[14:] == [""] * 7 + ["\n\nHumane"], "a beginning of the stop waits until it is none"
    assert "".join(parts) == final == "say Hum, then \n\nHumane"


def test_a_character_waits_for_its_last_byte() -> None:
    ids = BYTE_LEVEL.encode("a🙂")
    assert len(ids) == 5, "the toy vocabulary spells it in bytes"
    assert pieces(BYTE_LEVEL, ids)[0] == ["a", "", "", "", "🙂"]


@settings(max_examples=300, deadline=None)
@given(
    text=st.text("ab", max_size=30),
    stops=st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=3),
    cuts=st.lists(st.integers(1, 5), min_size=30, max_size=30),
)
def test_a_stop_is_found_where_and_when_a_search_from_the_start_finds_it(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    search, at = StopSearch(stops), 0
    for size in cuts:
        search.add(text[at : at + size])
        at += size
        expected = cut(text[:at], stops)
        assert (search.match[0] if search.match else -1) == expected
        if search.match:
            assert text[expected:].startswith(search.match[1])
            break
        begun = [k for stop in stops for k in range(len(stop)) if text[:at].endswith(stop[:k])]
        assert search.pending == max(begun), "the longest beginning of a stop that the text ends with"


def test_a_long_text_is_gone_over_once(monkeypatch: pytest.MonkeyPatch) -> None:
    spelled: list[int] = []
    real = Tokenizer.spelling
    monkeypatch.setattr(
        Tokenizer, "spelling", lambda self, token, first: spelled.append(token) or real(self, token, first)
    )
    monkeypatch.setattr(Tokenizer, "decode", lambda *_: pytest.fail("nothing is decoded again"))
    completion, cutter = Completion(), TextPieces(BYTE_LEVEL, ["xyz"])
    for token in range(300):
        completion.ids.append(token)
        cutter.add(completion)
    assert spelled == completion.ids
