"""Free text of a card holds no figure: what is refused, what passes as a name, and what no rule catches."""

from __future__ import annotations

import pytest

from charter.rooms.card.free_text import check_free_text, check_name, parts_of, typed_figures


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        ("right on 97.3 % of questions", ["97.3", "%"]),
        ("right on 97.3% of questions", ["97.3", "%"]),
        ("right on \uff19\uff17 questions", ["97"]),
        ("right on \u0669\u0667\u066a", ["97", "\u066a"]),
        ("right on \U0001d7d7\U0001d7d5 questions", ["97"]),
        ("right on 9\u200b7 questions", ["97"]),
        ("ninety-seven per\u200bcent", ["ninety", "percent"]),
        ("right on nine in ten", ["nine in ten"]),
        ("one in five fails", ["one in five"]),
        ("two out of three are right", ["two out of three"]),
        ("two thirds are right", ["two thirds"]),
        ("a quarter of all replies", ["a quarter"]),
        ("about half of the replies", ["half"]),
        ("one-fifth of them, by a third less", ["one-fifth", "a third"]),
        ("twice as good", ["twice"]),
        ("version 97.3, section 97 and Claude 97", ["97.3", "97"]),
        ("ten times better, tenfold", ["ten times", "tenfold"]),
        ("a few hundred prompts", ["hundred"]),
        ("zero failures", ["zero"]),
        ("\u00bd of the replies", ["1\u20442"]),
        ("\u4e5d\u5341\u4e03 of them", ["\u4e5d\u5341\u4e03"]),
        ("a 135M model, 3x faster", ["135M", "3x"]),
        ("in 1984 of 2000 cases", ["1984", "2000"]),
        ("wrong in 1984 to 2000 cases", ["1984", "2000"]),
        ("section 97.3 % right", ["97.3", "%"]),
        ("version 2.97 % right", ["%"]),
        ("roughly-97 right", ["97"]),
        ("accuracy97 is good", ["accuracy97"]),
        ("Scores 0.97 on MMLU", ["0.97"]),
        ("Accuracy: .97", ["97"]),
        ("1,234 replies", ["1,234"]),
        ("-3 points", ["3"]),
        ("1e-3 harm", ["1e", "3"]),
    ],
)
def test_a_figure_is_found_however_it_is_written(text: str, figures: list[str]) -> None:
    assert typed_figures(text) == figures
    with pytest.raises(ValueError, match="which no row proves; name the number instead"):
        check_free_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "It confabulates: it states wrong facts, invents details and fills gaps with fabrication.",
        "Compared with Claude 2, Claude Instant 1.1 and GPT-4.",
        "Made from SmolLM2-135M-Instruct and tested on GSM8k under Python 3.11.",
        "Its texts end in 2023, those of the law on 1 January 2024.",
        "As of 2026-11-01 nobody reviewed it; the policy (2023) did not change since July 2023.",
        "See section 3.4, sections 4.1 and 4.3, and \u00a7 2.",
        "Version 2 of the policy, v1.3 of the code, ISO 639 codes, arXiv 2212.08073, Apache 2.0.",
        "Two replies stood side by side, and one of them was picked.",
        "Right on {eval_rl/mmlu} of the questions, and on {arc}.",
        "Double-check what it says, zero-shot or not; a third party may read a half-finished reply.",
        "In 2023 we collected them with Llama-3.1-8B and Qwen2.5.",
        "It works with HTTP2 and mp3 files: https://example.org/v2/97",
    ],
)
def test_names_years_versions_and_sections_pass(text: str) -> None:
    assert typed_figures(text) == [] and check_free_text(f" {text} ") == text


@pytest.mark.parametrize(
    "text",
    [
        "right in 1984, wrong in 1990",
        "Score97 is high",
        "siebenundneunzig von hundert",
        "XCVII of a C",
        "right on most questions, nearly always",
        "section 9",
    ],
)
def test_what_no_rule_catches_is_known(text: str) -> None:
    """If one of these is caught one day, the module's docstring is to say so."""
    assert typed_figures(text) == []


@pytest.mark.parametrize("text", ["", "  ", "\u200b"])
def test_an_empty_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is empty; write a sentence"):
        check_free_text(text)


def test_a_name_may_have_digits_and_no_result() -> None:
    for name in ("SmolLM2 135M", "/data/2026/11/model", "https://example.org/2026/11/audit.pdf", ""):
        assert check_name(name) == name
    for name in ("97 % right", "right on 9 of 10", "97 per cent", "9/10"):
        with pytest.raises(ValueError, match="a name holds no result"):
            check_name(name)


def test_a_text_is_cut_at_its_keys() -> None:
    assert list(parts_of("On {eval_rl/mmlu} and {arc}.")) == [
        ("On ", False),
        ("eval_rl/mmlu", True),
        (" and ", False),
        ("arc", True),
        (".", False),
    ]
