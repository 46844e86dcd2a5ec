"""Console pages of conduct: decisions of the acceptable-use policy, the queue of cases, standings of accounts and end
users, grants (releases and exemptions), and feedback."""

from __future__ import annotations

import datetime
import json
import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, cast, get_args

from sqlalchemy import Connection
from starlette.responses import Response

from charter.ground.artifact.manifest import digest_text
from charter.ground.moderation.actions import ACTIONS
from charter.ground.moderation.screen import Screen
from charter_service.accounts import cases, decisions, feedback, grants, ladder, organisations, requests, standings
from charter_service.api.admin_entrance import TAG, AdminRoutes, Done, Shown, Visit
from charter_service.api.errors import ApiError
from charter_service.api.feedback import titles_of
from charter_service.api.rendering import ADMIN, wants_json
from charter_service.api.wire.answers import rfc3339
from charter_service.api.wire.reading import user_digest
from charter_service.console.filters import (
    PLACE,
    TICK,
    Count,
    Days,
    Filters,
    Input,
    Owner,
    Sent,
    Stripped,
    Yes,
    needed,
    number,
    one_of,
    organisation_in,
    read_as,
)
from charter_service.console.listing import (
    case_row,
    change_row,
    chart,
    decision_row,
    grant_row,
    request_row,
    spreadsheet,
    timed,
)
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)
DECISIONS, QUEUE = f"{ADMIN}/decisions", f"{ADMIN}/queue"
STANDINGS, FEEDBACK = f"{ADMIN}/standings", f"{ADMIN}/feedback"
PEOPLE = (
    grants.RELEASED,
    grants.EXEMPTED,
    *grants.ACTS.values(),
    grants.REVOKE,
)  # people's actions in the log, beside the policy's
STATES: tuple[cases.State, ...] = get_args(cases.State)
EVERYTHING = "*"  # of an exemption: all categories that aren't severe
THUMB_COLUMNS = ("created", "request", "organisation_name", "model", "thumb", "words")
RECIPE = """name: feedback
steps:
  export:
    room: feedback_export
    settings: {{database: "{database}"}}
"""
_ALL = "{name}: expected %s, or nothing for all"


class DecisionFilters(Filters):
    """Which decisions to show."""

    request: Annotated[str, Input("Request", most=64, hint="req_…", exact=True)]
    organisation: Owner
    user: Annotated[str, Input("End user’s mark", most=64, exact=True)]
    category: Annotated[str, Input("Category", all="All")]
    action: Annotated[str, Input("Action", all="All")]
    acted: Annotated[Yes, Input("Hide allowed requests", TICK)]
    before: Annotated[int, number("the number of a decision")]


@ROUTES.page("GET", DECISIONS, "Decisions", "review")
def decisions_page(visit: Visit) -> Shown:
    """Decisions, newest first, and whether the log is intact."""
    filters = DecisionFilters.of(visit)
    visit.service.conduct.log.flush()
    with reading(visit.service.database) as connection:
        names = organisations.organisation_names(connection)
        owner = organisation_in(names, filters.organisation)
        rows, after = decisions.search(connection, decisions.Wanted(**{**filters.model_dump(), "organisation": owner}))
        newest = decisions.told_tip(connection)
        if visit.query("verify") == "yes":
            since = time.time() - visit.service.config.keep.decisions_days * ladder.DAY
            visit.desk.checked = _check_log(connection, newest, since)
    data = {
        "decisions": [decision_row(decision, names) for decision in rows],
        "before": after or None,
        "tip": {"number": newest.number, "at": newest.at, "chain": newest.chain},
        "checked": visit.desk.checked,
        "actions": [*ACTIONS, *PEOPLE],
        "categories": titles_of(visit.service.screen),
        "asked": DecisionFilters.shown(visit),
    }
    return Shown("admin_decisions", "Decisions", data)


def _check_log(connection: Connection, newest: decisions.Tip, before: float) -> dict[str, Any]:
    """The result of checking the whole chain."""
    broken, changed = decisions.verify_chain(connection), grants.verify_grants(connection, before)
    young = decisions.removed_young(connection, None, before)
    return {
        "at": rfc3339(time.time()),
        "rows": newest.number,
        "intact": broken is None and changed is None and not young,
        "broken_at": broken,
        "changed_grant": changed,
        "removed_young": young or None,
    }


