"""Admin pages of the acceptable-use policy, its decisions, and the queue of cases."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any, cast, get_args

from sqlalchemy import Connection

from charter.ground.artifact.manifest import digest_text
from charter.ground.moderation.actions import ACTIONS
from charter.ground.moderation.screen import Screen
from charter_service.accounts import cases
from charter_service.accounts.cases import KINDS, SEVERITIES, VERDICTS, Case, CaseVerdict, State
from charter_service.accounts.decisions import (
    Decision,
    Tip,
    Wanted,
    decisions_of,
    removed_young,
    search,
    told_tip,
    verify_chain,
)
from charter_service.accounts.feedback import thumbs_of
from charter_service.accounts.grants import ACTS, EXEMPTED, RELEASED, REVOKE, Grant, grants_of, verify_grants
from charter_service.accounts.ladder import DAY, LEVELS
from charter_service.accounts.organisations import organisation_names
from charter_service.accounts.requests import Sought, find_requests
from charter_service.accounts.standings import kept_ladder, newest_of
from charter_service.api.admin_entrance import TAG, AdminRoutes, Done, Shown, Visit
from charter_service.api.errors import ApiError, invalid
from charter_service.api.feedback import titles_of
from charter_service.api.policy_versions import version_row
from charter_service.api.rendering import ADMIN
from charter_service.api.wire.times import rfc3339
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)
POLICY, DECISIONS = f"{ADMIN}/policy", f"{ADMIN}/decisions"
QUEUE, STANDINGS = f"{ADMIN}/queue", f"{ADMIN}/standings"
PEOPLE = (RELEASED, EXEMPTED, *ACTS.values(), REVOKE)  # people's actions in the log, beside the policy's
WANTED = ("request", "organisation", "user", "category", "action", "acted")
STATES: tuple[State, ...] = get_args(State)


@ROUTES.page("GET", POLICY, "The policy in force")
def policy_page(visit: Visit) -> Shown:
    """The policy in force, the thresholds of its classifiers, and people's verdicts on them."""
    screen = visit.service.screen
    with reading(visit.service.database) as connection:
        audit, ladder = cases.audit(connection), kept_ladder(connection)
    shown = screen.policy.model_dump(mode="json") if screen else None
    data = {
        "policy": shown and {**shown, "id": screen.policy.id if screen else ""},
        "thresholds": _thresholds(screen) if screen else [],
        "audit": [asdict(one) for one in audit],
        "ladder": ladder.model_dump(mode="json", exclude={"severities", "permitted"}),
        "keeps_content": visit.service.config.policy.keep_content,
        "published": version_row(visit.service.published) if visit.service.published else None,
    }
    return Shown("admin_policy", "Policy", data)


def _thresholds(screen: Screen) -> list[dict[str, Any]]:
    """A row for each classifier, side and level: the threshold, and the data that it was chosen on."""
    rows = []
    for one in screen.classifiers:
        thresholds = screen.thresholds[one.version]
        sides = (
            ("prompt", thresholds.prompt),
            ("reply", thresholds.reply),
            ("high-risk use", thresholds.high_risk),
        )
        for side, levels in sides:
            for level in ("standard", "enhanced") if levels else ():
                facts = {"classifier": one.name, "version": one.version, "side": side, "level": level}
                rows.append({**facts, **getattr(levels, level).model_dump(mode="json")})
    return rows


