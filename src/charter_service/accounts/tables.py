"""The tables of a served model's accounts: organisations and keys, their usage, decisions about it, their batches and
the files that they uploaded.

Times are seconds since 1970 (UTC). Keys are stored as digests, users' ids as digests. The text of requests and replies
is stored only in batches and in cases sent in with it. `decisions`, `anchors` and `standings` are append-only: triggers
refuse anything else, except deleting decisions up to an anchor. `migrations` makes the schema; a test compares it with
these tables.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from charter_service.web.audit import make_acts
from charter_service.web.database import make_metadata

MIGRATIONS = Path(__file__).parent / "migrations"
METADATA = make_metadata()
ID = String(64)  # with its prefix: org_, key_, msgbatch_, req_
DIGEST = String(64)
COUNT = BigInteger

ACTS = make_acts(METADATA)
FACTS = Table("facts", METADATA, Column("name", String(64), primary_key=True), Column("value", Text, nullable=False))

ORGANISATIONS = Table(
    "organisations",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("created", Double, nullable=False),
    Column("disabled", Boolean, nullable=False),
    # of all its keys together; 0: that of its largest key
    Column("requests_per_minute", Integer, nullable=False, server_default="0"),
    Column("input_tokens_per_minute", Integer, nullable=False, server_default="0"),
    Column("output_tokens_per_minute", Integer, nullable=False, server_default="0"),
    Column("concurrency", Integer, nullable=False, server_default="0"),
    Column("monthly_tokens", BigInteger, nullable=False, server_default="0"),  # read and written in a month (UTC)
)

KEYS = Table(
    "keys",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("organisation", ID, ForeignKey("organisations.id"), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("digest", DIGEST, nullable=False, unique=True),
    Column("hint", String(16), nullable=False),  # the last characters, to tell keys apart
    Column("scopes", String(200), nullable=False),  # separated by spaces, see keys.SCOPES
    Column("models", Text, nullable=False),  # ids that it may use, separated by spaces; empty: all
    Column("created", Double, nullable=False),
    Column("expires", Double),
    Column("revoked", Double),
    Column("used", Double),  # when it was last used, to the minute
    # the key's own limits; 0: the service's
    Column("requests_per_minute", Integer, nullable=False),
    Column("input_tokens_per_minute", Integer, nullable=False),
    Column("output_tokens_per_minute", Integer, nullable=False),
    Column("concurrency", Integer, nullable=False),
    # the digest of the secret before the last rotation, and until when it is accepted
    Column("former", DIGEST),
    Column("former_until", Double),
    Index(None, "former", unique=True),
)

SESSIONS = Table(
    "sessions",  # of the admin page
    METADATA,
    Column("digest", DIGEST, primary_key=True),
    Column("key", ID, ForeignKey("keys.id"), nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=False),
)

USAGE = Table(
    "usage",
    METADATA,
    Column("key", ID, ForeignKey("keys.id"), primary_key=True),
    Column("day", String(10), primary_key=True),  # UTC, 2026-11-26
    Column("model", String(200), primary_key=True),
    Column("requests", COUNT, nullable=False),
    Column("refused", COUNT, nullable=False),  # by the acceptable-use policy
    Column("input_tokens", COUNT, nullable=False),
    Column("cached_tokens", COUNT, nullable=False),  # input tokens read from a cache
    Column("output_tokens", COUNT, nullable=False),
    Index(None, "day", "key", "model"),
)

USAGE_SUMS = Table(
    "usage_sums",  # of usage, by day; written with it, so that pages of many days read few rows
    METADATA,
    Column("day", String(10), primary_key=True),
    Column("organisation", ID, primary_key=True),  # empty: all of them
    Column("model", String(200), primary_key=True),
    Column("requests", COUNT, nullable=False),
    Column("refused", COUNT, nullable=False),
    Column("input_tokens", COUNT, nullable=False),
    Column("cached_tokens", COUNT, nullable=False),
    Column("output_tokens", COUNT, nullable=False),
    Index(None, "organisation", "day"),
)

REQUESTS = Table(
    "requests",  # to models, without any text; a row a request
    METADATA,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", ID, nullable=False, unique=True),
    Column("at", Double, nullable=False),  # when it came
    Column("organisation", ID, nullable=False),
    Column("key", ID, nullable=False),
    Column("model", String(200), nullable=False),  # empty if it named none that is served
    Column("surface", String(32), nullable=False),  # messages, complete, chat...
    Column("status", Integer, nullable=False),  # of HTTP
    Column("refused", Boolean, nullable=False),  # whether the policy blocked the prompt
    Column("milliseconds", BigInteger, nullable=False),  # until the end of the answer
    Column("first_milliseconds", BigInteger),  # until the first text; none if there was none
    Column("input_tokens", COUNT, nullable=False),
    Column("cached_tokens", COUNT, nullable=False),
    Column("output_tokens", COUNT, nullable=False),
    Index(None, "at"),
    Index(None, "organisation", "at"),
    Index(None, "key", "at"),
    Index(None, "model", "at"),
    Index(None, "status", "at"),
    sqlite_autoincrement=True,
)

ALLOWANCES = Table(
    "allowances",  # what is left of minute limits, until it is full again
    METADATA,
    # an organisation's or a key's id, or organisation/user digest; with /background or /counting behind it
    Column("account", String(200), primary_key=True),
    Column("at", Double, nullable=False),
    Column("full_at", Double, nullable=False, index=True),
    # tokens left at `at`; null: no such limit
    Column("requests", Double),
    Column("input_tokens", Double),
    Column("output_tokens", Double),
)

TOOL_USE = Table(
    "tool_use",  # calls of tools that the server ran
    METADATA,
    Column("key", ID, ForeignKey("keys.id"), primary_key=True),
    Column("day", String(10), primary_key=True),  # UTC, 2026-11-26
    Column("tool", String(64), primary_key=True),
    Column("calls", COUNT, nullable=False),
    Column("failures", COUNT, nullable=False),
)

DECISIONS = Table(
    "decisions",  # of the acceptable-use policy, one row a verdict that is not plainly "allow", or a request's summary
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("request", ID, nullable=False, index=True),
    Column("at", Double, nullable=False),
    Column("organisation", ID, nullable=False),
    Column("key", ID, nullable=False),
    Column("user", DIGEST, nullable=False),  # digest of metadata.user_id, empty without one
    Column("model", String(200), nullable=False),
    Column("side", String(8), nullable=False),  # prompt, reply, request or person
    # allow, safety_prompt, block or flag; released or exempted; of people release, exempt or revoke
    Column("action", String(16), nullable=False),
    Column("category", String(64), nullable=False),
    Column("score", Double, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("sensitivity", String(16), nullable=False),  # standard or enhanced
    Column("policy", String(200), nullable=False),  # name, version and digest
    Column("classifiers", Text, nullable=False),
    Column("chain", DIGEST, nullable=False),  # sha256 of the row before it and this one
    # of the category at that time; empty if it has none
    Column("severity", String(8), nullable=False, server_default=""),
    # sha256 of the text added to the prompt, or, for a person's act, of the person's words
    Column("added", DIGEST, nullable=False, server_default=""),
    Column("grant_id", ID, nullable=False, server_default=""),  # the release or exemption that acted
    # the language of the text, by two letters, if the classifiers don't read it
    Column("unscreened", String(8), nullable=False, server_default=""),
    # the earlier request that was stopped for the same text, which is charged once
    Column("repeats", ID, nullable=False, server_default=""),
    Index(None, "organisation", "at"),
    Index(None, "organisation", "action", "at"),  # an account's violations, among many other rows
    Index(None, "organisation", "user", "action", "at"),  # the same of an end user
    Index(None, "grant_id"),
    sqlite_autoincrement=True,
)

ANCHORS = Table(
    "anchors",  # where the log of decisions begins, after rows up to that one were removed
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),  # of the last removed row
    Column("chain", DIGEST, nullable=False),  # its chain, a digest of all rows up to it
    Column("at", Double, nullable=False),  # when it was removed
)

POLICIES = Table(
    "policies",  # published acceptable-use policies, in order; the newest is in force
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("digest", DIGEST, nullable=False),  # the policy's id
    Column("name", String(200), nullable=False),
    Column("version", Integer, nullable=False),
    Column("text", Text, nullable=False),  # YAML
    Column("thresholds", Text, nullable=False),  # JSON: values set by people, by classifier, side and level
    Column("at", Double, nullable=False),
    Column("by", String(200), nullable=False),
    Column("note", Text, nullable=False),
    Column("copy_of", Integer),  # of a roll back: the number of the version that it brings back
    sqlite_autoincrement=True,
)

STANDINGS = Table(
    "standings",  # the newest row of an organisation, or of one of its end users, is its standing
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("organisation", ID, ForeignKey("organisations.id"), nullable=False, index=True),
    Column("at", Double, nullable=False),
    Column("level", String(16), nullable=False),  # good, warned, enhanced, throttled or suspended
    Column("reason", Text, nullable=False),
    Column("by", String(200), nullable=False),  # "rule", or who decided
    Column("user", DIGEST, nullable=False, server_default=""),  # as in decisions; empty: the organisation's
    Index(None, "organisation", "user", "number"),
    sqlite_autoincrement=True,
)

CASES = Table(
    "cases",  # the queue of people
    METADATA,
    Column("id", ID, primary_key=True),
    Column("kind", String(16), nullable=False),  # flag, report or appeal
    Column("organisation", ID, ForeignKey("organisations.id"), nullable=False, index=True),
    Column("request", ID, nullable=False, index=True),  # empty for an appeal of the standing
    Column("category", String(64), nullable=False),
    Column("words", Text, nullable=False),  # of the reporter or appellant
    Column("content", Text, nullable=False),  # JSON of its subject, if it was sent in
    Column("created", Double, nullable=False),
    Column("closed", Double),
    Column("verdict", String(16)),  # upheld or dismissed
    Column("by", String(200)),
    Column("note", Text),
    Column("severity", String(8), nullable=False, server_default=""),  # of the category when it was opened
    Column("user", DIGEST, nullable=False, server_default=""),  # owner of the request, or of the standing
    # digest of organisation, model and conversation, for a release
    Column("conversation", DIGEST, nullable=False, server_default=""),
    Index(None, "closed", "created"),
)

GRANTS = Table(
    "grants",  # grants against the policy; each, its use and its end are rows of decisions, too
    METADATA,
    Column("id", ID, primary_key=True),
    Column("kind", String(16), nullable=False),  # release or exemption
    Column("organisation", ID, ForeignKey("organisations.id"), nullable=False),
    Column("category", String(64), nullable=False),  # empty in an exemption: all that are not severe
    Column("side", String(8), nullable=False),  # prompt or reply of a release; "severe" of such an exemption
    Column("request", ID, nullable=False),  # of a release: the blocked one
    Column("conversation", DIGEST, nullable=False),  # of a release: as in cases
    Column("created", Double, nullable=False),
    Column("until", Double, nullable=False),
    Column("by", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("used", Double),  # of a release, which is used once
    Column("revoked", Double),
    Column("revoked_by", String(200)),
    Column("revoked_reason", Text),
    Index(None, "organisation", "conversation"),
    Index(None, "kind", "until"),
)

FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("request", ID, nullable=False, index=True),
    Column("organisation", ID, ForeignKey("organisations.id"), nullable=False),
    Column("key", ID, nullable=False),
    Column("thumb", String(4), nullable=False),  # up or down
    Column("words", Text, nullable=False),
    Column("model", String(200), nullable=False),
    Column("created", Double, nullable=False),
    Index(None, "created", "model", "thumb"),
)

BATCHES = Table(
    "batches",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("organisation", ID, ForeignKey("organisations.id"), nullable=False, index=True),
    Column("key", ID, ForeignKey("keys.id"), nullable=False),
    # in_progress, canceling, ended; arriving while it is written
    Column("state", String(16), nullable=False),
    Column("size", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False, server_default="0"),  # of its requests, while they are stored
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Column("canceled", Double),  # when somebody asked for it
    Column("ended", Double),
    Column("removed", Double),  # when its results were removed
)

MADE_ONCE = Table(
    "made_once",  # idempotency keys of batches
    METADATA,
    Column("organisation", ID, ForeignKey("organisations.id"), primary_key=True),
    Column("name", DIGEST, primary_key=True),  # of the key
    Column("body", DIGEST, nullable=False),  # of the body sent with it
    Column("batch", ID, nullable=False, index=True),  # which may be deleted
    Column("created", Double, nullable=False),
)

BATCH_ITEMS = Table(
    "batch_items",
    METADATA,
    Column("batch", ID, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),  # from 0
    Column("custom_id", String(64), nullable=False),
    Column("params", Text, nullable=False),  # JSON
    Column("state", String(16), nullable=False),  # waiting, succeeded, errored, canceled or expired
    Column("result", Text),  # JSON of a message or an error
    Column("tries", Integer, nullable=False, server_default="0"),  # failed ones, by our fault
    UniqueConstraint("batch", "custom_id"),
    Index(None, "state", "batch", "number"),  # waiting requests in their order, and counts by state
)

FILES = Table(
    "files",  # uploaded by organisations; the bytes lie in a folder, see blobs
    METADATA,
    Column("id", ID, primary_key=True),
    Column("organisation", ID, ForeignKey("organisations.id"), nullable=False),
    # arriving while its bytes are received, ready, or gone until its bytes are removed
    Column("state", String(16), nullable=False),
    Column("name", String(255), nullable=False),
    Column("mime", String(100), nullable=False),  # as the uploader declared it
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", DIGEST, nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double),
    Index(None, "organisation", "state", "created", "id"),  # a list in its order, and the sum of the bytes
    Index(None, "state", "created"),
)

EVALUATIONS = Table(
    "evaluations",  # that people started from the admin pages
    METADATA,
    Column("id", ID, primary_key=True),
    Column("model", String(200), nullable=False),
    Column("tasks", String(500), nullable=False),  # separated by commas; empty: the usual ones
    Column("questions", Integer, nullable=False),  # of each task; 0: all
    Column("run", String(200), nullable=False),  # folder below the configured one
    Column("state", String(16), nullable=False),  # running, finished, failed, stopped or interrupted
    Column("created", Double, nullable=False),
    Column("ended", Double),
    Column("by", String(200), nullable=False),
    Column("pid", Integer),  # of the process, while it runs
    Index(None, "created"),
)