@ROUTES.page("GET", f"{ADMIN}/requests/{{request}}", "One request", "review")
def request_page(visit: Visit) -> Shown:
    """All data on one request: its decisions, feedback and cases. Raises ApiError."""
    id = visit.part("request")
    visit.service.conduct.log.flush()
    visit.service.meter.try_flush()
    with reading(visit.service.database) as connection:
        stored, names = decisions.decisions_of(connection, id), organisations.organisation_names(connection)
        thumbs, opened = feedback.thumbs_of(connection, id), cases.cases_of(connection, id)
        rows = requests.find_requests(connection, requests.Sought(id=id)).rows
    if not stored and not rows:
        raise ApiError(404, f"nothing is known about {id}; expected the id of a request, req_...")
    data = {
        "id": id,
        "row": request_row(rows[0], names) if rows else None,
        "decisions": [decision_row(decision, names) for decision in stored],
        "cases": [case_row(case, names) for case in opened],
        "texts": added_texts(visit.service.screen),
        "feedback": [timed(thumb, "created") for thumb in thumbs],
    }
    return Shown("admin_request", "One request", data)


def added_texts(screen: Screen | None) -> dict[str, str]:
    """The texts that the policy in force may add to a prompt, by their digests in the log."""
    if screen is None:
        return {}
    policy = screen.policy
    texts = [one.safety_prompt for one in policy.categories] + [category.disclosure for category in policy.high_risk]
    return {digest_text(text): text for text in texts if text}


class CaseFilters(Filters):
    """Which cases to show."""

    kind: Annotated[str, one_of(cases.KINDS, "", _ALL % ", ".join(cases.KINDS)), Input("Kind", all="All")]
    severity: Annotated[
        str, one_of(cases.SEVERITIES, "", _ALL % ", ".join(cases.SEVERITIES)), Input("Severity", all="All")
    ]
    state: Annotated[cases.State, one_of(STATES, "open"), Input("State")]
    organisation: Owner
    after: str


@ROUTES.page("GET", QUEUE, "Cases", "review")
def queue_page(visit: Visit) -> Shown:
    """Cases by severity and then age."""
    filters = CaseFilters.of(visit)
    with reading(visit.service.database) as connection:
        names = organisations.organisation_names(connection)
        owner = organisation_in(names, filters.organisation)
        kind = cast(cases.Kind | None, filters.kind or None)
        queued = cases.queue(connection, kind, filters.state, owner, filters.after, severity=filters.severity)
    data = {
        "cases": [case_row(queued_case, names) for queued_case in queued.cases],
        "after": queued.after or None,
        "kinds": list(cases.KINDS),
        "states": list(STATES),
        "severities": list(cases.SEVERITIES),
        "asked": filters.model_dump(exclude={"after"}),
    }
    return Shown("admin_queue", "Queue", data)


@ROUTES.page("GET", f"{QUEUE}/{{case}}", "One case", "review")
def case_page(visit: Visit) -> Shown:
    """One case with the decisions about its request, and the standing of its account. Texts are hidden until a
    click."""
    visit.service.conduct.log.flush()
    with reading(visit.service.database) as connection:
        case, names = (cases.find_case(connection, visit.part("case")), organisations.organisation_names(connection))
        logged = decisions.decisions_of(connection, case.request, case.organisation) if case.request else []
        standing = standings.newest_of(connection, case.organisation)
        releases = [grant for grant in grants.grants_of(connection, case.organisation) if grant.request == case.request]
    if case.content or case.words:  # no text is shown before the act is on disk
        visit.service.room.write(lambda connection: visit.note(connection, "case.read", case.id))
    blocked = [decision.entry.side for decision in logged if decision.entry.action == "block"]
    data = {
        "releasable": bool(case.kind == "flag" and blocked and case.conversation),
        "stopped_side": blocked[0] if blocked else "",
        "organisation_name": names.get(case.organisation, ""),
        "grants": [grant_row(grant) for grant in releases if case.request],
        "case": {**case_row(case, names), "content": json.loads(case.content) if case.content else None},
        "written": texts_of(case.content),
        "decisions": [decision_row(decision, names) for decision in logged],
        "standing": standing.level if standing else ladder.LEVELS[0],
        "verdicts": list(cases.VERDICTS),
    }
    return Shown("admin_case", f"Case: {case.kind}", data)