@ROUTES.page("GET", DECISIONS, "Decisions", "review")
def decisions_page(visit: Visit) -> Shown:
    """Decisions, newest first, and whether the log is intact."""
    before, query = visit.query("before", "0"), visit.query
    if not (before.isascii() and before.isdigit() and len(before) < 10):
        raise invalid("before: expected the number of a decision", "before")
    visit.service.conduct.log.flush()
    with reading(visit.service.database) as connection:
        names = organisation_names(connection)
        owner = organisation_in(names, query("organisation"))
        wanted = Wanted(
            query("request"),
            owner,
            query("category"),
            query("action"),
            query("acted") == "yes",
            int(before),
            query("user"),
        )
        decisions, after = search(connection, wanted)
        newest = told_tip(connection)
        if query("verify") == "yes":
            since = time.time() - visit.service.config.keep.decisions_days * DAY
            visit.desk.checked = _check_log(connection, newest, since)
    data = {
        "decisions": [_decision(one, names) for one in decisions],
        "before": after or None,
        "tip": {"number": newest.number, "at": newest.at, "chain": newest.chain},
        "checked": visit.desk.checked,
        "actions": [*ACTIONS, *PEOPLE],
        "categories": titles_of(visit.service.screen),
        "asked": {name: query(name) for name in WANTED},
    }
    return Shown("admin_decisions", "Decisions", data)


def _check_log(connection: Connection, newest: Tip, before: float) -> dict[str, Any]:
    """The result of checking the whole chain."""
    broken, changed = verify_chain(connection), verify_grants(connection, before)
    young = removed_young(connection, None, before)
    problems = {
        "intact": broken is None and changed is None and not young,
        "broken_at": broken,
        "changed_grant": changed,
    }
    problems["removed_young"] = young or None
    return {"at": rfc3339(time.time()), "rows": newest.number, **problems}


def _decision(one: Decision, names: dict[str, str]) -> dict[str, Any]:
    row = one.row()
    name = names.get(row["organisation"], "")
    return {**row, "at": rfc3339(row["at"]), "organisation_name": name, "checked": one.entry.checked}


@ROUTES.page("GET", f"{ADMIN}/requests/{{request}}", "One request", "review")
def request_page(visit: Visit) -> Shown:
    """All data on one request: its decisions, feedback and cases. Raises ApiError."""
    id = visit.part("request")
    visit.service.conduct.log.flush()
    visit.service.meter.try_flush()
    with reading(visit.service.database) as connection:
        decisions, names = decisions_of(connection, id), organisation_names(connection)
        thumbs, opened = thumbs_of(connection, id), cases.cases_of(connection, id)
        rows = find_requests(connection, Sought(id=id)).rows
    if not decisions and not rows:
        raise ApiError(404, f"nothing is known about {id}; expected the id of a request, req_...")
    data = {
        "id": id,
        "row": request_row(rows[0], names) if rows else None,
        "decisions": [_decision(one, names) for one in decisions],
        "cases": [_case(one, names) for one in opened],
        "texts": added_texts(visit.service.screen),
        "feedback": [{**one, "created": rfc3339(one["created"])} for one in thumbs],
    }
    return Shown("admin_request", "One request", data)


