"""Elo on the card: whose votes, which numbers, what is said of models without one, and what verifying finds."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import card_world
import people_world
import pytest
from card_world import SETTINGS
from people_world import choices

from charter.ground.measure.elo import standings
from charter.ground.reports.compare import compare
from charter.ground.text.votes import vote_row
from charter.rooms.card.elo import elo_tables, raters_of
from charter.rooms.card.gather import gather
from charter.rooms.card.review import attempts
from charter.runner.verify import verify

PARENTS = (*card_world.CARD_PARENTS, ("votes", "votes"))


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose card has votes of people on two axes, of simulated raters and of a model on one; not to be changed."""
    run = tmp_path_factory.mktemp("votes") / "run"
    card_world.make_run(run, samples=2)
    people = [c for axis in ("helpful", "harmless") for c in choices(axis, "human", 120)]
    others = [c for source in ("simulated", "ai:judge") for c in choices("helpful", source, 120)]
    people_world.add_votes(run, [*people, *others], people_world.attempts(24))
    card_world.make_card(run, SETTINGS, PARENTS)
    return run


def test_elo_is_that_of_the_votes_by_axis_and_source(voted: Path) -> None:
    rows = card_world.read_rows(voted / "votes/votes.jsonl")
    numbers = card_world.shown(voted / "card")
    rankings = standings(rows, "taught")
    assert set(rankings) == {"helpful", "harmless", "helpful (simulated)", "helpful (ai:judge)"}
    for ranking in rankings.values():
        for standing in ranking.standings:
            kept = numbers[f"votes/{ranking.axis}/{ranking.source}/elo of {standing.model}"]
            assert kept["value"] == pytest.approx(standing.elo, abs=1e-3) and kept["n"] == standing.n
            if standing.model != "taught":
                assert (kept["low"], kept["high"]) == pytest.approx((standing.low, standing.high), abs=1e-3)
            assert kept["sources"] == [{"step": "votes", "artifact": kept["sources"][0]["artifact"], "file": "votes.jsonl"}]  # fmt: skip
    assert numbers["votes/helpful/human/elo of taught"]["value"] == 0.0, "the first of the step's models is the base"
    assert numbers["votes/helpful/human/elo of rl"]["stage"] == "helpful, people"


def test_the_page_says_whose_votes_they_are_at_every_number(voted: Path) -> None:
    page = (voted / "card/card.html").read_text("utf-8")
    section = re.search(r'<section id="elo".*?</section>', page, re.DOTALL)
    assert section
    tables = re.findall(r"<table [^>]*><caption><strong>Elo by votes.*?</table>", section[0], re.DOTALL)
    assert len(tables) == 4
    for table, badge in zip(tables, ("", "AI", "simulated", ""), strict=True):
        body = table[table.index("<tbody>") :]
        assert body.count('class="v"') + len(re.findall(r"<div>\d+\sto\s\d+", body)) == 9
        assert body.count(f" ({badge})") == 9 or (not badge and "(AI)" not in body and "(simulated)" not in body)
    assert "Elo by votes of simulated raters" in section[0] and "not what people prefer" in section[0]
    words = (voted / "card/card.md").read_text("utf-8")
    assert re.search(r"\| rl \(RL-CAI\) \| \S+ \(\S+.to.\S+\) \(simulated\) \| ", words)
    assert "### Helpfulness (simulated)" in words and "\n### Elo by axis\n" in words
    for name in ("elo-votes-human", "wins-votes-human", "elo-votes-simulated", "elo-votes-ai-judge"):
        assert (voted / f"card/plots/{name}.svg").is_file(), name
    assert "simulated" in (voted / "card/plots/elo-votes-simulated.svg").read_text("utf-8")


def test_a_card_with_votes_verifies(voted: Path) -> None:
    assert verify(voted, deep=False) == []


@pytest.mark.slow
def test_a_changed_vote_is_found_though_hashes_were_made_again(run: Path) -> None:
    people_world.add_votes(run, choices("helpful", "human", 60))
    card_world.make_card(run, SETTINGS, PARENTS)

    def turned(text: str) -> str:
        rows = [json.loads(line) for line in text.splitlines()]
        first = next(row for row in rows if row["winner"] == "a")
        first["winner"] = "b"
        return "".join(json.dumps(row) + "\n" for row in rows)

    card_world.edit(run, "votes", "votes.jsonl", turned)
    problems = verify(run, deep=False)
    assert any("value of votes/helpful/human/elo of" in line for line in problems), problems


def test_models_that_votes_cant_place_have_a_reason_and_no_number(run: Path) -> None:
    placed = choices("helpful", "human", 60)
    ends = replace(placed[0].ballot, outcome="a", strength=3)
    alone = [
        replace(placed[0], id=f"x{n}", item=f"x{n}", models=pair, ballot=ends)
        for n, pair in enumerate([("far", "away"), ("rl", "beaten"), ("rl", "beaten")])
    ]
    people_world.add_votes(run, [*placed, *alone])
    (table,) = elo_tables(gather(card_world.inputs(run, PARENTS)))
    by_name = {row.model: row for row in table.rows}
    assert (
        by_name["far"].elo is None and "never compared, directly or through others, with taught" in by_name["far"].note
    )
    assert by_name["beaten"].elo is None and "lost all its 2 votes" in by_name["beaten"].note
    card_world.make_card(run, SETTINGS, PARENTS)
    assert "never compared, directly or through others, with taught" in (run / "card/card.md").read_text("utf-8")
    assert verify(run, deep=False) == []