def texts_of(content: str) -> list[dict[str, str]]:
    """The texts of a case with their authors: a conversation and its reply, or any other content as JSON."""
    try:
        parsed = json.loads(content) if content else None
    except ValueError:
        return [{"whose": "the content", "text": content}]
    if parsed is None:
        return []
    if not isinstance(parsed, dict) or not isinstance(turns := parsed.get("messages"), list):
        return [{"whose": "the content", "text": _as_json(parsed)}]
    texts = []
    for turn in turns:
        role = turn.get("role") if isinstance(turn, dict) else None
        words = turn.get("content") if isinstance(turn, dict) else None
        whose = f"what the {role if isinstance(role, str) and role else 'user'} wrote"
        texts.append({"whose": whose, "text": words if isinstance(words, str) else _as_json(turn)})
    if reply := parsed.get("reply"):
        texts.append({"whose": "the reply", "text": reply if isinstance(reply, str) else _as_json(reply)})
    return texts


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


class Closing(Sent):
    """A person's verdict on a case."""

    verdict: Annotated[cases.CaseVerdict, one_of(cases.VERDICTS)]
    note: Stripped


@ROUTES.page("POST", f"{QUEUE}/{{case}}", "Close a case", "review")
def close_case(visit: Visit) -> Done:
    """Upholds or dismisses a case, and applies the consequences for the account. Raises Stale if it is already
    closed."""
    form, id = Closing.of(visit), visit.part("case")

    before, after = {"verdict": None}, {"verdict": form.verdict}
    also = partial(visit.note, what="case.close", whose=id, before=before, after=after)
    case = visit.service.conduct.settle(id, form.verdict, visit.by, form.note, also)
    with reading(visit.service.database) as connection:
        return Done(f"{QUEUE}/{case.id}", case_row(case, organisations.organisation_names(connection)))


@ROUTES.page("GET", STANDINGS, "Standing of accounts", "review")
def standings_page(visit: Visit) -> Shown:
    """The standing of each account."""
    with reading(visit.service.database) as connection:
        all_organisations = organisations.list_organisations(connection)
        newest = {
            change.organisation: {"level": change.level, "since": rfc3339(change.at)}
            | {"reason": change.reason, "by": change.by}
            for change in standings.changes_since(connection, 0)
        }
    good: dict[str, Any] = {"level": ladder.LEVELS[0], "since": None, "reason": "", "by": ""}
    rows = [
        {
            "organisation": organisation.id,
            "name": organisation.name,
            "disabled": organisation.disabled,
            **newest.get(organisation.id, good),
        }
        for organisation in all_organisations
    ]
    rows.sort(key=lambda row: (-ladder.LEVELS.index(row["level"]), row["name"]))
    return Shown("admin_standings", "Standings", {"standings": rows, "levels": list(ladder.LEVELS)})


def _mark(text: str) -> str:
    mark = text.strip()
    if mark and not re.fullmatch("[0-9a-f]{64}", mark):
        raise ValueError
    return mark


Mark = Annotated[str, read_as(_mark, "the mark of an end user, 64 hex digits")]


class UserFilters(Filters):
    """The end user of an account, by the organisation's id for them, or by their mark."""

    user_id: str
    user: Mark