def request_row(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A request's figures for pages."""
    shown = {name: value for name, value in row.items() if name != "number"}
    return {**shown, "at": rfc3339(row["at"]), "organisation_name": names.get(row["organisation"], "")}


def added_texts(screen: Screen | None) -> dict[str, str]:
    """The texts that the policy in force may add to a prompt, by their digests in the log."""
    if screen is None:
        return {}
    policy = screen.policy
    texts = [one.safety_prompt for one in policy.categories] + [one.disclosure for one in policy.high_risk]
    return {digest_text(text): text for text in texts if text}


@ROUTES.page("GET", QUEUE, "Cases", "review")
def queue_page(visit: Visit) -> Shown:
    """Cases by severity and then age."""
    kind, state, severity = visit.query("kind"), visit.query("state", "open"), visit.query("severity")
    if severity and severity not in SEVERITIES:
        raise invalid(f"severity: expected {', '.join(SEVERITIES)}, or nothing for all", "severity")
    if kind and kind not in KINDS:
        raise invalid(f"kind: expected {', '.join(KINDS)}, or nothing for all", "kind")
    if state not in STATES:
        raise invalid(f"state: expected {', '.join(STATES)}", "state")
    with reading(visit.service.database) as connection:
        names = organisation_names(connection)
        owner = organisation_in(names, visit.query("organisation"))
        after = visit.query("after")
        queued = cases.queue(connection, kind or None, state, owner, after, severity=severity)
    data = {
        "cases": [_case(one, names) for one in queued.cases],
        "after": queued.after or None,
        "kinds": list(KINDS),
        "states": list(STATES),
        "severities": list(SEVERITIES),
        "asked": {
            "kind": kind,
            "state": state,
            "severity": severity,
            "organisation": visit.query("organisation"),
        },
    }
    return Shown("admin_queue", "Queue", data)


def _case(case: Case, names: dict[str, str]) -> dict[str, Any]:
    """A case for a list: whether it has a content, but not the content itself."""
    times = {"created": rfc3339(case.created), "closed": rfc3339(case.closed)}
    name = names.get(case.organisation, "")
    return {**case.row(), "content": bool(case.content), **times, "organisation_name": name}


@ROUTES.page("GET", f"{QUEUE}/{{case}}", "One case", "review")
def case_page(visit: Visit) -> Shown:
    """One case with the decisions about its request, and the standing of its account. Texts are hidden until a
    click."""
    visit.service.conduct.log.flush()
    with reading(visit.service.database) as connection:
        case, names = cases.find_case(connection, visit.part("case")), organisation_names(connection)
        said = decisions_of(connection, case.request, case.organisation) if case.request else []
        standing = newest_of(connection, case.organisation)
        let = [one for one in grants_of(connection, case.organisation) if one.request == case.request]
    if case.content or case.words:  # no text is shown before the act is on disk
        visit.service.room.write(lambda connection: visit.note(connection, "case.read", case.id))
    blocked = [one.entry.side for one in said if one.entry.action == "block"]
    data = {
        "releasable": bool(case.kind == "flag" and blocked and case.conversation),
        "stopped_side": blocked[0] if blocked else "",
        "organisation_name": names.get(case.organisation, ""),
        "grants": [grant_row(one) for one in let if case.request],
        "case": {**_case(case, names), "content": json.loads(case.content) if case.content else None},
        "written": texts_of(case.content),
        "decisions": [_decision(one, names) for one in said],
        "standing": standing.level if standing else LEVELS[0],
        "verdicts": list(VERDICTS),
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
        said = turn.get("content") if isinstance(turn, dict) else None
        whose = f"what the {role if isinstance(role, str) and role else 'user'} wrote"
        texts.append({"whose": whose, "text": said if isinstance(said, str) else _as_json(turn)})
    if reply := parsed.get("reply"):
        texts.append({"whose": "the reply", "text": reply if isinstance(reply, str) else _as_json(reply)})
    return texts


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


def grant_row(grant: Grant) -> dict[str, Any]:
    """A release or an exemption for pages."""
    times = {name: rfc3339(getattr(grant, name)) for name in ("created", "until", "used", "revoked")}
    return {**grant.row(), **times, "state": grant.state(time.time())}


@ROUTES.page("POST", f"{QUEUE}/{{case}}", "Close a case", "review")
def close_case(visit: Visit) -> Done:
    """Upholds or dismisses a case, and applies the consequences for the account. Raises Stale if it is already
    closed."""
    verdict, note = visit.form.text("verdict"), visit.form.text("note").strip()
    if verdict not in VERDICTS:
        raise invalid(f"verdict: expected {' or '.join(VERDICTS)}", "verdict")
    id = visit.part("case")

    def also(connection: Connection) -> None:
        visit.note(connection, "case.close", id, {"verdict": None}, {"verdict": verdict})

    case = visit.service.conduct.settle(id, cast(CaseVerdict, verdict), visit.by, note, also)
    with reading(visit.service.database) as connection:
        names = organisation_names(connection)
    return Done(f"{QUEUE}/{case.id}", _case(case, names))


def organisation_in(names: dict[str, str], wanted: str) -> str:
    """The id of an organisation by its id or name; "" if none is named. Raises ApiError."""
    if not wanted or wanted in names:
        return wanted
    for id, name in names.items():
        if name == wanted:
            return id
    raise ApiError(404, f"there is no organisation {wanted}", param="organisation")
