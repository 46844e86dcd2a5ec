"""The tables of a collection: the people, what they wrote and chose, what they reviewed, and their chats.

Times are seconds since 1970 (UTC). Secrets are stored as digests. Everything that belongs to a person is deleted with
the person's row. `migrations` makes the schema; a test compares it with these tables.
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
    false,
)

from charter_service.web.audit import make_acts
from charter_service.web.database import make_metadata

MIGRATIONS = Path(__file__).parent / "migrations"
METADATA = make_metadata()
ID = String(32)
DIGEST = String(64)


def _person(key: bool = False) -> Column[int]:
    """The owner; the row is deleted with the person."""
    owner = ForeignKey("people.id", ondelete="CASCADE")
    return Column("person", Integer, owner, primary_key=key, nullable=False, index=None if key else True)


ACTS = make_acts(METADATA)

# facts of this collection: its random id, the names of its models, where it was last served
ADDRESS = "address"
FACTS = Table("facts", METADATA, Column("name", String(64), primary_key=True), Column("value", Text, nullable=False))

PEOPLE = Table(
    "people",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(80), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("quota", Integer, nullable=False),  # votes in all; 0: no limit
    Column("disabled", Boolean, nullable=False),
    Column("created", Double, nullable=False),
    Column("console", String(16), nullable=False, server_default=""),  # role on the admin pages; empty: none
    Column("paused", Double),  # until when the person takes a break from the work, if one was given
    sqlite_autoincrement=True,  # else a new person would get a deleted one's number, and name in exports
)

INVITATIONS = Table(
    "invitations",
    METADATA,
    Column("digest", DIGEST, primary_key=True),
    Column("role", String(16), nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("quota", Integer, nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Column("console", String(16), nullable=False, server_default=""),
)

TOKENS = Table(
    "tokens",
    METADATA,
    Column("digest", DIGEST, primary_key=True),
    _person(),
    Column("kind", String(16), nullable=False),  # "key": to come back with; "session": of a browser
    Column("created", Double, nullable=False),
    Column("expires", Double),
)

CONSENTS = Table(
    "consents",
    METADATA,
    _person(key=True),
    Column("task", String(16), primary_key=True),
    Column("version", DIGEST, primary_key=True),  # digest of the words that the person agreed to
    Column("at", Double, nullable=False),
)

CONVERSATIONS = Table(
    "conversations",
    METADATA,
    Column("id", ID, primary_key=True),
    _person(),
    Column("axis", String(16), nullable=False),
    Column("kind", String(16), nullable=False),  # chat, given, gold or repeat
    Column("state", String(16), nullable=False),  # open, finished, stopped or skipped
    Column("plan", Text, nullable=False),
    # id of the given prompt or gold question, or of the repeated turn
    Column("source", String(200), nullable=False),
    Column("rating", Integer),  # success of the attempt, 0 to 4, by the one who made it
    Column("feeling", Integer),  # well-being after it, 1 (bad) to 5 (good)
    Column("created", Double, nullable=False),
    Column("finished", Double),
)

TURNS = Table(
    "turns",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("conversation", ID, ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),  # from 1
    Column("prompt", Text, nullable=False),
    Column("model_a", String(200), nullable=False),
    Column("model_b", String(200), nullable=False),
    Column("reply_a", Text),
    Column("reply_b", Text),
    Column("shown_left", String(1), nullable=False),  # the reply on the left
    Column("seed", Integer, nullable=False),
    Column("state", String(16), nullable=False),  # waiting, ready, voted or failed
    Column("problem", Text, nullable=False),
    Column("nonce", DIGEST, nullable=False),  # the secret that only this turn's form carries
    Column("created", Double, nullable=False),
    Column("ready", Double),
    UniqueConstraint("conversation", "number"),
    Index(None, "state"),
)

VOTES = Table(
    "votes",
    METADATA,
    Column("turn", ID, ForeignKey("turns.id", ondelete="CASCADE"), primary_key=True),  # one vote a turn
    _person(),
    Column("outcome", String(16), nullable=False),
    Column("strength", Integer),
    Column("edited", Text),  # the picked reply as the person edited it
    Column("seconds", Double, nullable=False),  # from both replies shown to the vote
    Column("flags", String(80), nullable=False),  # signs of a suspicious vote: fast, duplicate
    Column("created", Double, nullable=False),
)

ITEMS = Table(
    "items",
    METADATA,
    Column("id", DIGEST, primary_key=True),
    Column("origin", String(200), nullable=False),  # report:ID, or conversation
    Column("place", Integer, nullable=False),  # the order in which they are handed out
    Column("conversation", ID, ForeignKey("conversations.id", ondelete="CASCADE")),
    Column("prompt_id", String(200), nullable=False),
    Column("sample", Integer, nullable=False),
    Column("topic", String(200), nullable=False),
    Column("messages", Text, nullable=False),  # JSON; ends with the reply to judge
    Column("created", Double, nullable=False),
)

REVIEWS = Table(
    "reviews",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("item", DIGEST, ForeignKey("items.id", ondelete="CASCADE"), nullable=False),
    _person(),
    Column("state", String(16), nullable=False),  # open, done or skipped
    Column("rating", Integer),
    # of an attempt: the reply that was worst, from 1, 0 if none was; NULL: of another text, or an older review, which
    # judged the last reply
    Column("worst", Integer),
    Column("intent", Integer),  # harm of the plan of an attempt, 0 to 4; NULL if no plan was shown
    Column("tags", Text, nullable=False),  # JSON
    Column("note", Text, nullable=False),
    Column("nonce", DIGEST, nullable=False),
    Column("created", Double, nullable=False),
    Column("finished", Double),
    UniqueConstraint("item", "person"),
)

# who did what, without any text; it outlives the person
EVENTS = Table(
    "events",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("person", Integer),
    Column("what", String(40), nullable=False),
    Column("detail", String(200), nullable=False),
)

CHATS = Table(
    "chats",  # conversations with one model at a time
    METADATA,
    Column("id", ID, primary_key=True),
    _person(),
    Column("title", String(200), nullable=False),
    Column("titled", Boolean, nullable=False),  # by the person; else the first words of the first message
    Column("model", String(200), nullable=False),
    Column("leaf", ID, nullable=False),  # the last message of the branch that is shown; empty: none yet
    Column("draft", Text, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("archived", Boolean, nullable=False),
    Column("deleted", Double),  # when; the rows go half a minute later
    Column("created", Double, nullable=False),
    Column("touched", Double, nullable=False),
    Column("characters", BigInteger, nullable=False, server_default="0"),  # of all complete messages
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Column("instructions", Text, nullable=False, server_default=""),  # a person's system prompt
    Column("temperature", Double),  # of the next replies; NULL: the model's own
    Column("max_tokens", Integer),  # of a reply; NULL: what the chat allows
    Index(None, "person", "deleted", "archived", "touched"),
)

DRAFTS = Table(
    "drafts",  # of a new chat; those of a chat stand with it
    METADATA,
    _person(key=True),
    Column("text", Text, nullable=False),
    Column("touched", Double, nullable=False),
)

MESSAGES = Table(
    "messages",  # of chats; one that isn't running never changes
    METADATA,
    Column("serial", Integer, primary_key=True),  # the index of words knows messages by it
    Column("id", ID, nullable=False, unique=True),
    Column("chat", ID, ForeignKey("chats.id", ondelete="CASCADE"), nullable=False),
    Column("parent", ID, nullable=False),  # the message before it; empty: the chat begins with it
    Column("number", Integer, nullable=False),  # of all messages of the chat, in the order of their making
    Column("role", String(16), nullable=False),  # user or assistant
    Column("author", String(16), nullable=False),  # person, model, or edited: a reply as the person rewrote it
    Column("state", String(16), nullable=False),  # running, done, stopped, refused or failed
    Column("text", Text, nullable=False),
    Column("model", String(200), nullable=False),
    Column("request", String(64), nullable=False),  # the id that the API gave the request
    Column("stop", String(64), nullable=False),  # why the reply ended, in the API's words
    Column("reason", Text, nullable=False),  # why it was refused or failed, in words for the person
    Column("input_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("client", String(64)),  # the sender's id of this sending, so that it counts once
    Column("thumb", String(8), nullable=False),  # up, down or empty
    Column("citations", Text, nullable=False, server_default="[]"),  # JSON: quotations found in files
    Column("quotes_unfound", Integer, nullable=False, server_default="0"),  # quotations that stand in none
    Column("temperature", Double),  # that was asked for; NULL: the model's own
    Column("category", String(64), nullable=False, server_default=""),  # of the policy, if it was stopped
    Column("appealed", Boolean, nullable=False, server_default=false()),  # the stop, by the person
    Column("created", Double, nullable=False),
    Column("ended", Double),
    UniqueConstraint("chat", "number"),
    UniqueConstraint("chat", "client"),
    Index(None, "chat", "parent"),
    Index(None, "state"),
)

CHAT_TOOLS = Table(
    "chat_tools",  # switched on in a chat
    METADATA,
    Column("chat", ID, ForeignKey("chats.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(64), primary_key=True),
)

TOOL_CALLS = Table(
    "tool_calls",  # what a model called in a reply, and what the tool gave
    METADATA,
    Column("message", ID, ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("name", String(64), nullable=False),
    Column("arguments", Text, nullable=False),  # JSON
    Column("result", Text, nullable=False),  # JSON, the content of the API's block
    Column("failed", Boolean, nullable=False),
)

BLOBS = Table(
    "blobs",  # what people sent as files, each of a person's contents once; its bytes are outside, under its id
    METADATA,
    Column("id", ID, primary_key=True),
    _person(),
    Column("sha256", DIGEST, nullable=False),
    Column("size", Integer, nullable=False),  # bytes
    Column("state", String(16), nullable=False),  # received, reading, ready or refused
    Column("reason", Text, nullable=False),  # why it was refused, in words for the person
    Column("kind", String(16), nullable=False),
    Column("text", Text, nullable=False),  # what a model reads
    Column("pages", Text, nullable=False),  # JSON: where in the text each page begins
    Column("created", Double, nullable=False),
    UniqueConstraint("person", "sha256"),
    Index(None, "state"),
)

FILES = Table(
    "files",  # of messages, and of drafts as long as `message` is empty; without a chat: of the next new one
    METADATA,
    Column("id", ID, primary_key=True),
    _person(),
    Column("blob", ID, ForeignKey("blobs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("chat", ID, ForeignKey("chats.id", ondelete="CASCADE"), index=True),
    Column("message", ID, ForeignKey("messages.id", ondelete="CASCADE"), index=True),
    Column("place", Integer, nullable=False),  # among the files of its message or draft
    Column("name", String(200), nullable=False),
    Column("tokens", Integer, nullable=False),  # that it adds to a prompt; 0: not counted yet
    Column("model", String(200), nullable=False),  # whose tokens they are
    Column("created", Double, nullable=False),
)

SHARES = Table(
    "shares",  # frozen copies of a branch, for whoever has the link
    METADATA,
    Column("digest", DIGEST, primary_key=True),  # of the link's token
    Column("chat", ID, ForeignKey("chats.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("title", String(200), nullable=False),
    Column("frozen", Text, nullable=False),  # JSON: role, author, text and names of files of each message
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
)