@ROUTES.page("GET", f"{STANDINGS}/{{organisation}}", "Standing of one account", "review")
def standing_page(visit: Visit) -> Shown:
    """The standing of one account, or of one of its end users, its history, when a level is lifted, and its grants.
    Raises ApiError."""
    id, filters = visit.part("organisation"), UserFilters.of(visit)
    user = decisions.user_mark(id, user_digest(filters.user_id)) if filters.user_id else filters.user
    account, now, policy = standings.account_of(id, user), time.time(), visit.service.screen
    with reading(visit.service.database) as connection:
        names = organisations.organisation_names(connection)
        if id not in names:
            raise ApiError(404, f"there is no organisation {id}")
        rules = standings.kept_ladder(connection)
        changes, outcome = (
            standings.changes_of(connection, account),
            standings.outcome_of(connection, account, rules, now),
        )
        users = [] if user else standings.users_of(connection, id)
        given_grants = [] if user else grants.grants_of(connection, id)
    data = {
        "organisation": id,
        "organisation_name": names[id],
        "user": user,
        "users": [change_row(user) for user in users],
        "grants": [grant_row(grant) for grant in given_grants],
        "exemptible": {
            category: f"{title} (severe)" if rules.severity(category) == grants.SEVERE else title
            for category, title in titles_of(policy).items()
        },
        "level": changes[-1].level if changes else ladder.LEVELS[0],
        "total": outcome.total,
        "lifts": rfc3339(outcome.lifts),
        "asks": outcome.asks,
        "seen": changes[-1].number if changes else 0,
        "changes": [change_row(change) for change in reversed(changes)],
        "levels": list(ladder.LEVELS),
    }
    return Shown("admin_standing", "Standing", data)


class Setting(Sent):
    """A new level of an account or an end user, from the change that the page showed."""

    user: Mark
    level: Annotated[ladder.Level, one_of(ladder.LEVELS)]
    reason: Annotated[str, needed("write why, for a possible appeal")]
    seen: Count


@ROUTES.page("POST", f"{STANDINGS}/{{organisation}}", "Set its level", "review")
def set_standing(visit: Visit) -> Done:
    """Sets a level, with a reason. Raises Stale if it has changed since the page was loaded."""
    id, form = visit.part("organisation"), Setting.of(visit)

    def also(connection: Connection) -> None:
        if form.level != ladder.LEVELS[0] and not form.user:
            visit.check_holder(connection, id)
        after = {"level": form.level, "user": form.user}
        visit.note(connection, "standing.set", id, {"seen": form.seen}, after)

    account = standings.account_of(id, form.user)
    change = visit.service.conduct.decide(account, form.level, visit.by, form.reason, form.seen, also)
    place = f"{STANDINGS}/{id}?user={form.user}" if form.user else f"{STANDINGS}/{id}"
    return Done(place, change_row(change))


Reason = Annotated[str, needed("write why; it is stored")]


class Reasoned(Sent):
    """Why a person does it."""

    reason: Reason


class Releasing(Sent):
    """A blocked request that may pass once."""

    hours: Count
    stopped: Stripped
    reason: Reason


@ROUTES.page("POST", f"{ADMIN}/releases", "Let a blocked request pass once", "review")
def release(visit: Visit) -> Done:
    """Lets a blocked request pass once."""
    form = Releasing.of(visit)
    hours = grants.RELEASE_HOURS if form.hours is None else float(form.hours)

    also = partial(visit.note, what="grant.release", whose=form.stopped, after={"hours": hours})
    grant = visit.service.conduct.release(form.stopped, visit.by, form.reason, hours, also)
    return Done(f"{STANDINGS}/{grant.organisation}", grant_row(grant))


class Exempting(Sent):
    """An exemption of an organisation until the start of a day (UTC)."""

    organisation: Stripped
    category: Annotated[str, needed("choose one, or * for all that aren't severe")]
    until: Annotated[
        datetime.date, read_as(lambda text: datetime.date.fromisoformat(text.strip()), "a day such as 2026-11-26")
    ]
    reason: Reason


@ROUTES.page("POST", f"{ADMIN}/exemptions", "Exempt an organisation", "review")
def exempt(visit: Visit) -> Done:
    """Exempts an organisation from a category, or with * from all that aren't severe, until a day."""
    form = Exempting.of(visit)
    with reading(visit.service.database) as connection:
        id = organisation_in(organisations.organisation_names(connection), form.organisation)
    until = datetime.datetime.combine(form.until, datetime.time(), datetime.UTC).timestamp()
    category = "" if form.category == EVERYTHING else form.category

    after = {"category": form.category, "until": form.until.isoformat()}
    also = partial(visit.note, what="grant.exempt", whose=id, after=after)
    grant = visit.service.conduct.exempt(id, category, until, visit.by, form.reason, also)
    return Done(f"{STANDINGS}/{id}", grant_row(grant))


