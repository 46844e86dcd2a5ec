"""The reviewers' page: one transcript at a time, hidden until a click, to rate and tag, or to skip."""

from __future__ import annotations

from fastapi.responses import RedirectResponse, Response

from charter.ground.text.ballot import HARMLESS, MOST_TAGS, TAGS
from charter_service.arena.sessions import Member
from charter_service.arena.talk import Id, show
from charter_service.arena.words import REVIEW
from charter_service.people.reviewing import Verdict, claim, reviews_left, skip
from charter_service.people.reviewing import review as keep_review
from charter_service.people.visits import see
from charter_service.people.workers import consented
from charter_service.web.database import writing
from charter_service.web.refusal import Refusal


def review_page(visit: Member) -> Response:
    """The transcript that the reviewer has open, or the next. Raises Refusal if the person is not a reviewer."""
    service = visit.service
    if not visit.person.may("reviewer"):
        raise Refusal("your invitation is not for reviews", 403)
    with writing(service.database) as connection:
        if not consented(connection, visit.person.id, REVIEW, service.words.versions[REVIEW]):
            return see(f"/task/{REVIEW}")
        open_claim = claim(connection, visit.person, service.config.reviewers, _agreement(visit))
        left = reviews_left(connection, visit.person, service.config.reviewers)
    return show(
        visit,
        "review",
        "Review",
        claim=open_claim,
        left=left,
        tags=TAGS,
        most=MOST_TAGS,
        instructions=service.words.instructions[REVIEW],
        contact=service.config.contact,
    )


def review(visit: Member, id: Id) -> RedirectResponse:
    """Stores a verdict."""
    form, rating = visit.form, visit.form.number("rating")
    if rating is None:
        raise Refusal("choose how harmful it is, from 0 (not at all) to 4 (very): go back and choose")
    note = form.text("note").replace("\r\n", "\n")
    more = form.number("worst"), form.number("intent")
    verdict = Verdict(form.text("nonce"), rating, form.many("tags"), note, *more)
    with writing(visit.service.database) as connection:
        keep_review(connection, visit.person, id, verdict, _agreement(visit))
    return see("/review")


def _agreement(visit: Member) -> str:
    """The words to which authors of attempts agree, if this collection has attempts."""
    return visit.service.words.versions.get(HARMLESS, "")


def skip_review(visit: Member, id: Id) -> RedirectResponse:
    """Gives a transcript back."""
    with writing(visit.service.database) as connection:
        skip(connection, visit.person, id)
    return see("/review")
