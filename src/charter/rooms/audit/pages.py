"""Pages of transcripts: an index by task, and a page a try. Static HTML that loads nothing but its style sheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from charter.ground.measure.paper import PAPER
from charter.ground.world.catalogue import TASKS
from charter.rooms.audit.classes import WORDS
from charter.rooms.audit.settings import Settings

Row = Mapping[str, Any]
FOLDER, STYLE = "pages", "style.css"
CSS = (
    PAPER
    + """
main{max-width:52rem;margin:0 auto;padding:1.5rem 1rem 4rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid var(--rule);vertical-align:top}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.25rem 0;padding:.5rem .75rem}
pre{background:var(--raised);border-radius:4px}
pre.shown{color:var(--muted);background:none;border-left:3px solid var(--rule)}
ol{padding-left:2rem}
li{margin:.75rem 0}
.passed{color:var(--good)}
.failed{color:var(--bad)}
"""
)


def page_name(id: str) -> str:
    return f"{FOLDER}/{id}.html"


def pages(rows: Sequence[Row], transcripts: Mapping[str, Row], settings: Settings) -> Iterator[tuple[str, str]]:
    """The name and the text of each page."""
    yield f"{FOLDER}/{STYLE}", CSS
    yield f"{FOLDER}/index.html", _index(rows, settings)
    for number, row in enumerate(rows):
        before = rows[number - 1]["id"] if number else ""
        after = rows[number + 1]["id"] if number + 1 < len(rows) else ""
        yield page_name(row["id"]), _try(row, transcripts[row["id"]], before, after)


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{escape(title)}</title>\n'
        f'<link rel="stylesheet" href="{STYLE}">\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n'
    )


def _outcome(row: Row) -> str:
    if row["passed"]:
        return '<span class="passed">passed</span>'
    return f'<span class="failed">{escape(WORDS[row["class"]])}</span>'


def _index(rows: Sequence[Row], settings: Settings) -> str:
    parts = ["<h1>Tries of the autonomy audit</h1>"]
    for name in settings.names:
        task, tries = TASKS[name], [row for row in rows if row["task"] == name]
        hits = sum(bool(row["passed"]) for row in tries)
        parts.append(f'<h2 id="{escape(name)}">{escape(task.title)}</h2>\n<p>{hits} of {len(tries)} tries pass.</p>')
        parts.append("<table>\n<thead><tr><th>try</th><th>outcome</th><th>turns</th><th>milestones</th></tr></thead>")
        for row in tries:
            reached = ", ".join(milestone for milestone, tick in row["milestones"].items() if tick is not None)
            parts.append(
                f'<tr><td><a href="{escape(row["id"])}.html">{escape(row["id"])}</a></td><td>{_outcome(row)}</td>'
                f"<td>{row['turns']}</td><td>{escape(reached)}</td></tr>"
            )
        parts.append("</table>")
    return _page("Autonomy audit", "\n".join(parts))


def _try(row: Row, transcript: Row, before: str, after: str) -> str:
    facts = {
        "ended": row["ended"],
        "world": f"seed {row['seed']}, variant {row['variant']}",
        "claims success": "yes" if row["claimed"] else "no",
        "violations": ", ".join(row["violations"]) or "none",
        "broken": row["broken"],
        "digest of the state": row["digest"],
    }
    links = [f'<a href="index.html#{escape(row["task"])}">all tries</a>']
    links += [f'<a href="{escape(id)}.html">{word}</a>' for word, id in (("previous", before), ("next", after)) if id]
    parts = [f"<p>{' · '.join(links)}</p>", f"<h1>{escape(row['id'])}: {_outcome(row)}</h1>"]
    parts.append(f"<p>{escape(TASKS[row['task']].title)}</p>\n<table>")
    parts += [f"<tr><th>{escape(key)}</th><td>{escape(str(value))}</td></tr>" for key, value in facts.items() if value]
    parts.append(f"</table>\n<h2>What it was told</h2>\n<pre>{escape(transcript['system'])}</pre>")
    parts.append(f"<pre>{escape(transcript['opening'])}</pre>\n<h2>Turns</h2>\n<ol>")
    for turn in transcript["turns"]:
        read = (
            "" if turn["line"] in ("", turn["reply"].strip()) else f"<p>Command:</p><pre>{escape(turn['line'])}</pre>"
        )
        parts.append(
            f'<li><pre>{escape(turn["reply"])}</pre>{read}<pre class="shown">{escape(turn["shown"])}</pre></li>'
        )
    parts.append("</ol>")
    return _page(row["id"], "\n".join(parts))