@ROUTES.page("POST", f"{ADMIN}/grants/{{grant}}", "Revoke a release or exemption", "review")
def revoke(visit: Visit) -> Done:
    """Revokes a release or an exemption."""
    id = visit.part("grant")

    def also(connection: Connection) -> None:
        visit.check_holder(connection, grants.find_grant(connection, id).organisation)
        visit.note(connection, "grant.revoke", id)

    ended = visit.service.conduct.revoke(id, visit.by, Reasoned.of(visit).reason, also)
    return Done(f"{STANDINGS}/{ended.organisation}", grant_row(ended))


def _thumb_place(text: str) -> tuple[float, str] | None:
    if not text:
        return None
    at, _, id = text.partition(":")
    return float(at), id


class ThumbFilters(Days):
    """Which feedback to show."""

    model: Annotated[str, Input("Model", all="All")]
    thumb: Annotated[
        str,
        one_of(feedback.THUMBS, "", "{name}: expected up or down, or nothing for both"),
        Input("Rating", all="Both"),
    ]
    organisation: Owner
    words: Annotated[Yes, Input("With a comment", TICK)]
    before: Annotated[tuple[float, str] | None, read_as(_thumb_place, PLACE)]


@ROUTES.page("GET", FEEDBACK, "Feedback", "review")
def feedback_page(visit: Visit) -> Shown | Response:
    """Thumbs by day and model, and the newest ones: a page, a table for spreadsheets, or JSON; and how to freeze them
    as an artifact."""
    service, filters = visit.service, ThumbFilters.of(visit)
    since, until = filters.days()
    with reading(service.database) as connection:
        owner = organisation_in(organisations.organisation_names(connection), filters.organisation)
        query = feedback.Thumbs(since, until, filters.model, filters.thumb, owner, filters.words)
        if visit.query("format") == "csv":
            return spreadsheet("feedback.csv", THUMB_COLUMNS, _all_thumbs(visit, query))
        counts, models = (feedback.thumbs_by_day(connection, query), feedback.models_of_thumbs(connection))
        rows, last = feedback.find_thumbs(connection, query, filters.before)
    by_model = {model: dict.fromkeys(feedback.THUMBS, 0) for model in sorted({model for _, model, _ in counts})}
    for (_, model, thumb), count in counts.items():
        by_model[model][thumb] += count
    place = service.config.database
    data: dict[str, Any] = {
        "since": since.isoformat(),
        "until": until.isoformat(),
        "asked": {name: visit.query(name) for name in ("model", "thumb", "organisation", "words")},
        "by_model": by_model,
        "by_day": [
            {"day": day, "model": model, "thumb": thumb, "count": count}
            for (day, model, thumb), count in sorted(counts.items(), reverse=True)
        ],
        "feedback": [timed(row, "created") for row in rows],
        "before": f"{last[0]!r}:{last[1]}" if last else None,
        "models": models,
        "thumbs": list(feedback.THUMBS),
        # a password stands in no recipe; empty: beside the run
        "recipe": RECIPE.format(database="" if "@" in place else place),
    }
    if not wants_json(visit.request):
        days = ((day, count * (thumb != "up"), count * (thumb == "up")) for (day, _, thumb), count in counts.items())
        data["chart"] = chart(since, until, days)
    return Shown("admin_feedback", "Feedback", data)


def _all_thumbs(visit: Visit, query: feedback.Thumbs) -> Iterator[dict[str, Any]]:
    """All rows, a thousand at a time, so that nobody waits for the reader."""
    before: tuple[float, str] | None = None
    while True:
        with reading(visit.service.database) as connection:
            page, before = feedback.find_thumbs(connection, query, before, 1000)
        yield from (timed(thumb, "created") for thumb in page)
        if before is None:
            return
