"""Lifts cases that a sentence of the server's own caused, and takes their weight off accounts.

The classifier read a sentence on tools, which the server had put into the prompt, as hate, with one and the same score.
Decisions with this score, category, side and version of the classifier are these: a worse text of the caller's would
have had a higher score. Their open flags are closed as dismissed; where a queue was full and none was opened, a
dismissed one is added. The server weighs accounts again when it starts. Verdicts and rulings of people stay, and so
does the log of decisions.
"""

import hashlib
import time

import sqlalchemy as sa
from alembic import op

revision = "v0010"
down_revision = "v0009"
branch_labels = None
depends_on = None

SCORE, NEAR = 0.9748310275341382, 0.0005
ENCODER = '%"encoder":"f84ea9398b13fb62"%'
NOTE = "Withdrawn: the screen had read a sentence of the server's own on tools."
BY = "upgrade to v0010"
_DECISIONS = sa.table(
    "decisions",
    *(sa.column(name) for name in ("request", "organisation", "user", "category", "severity")),
    *(sa.column(name) for name in ("side", "action", "score", "classifiers")),
)
_CASES = sa.table(
    "cases",
    *(sa.column(name) for name in ("id", "kind", "organisation", "request", "category", "words", "content")),
    *(sa.column(name) for name in ("created", "closed", "verdict", "by", "note", "severity", "user")),
    sa.column("conversation"),
)


def upgrade() -> None:
    """Closes the flags."""
    connection, now, d, c = op.get_bind(), time.time(), _DECISIONS.c, _CASES.c
    faulty = sa.select(d.request, d.organisation, d.user, d.category, d.severity).where(
        d.side == "prompt",
        d.action.in_(("block", "flag")),
        d.category == "hate",
        d.score.between(SCORE - NEAR, SCORE + NEAR),
        d.classifiers.like(ENCODER),
    )
    closing = {"closed": now, "verdict": "dismissed", "by": BY, "note": NOTE}
    for row in connection.execute(faulty.distinct()).all():
        its = sa.and_(
            c.kind == "flag",
            c.request == row.request,
            c.category == row.category,
            c.organisation == row.organisation,
        )
        if connection.execute(sa.select(c.id).where(its)).first() is not None:
            connection.execute(_CASES.update().where(its, c.closed.is_(None)).values(**closing))
            continue
        name = hashlib.sha256(f"{row.organisation}/{row.request}/{row.category}".encode()).hexdigest()[:24]
        connection.execute(
            _CASES.insert().values(
                id=f"case_{name}",
                kind="flag",
                organisation=row.organisation,
                request=row.request,
                category=row.category,
                words="",
                content="",
                created=now,
                severity=row.severity,
                user=row.user,
                conversation="",
                **closing,
            )
        )
