"""Reviews on the card: agreement, tags of confirmed cases, and simulated reviewers beside people."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import card_world
import people_world
import pytest
from card_world import SETTINGS
from sqlalchemy import Engine

from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.manifest import digest_file
from charter.ground.measure.reviews import by_case, majority_says_harmful
from charter.ground.text.ballot import Ballot
from charter.ground.text.dialogue import assistant, user
from charter.ground.text.judgments import read_judgments
from charter.rooms.card.gather import gather
from charter.rooms.card.review import summarise_reviews, summarise_verdicts
from charter.runner.verify import verify
from charter_service.people import work
from charter_service.people.collection import Collection, Pace, Task
from charter_service.people.export import open_people
from charter_service.people.freeze import Wanted, freeze_comparisons, freeze_judgments
from charter_service.people.reviewing import Item, Verdict, claim, enqueue
from charter_service.people.reviewing import review as give
from charter_service.people.workers import invite, join
from charter_service.web.database import writing
from reported import scores

PARENTS = (*card_world.CARD_PARENTS, ("judgments", "reviews"))


@pytest.fixture(scope="module")
def reviewed_run(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose card has simulated reviews of the last two stages; not to be changed."""
    run = tmp_path_factory.mktemp("reviews") / "run"
    shutil.copytree(finished, run)
    people_world.add_reviews(run)
    card_world.make_card(run, SETTINGS, PARENTS)
    return run


def test_the_card_shows_agreement_counts_and_tags(reviewed_run: Path) -> None:
    (summary,) = summarise_reviews(gather(card_world.inputs(reviewed_run, PARENTS)))
    values = {name: number.value for name, number in summary.numbers}
    known = {s.name: s.value for s in scores(reviewed_run / "reviews")}
    assert values["Fleiss' kappa, harmful or not"] == pytest.approx(known["review_kappa_harmful"])
    assert values["Reviews of a transcript, mean"] == 3.0 and summary.badge == "simulated"
    rows = card_world.read_rows(reviewed_run / "reviews/samples/reviews.jsonl")
    harmful = [reviews for reviews in by_case(rows).values() if majority_says_harmful(reviews)]
    for tag, number in summary.tags:
        assert number.value == sum(any(tag in row["tags"] for row in reviews) for reviews in harmful)
    kept = card_world.shown(reviewed_run / "card")
    assert kept["reviews/review_kappa"]["sources"][0]["file"] == "samples/reviews.jsonl"


def test_simulated_reviews_are_named_as_such(reviewed_run: Path) -> None:
    page = (reviewed_run / "card/card.html").read_text("utf-8")
    assert "What reviewers say" in page and "no person has read them" in page
    assert "How simulated reviewers agree" in page and "by people" not in page[page.index("Verdicts on flagged") :]
    words = (reviewed_run / "card/card.md").read_text("utf-8")
    assert "Simulated reviewers rated the samples" in words and "| RL-CAI (simulated) |" in words


def test_a_card_with_reviews_verifies(reviewed_run: Path) -> None:
    assert verify(reviewed_run, deep=False) == []


@pytest.mark.slow
def test_a_changed_rating_or_verdict_is_found_though_hashes_were_made_again(run: Path) -> None:
    people_world.add_reviews(run)
    card_world.make_card(run, SETTINGS, PARENTS)
    rows = card_world.read_rows(run / "reviews/samples/reviews.jsonl")
    milder = [row | {"rating": 0} if row["rating"] == 4 else row for row in rows]
    card_world.edit(run, "reviews", "samples/reviews.jsonl", lambda _: "".join(json.dumps(r) + "\n" for r in milder))
    problems = verify(run, deep=False)
    assert any("review_kappa: tables.json has other sums" in line for line in problems), problems
    assert any("reviews_harmful" in line for line in problems)

    people_world.add_reviews(run)
    card_world.make_card(run, SETTINGS, PARENTS)
    judged = card_world.read_rows(run / "reviews/judgments.jsonl")
    one = next(row for row in judged if row["verdict"] == "harmful")
    other = next(row for row in judged if row["verdict"] == "harmless")
    one["verdict"], other["verdict"] = "harmless", "harmful"
    card_world.edit(run, "reviews", "judgments.jsonl", lambda _: "".join(json.dumps(r) + "\n" for r in judged))
    assert any("its reviews say" in line for line in verify(run, deep=False))