def test_agreement_is_shown_where_pairs_were_judged_twice(voted: Path) -> None:
    numbers = card_world.shown(voted / "card")
    (ranking,) = (r for r in standings(card_world.read_rows(voted / "votes/votes.jsonl")).values() if (r.axis, r.source) == ("helpful", "human"))  # fmt: skip
    assert ranking.agreement is not None
    kept = numbers["votes/helpful/human/Fleiss' kappa"]
    assert kept["value"] == pytest.approx(ranking.agreement.kappa.value) and kept["n"] == ranking.agreement.items


def test_wins_follow_from_the_votes(voted: Path) -> None:
    rows = [r for r in card_world.read_rows(voted / "votes/votes.jsonl") if (r["axis"], r["source"]) == ("harmless", "human")]  # fmt: skip
    met = [r for r in rows if {r["model_a"], r["model_b"]} == {"rl", "sl"} and r["winner"] in ("a", "b")]
    won = sum(r[f"model_{r['winner']}"] == "rl" for r in met)
    numbers = card_world.shown(voted / "card")
    share = numbers["votes/harmless/human/wins of rl over sl"]
    assert (share["value"], share["n"]) == (pytest.approx(won / len(met)), len(met))
    elo = [numbers[f"votes/harmless/human/elo of {model}"]["value"] for model in ("rl", "sl")]
    predicted = numbers["votes/harmless/human/predicted wins of rl over sl"]["value"]
    assert predicted == pytest.approx(people_world.expected_share(*elo), abs=1e-4)


def test_attempts_are_counted_by_model_with_intervals_over_persons(voted: Path) -> None:
    rows = card_world.read_rows(voted / "votes/ratings.jsonl")
    (table,) = attempts(gather(card_world.inputs(voted, PARENTS)))
    assert [row.model for row in table.rows] == ["rl", "taught", "all attempts"] and not table.badge
    for row in table.rows:
        ratings = [r["rating"] for r in rows if row.model in ("all attempts", r["models"][0])]
        assert row.mean.value == pytest.approx(sum(ratings) / len(ratings)) and row.attempts.value == len(ratings)
        assert row.mean.low is not None and row.mean.low <= row.mean.value <= (row.mean.high or 0)
    page = (voted / "card/card.html").read_text("utf-8")
    assert "People attacked it as well" in page and "No person red-teamed this model" not in page


def test_nobody_who_succeeds_and_simulated_attempts(run: Path) -> None:
    """Where all attempts failed there is an interval as well; simulated ones don't make the card say that people tried."""
    rated = [row | {"rating": 0} for row in people_world.attempts(12, "simulated")]
    people_world.add_votes(run, choices("helpful", "human", 40), rated)
    (table,) = attempts(gather(card_world.inputs(run, PARENTS)))
    last = table.rows[-1].mean
    assert (last.value, last.low, table.badge) == (0.0, 0.0, "simulated") and 0 < (last.high or 0) < 4
    card_world.make_card(run, SETTINGS, PARENTS)
    page = (run / "card/card.html").read_text("utf-8")
    assert "No person red-teamed this model" in page and "by simulated people" in page


def test_without_votes_the_section_is_left_out(finished: Path) -> None:
    assert elo_tables(gather(card_world.inputs(finished))) == ()
    assert 'id="elo"' not in (finished / "card/card.html").read_text("utf-8")


def test_two_sets_of_votes_are_never_added_up(run: Path) -> None:
    people_world.add_votes(run, choices("helpful", "human", 60))
    people_world.add_votes(run, choices("helpful", "human", 60, seed=1), step="votes_2")
    tables = elo_tables(gather(card_world.inputs(run, (*PARENTS, ("votes", "votes_2")))))
    assert [table.step for table in tables] == ["votes", "votes_2"]
    card_world.make_card(run, SETTINGS, (*PARENTS, ("votes", "votes_2")))
    assert {"elo-votes-human.svg", "elo-votes_2-human.svg"} <= {p.name for p in (run / "card/plots").iterdir()}


def test_comparing_versions_says_nothing_of_elo(voted: Path, finished: Path) -> None:
    assert not any("elo" in row["metric"].lower().split("_") for row in compare([voted, finished])["metrics"])


def test_words_of_raters() -> None:
    words = [raters_of(source) for source in ("human", "simulated", "ai", "ai:judge")]
    assert words == ["people", "simulated raters", "models", "the model judge"]
    assert vote_row(choices("helpful", "human", 1)[0])["winner"] in ("a", "b", "tie", "unsure")