def test_verdicts_of_people_and_of_simulated_reviewers_are_never_mixed(run: Path, tmp_path: Path) -> None:
    """Both judged the same replies, and differ: each has a row, and neither refuses the other."""
    people_world.add_reviews(run, ("eval_3",))
    others = [
        {k: row[k] for k in ("id", "sample", "prompt", "reply")}
        | {"verdict": "harmless" if row["verdict"] == "harmful" else "harmful"}
        for row in card_world.read_rows(run / "reviews/judgments.jsonl")
    ]
    path = tmp_path / "verdicts.jsonl"
    card_world.write_rows(path, others)
    entry = Input("judgments", "./verdicts.jsonl", "judgments", None, path, str(path), digest_file(path))
    summaries = [
        r for r in summarise_verdicts(gather(Inputs([*card_world.inputs(run, PARENTS), entry]))) if r.stage == "RL-CAI"
    ]
    assert [r.source for r in summaries] == ["human", "simulated"]
    people, simulated = (r.confirmed for r in summaries)
    assert people is not None and simulated is not None
    assert (people.value or 0) + (simulated.value or 0) == pytest.approx(1.0)
    assert [s.file for s in people.sources][1:] == ["./verdicts.jsonl"]
    assert [s.file for s in simulated.sources][1:] == ["judgments.jsonl"]
    assert len(read_judgments(run / "reviews", path)) == 2 * len(others)


def test_reviews_by_people_are_not_marked(run: Path) -> None:
    people_world.add_reviews(run)
    people_world.humanised(run)
    card_world.make_card(run, SETTINGS, PARENTS)
    page = (run / "card/card.html").read_text("utf-8")
    assert "What people say" in page and "How reviewers agree" in page
    assert "(simulated)" not in page
    assert verify(run, deep=False) == []


def ask_people(run: Path) -> Engine:
    """A collection's database: two people who chose between models, attacked one, and reviewed the flagged replies."""
    engine = open_people(str(run.parent / "people.sqlite"))
    task = Task(turns=2, gold_share=0, repeat_share=0)
    rules = Collection(("taught", "rl"), {"helpful": task, "harmless": task}, Pace(fastest=0), reviewers=2)
    flagged = card_world.read_rows(run / "eval_3/review.jsonl")
    with writing(engine) as c:
        texts = [(user(row["prompt"]), assistant(row["reply"])) for row in flagged]
        enqueue(c, (Item("report:x", r["id"], r["sample"], r["topic"], t) for r, t in zip(flagged, texts, strict=True)))
    for name in ("ann", "bob"):
        with writing(engine) as c:
            person, _ = join(c, invite(c, "admin"), name)
        for n, axis in enumerate(["helpful"] * 8 + ["harmless"] * 4):
            with writing(engine) as c:
                talk = work.begin(c, rules, person, axis, "a plan")
                turn = work.ask(c, rules, person, talk, 1, f"{name} asks {n}")
                work.deliver(c, turn, ("One.", "Two."))
                comparison = work.own_turn(c, person, turn)
                better = "a" if (comparison.model_a == "rl") == (n % 4 > 0) else "b"
                vote = work.Vote(comparison.nonce, Ballot(better, 3))  # type: ignore[arg-type]
                work.vote(c, rules, person, turn, vote)
                work.finish(c, person, talk, rating=n % 5 if axis == "harmless" else None)
        with writing(engine) as c:
            while (waiting := claim(c, person, 2)) is not None:
                give(c, person, waiting.id, Verdict(waiting.nonce, 4 if name == "ann" else 3, ("theft",)))
    return engine


def test_exports_of_a_collection_fill_the_cards_roles(run: Path) -> None:
    """What `charter arena export` freezes stands on the card as a step's product does, and verifies."""
    engine = ask_people(run)
    try:
        votes = freeze_comparisons(engine, run.parent / "votes", Wanted())
        judged = freeze_judgments(engine, run.parent / "judged", reviewers=2)
    finally:
        engine.dispose()
    parents = (*card_world.CARD_PARENTS, ("votes", "../votes"), ("judgments", "../judged"))
    card_world.make_card(run, SETTINGS, parents)
    kept = card_world.shown(run / "card")
    assert kept["comparisons/helpful/human/elo of rl"]["sources"][0]["artifact"] == votes.id
    assert kept["comparisons/attempts/human/attempts of all attempts"]["value"] == 8
    assert kept["judgments/review_harmful_rate"]["value"] == 1.0
    flagged = len(card_world.read_rows(run / "eval_3/review.jsonl"))
    assert kept["eval_3/flagged_confirmed"]["n"] == flagged
    assert kept["eval_3/flagged_confirmed"]["sources"][1]["artifact"] == judged.id
    assert verify(run, deep=False) == []
