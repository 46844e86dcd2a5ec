"""Quotations in replies: only what stands in a file becomes a link, and the link leads to those words on that page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from company import Person, Upstream, chat, file_of, until
from test_chat_attachments import begin

from charter.ground.documents.document import Document, Limits
from charter_service.chat import citing
from charter_service.chat.attached import READY, File
from charter_service.chat.citing import Source, cite, link
from charter_service.chat.markdown import render
from charter_service.chat.service import Config
from charter_service.people.tables import MESSAGES

PAGES = (
    "The river rose by four metres in the night.\n",
    "Nobody was hurt, and “the old bridge” held\nfor a second year.\n",
    "Water & sand <b>filled</b> the lower streets.\n",
)
TEXT = "".join(PAGES)
STARTS = (0, len(PAGES[0]), len(PAGES[0] + PAGES[1]))
WORDS = """It says "The river rose by four metres" first. Then “Nobody was *hurt*, and”, and

> Nobody was hurt, and "the old bridge" held for a second year.

- “Water & sand <b>filled</b> the lower streets” too
- but never “the mayor ran away at dawn”.

`"The river rose by four metres"` in code is one, and

```text
"The river rose by four metres"
```
"""


def source() -> Source:
    document = Document("report.pdf", "pdf", 9, "d" * 64, TEXT, STARTS)
    facts = {"chat": None, "message": None, "place": 0, "tokens": 0, "model": "", "created": 0.0}
    file = File(
        "f1", 1, "b1", name="report.pdf", sha256="d" * 64, size=9, state=READY, reason="", kind="pdf", pages=3, **facts
    )
    return Source(file, document)


def links_of(html: str) -> list[tuple[str, str]]:
    """Addresses and words of the links of quotations."""
    found = re.findall(r'<a class="quoted" href="([^"]+)"[^>]*>(.*?)</a>', html, re.DOTALL)
    return [(unescape(place), unescape(re.sub("<[^>]*>", "", words))) for place, words in found]


def plain(text: str) -> str:
    return "".join(re.sub(r"<[^>]*>|[“”\"\s]", "", text))


def test_found_quotations_become_links_and_others_stay_plain() -> None:
    one = source()
    cited = cite(render(WORDS), [one])
    assert cited.unfound == 1
    html = "".join(link(block, cite([block], [one]).citations, {"d" * 64: one.file}) for block in render(WORDS))
    links = links_of(html)
    assert len(links) >= 5 and "mayor" not in "".join(words for _, words in links)
    for place, words in links:
        start, end = map(int, re.findall(r"=(\d+)", place))
        assert plain(words) in plain(TEXT[start:end])
    pages = [one["start_page_number"] for one in cited.citations]
    assert pages[:2] == [1, 2] and cited.citations[0]["type"] == "page_location"
    assert cited.citations[0]["cited_text"] == "The river rose by four metres"
    assert "<pre" in html and "quoted" not in html[html.index("<pre") : html.index("</pre>")]
    bare = re.sub(r'<a class="quoted"[^>]*>|(?<=)</a>', "", html)
    assert bare == "".join(render(WORDS)).replace("&quot;", '"')


def test_a_link_is_left_out_if_the_reply_reads_otherwise() -> None:
    one = source()
    (block,) = render('It says "The river rose by four metres".')
    citations = cite([block], [one]).citations
    other = block.replace("four", "nine")
    assert len(citations) == 1 and link(other, citations, {"d" * 64: one.file}) == other.replace("&quot;", '"')


@pytest.mark.parametrize(
    "text",
    [
        "> " * 500 + "The river rose by four metres",
        '"' * 5000,
        "“The river rose by four metres” " * 1000,
        "<a href='x'>\"The river rose by four metres\"</a><script>alert(1)</script>",
        '["The river rose by four metres"](javascript:alert(1)) and [x "The river rose by four metres" y](http://a.b)',
        '\\( "The river rose by four metres" \\)',
    ],
    ids=["nested", "marks", "thousand", "markup", "links", "formula"],
)
def test_hostile_replies_stay_safe(text: str) -> None:
    one = source()
    blocks = render(text)
    cited = cite(blocks, [one])
    html = "".join(citing.linked(blocks, json.dumps(cited.citations), {"d" * 64: one.file}))
    assert "<script" not in html and "javascript:" not in re.sub(r">[^<]*<", "><", html)
    assert not re.search(r"<a [^>]*>(?:(?!</a>).)*<a ", html, re.DOTALL), "a link within a link"
    assert cited.looked_up <= citing.MOST_QUOTES


@pytest.fixture
def ann(tmp_path: Path) -> Iterator[tuple[Person, Upstream]]:
    upstream = Upstream()
    upstream.words = lambda _: WORDS
    with chat(file_of(tmp_path), upstream, Config()) as (home, service):

        def paged(data: bytes, name: str, limits: Limits) -> Document:
            return Document(name, "pdf", len(data), "x", TEXT, STARTS)

        service.files.read = paged
        yield Person(home, service, "ann"), upstream


def test_every_link_of_a_page_leads_to_its_words(ann: tuple[Person, Upstream]) -> None:
    person, _ = ann
    sent = begin(person, "What rose?", ("report.pdf", b"%PDF"))
    row = person.message(sent["reply"])
    assert row.quotes_unfound == 1 and len(json.loads(row.citations)) == 5
    page = person.page(f"/c/{sent['chat']}")
    assert "1 quotation in it stands in none of the files." in page
    links = links_of(page)
    assert len(links) >= 5
    for place, words in links:
        path = place.partition("#")
        target = person.page(path[0])
        assert path[2] == "passage" and 'id="passage"' in target
        marked = "".join(unescape(part) for part in re.findall(r"<mark[^>]*>(.*?)</mark>", target, re.DOTALL))
        assert plain(words) in plain(marked)
        before = target[: target.index("<mark")]
        shown = re.findall(r'id="page-(\d+)"', before)[-1]
        assert f"the marked passage is on page {shown}" in target
    # a copy of the branch and the other wording lead to their own files
    forked = person.send(f"/m/{sent['reply']}/fork")
    places = {place.partition("?")[0] for place, _ in links_of(forked.text)}
    assert places and f"/f/{sent['files'][0]}" not in places
    assert all(person.client.get(place).status_code == 200 for place in places)
    # an edited reply is the person's own: nobody looked up what it quotes
    edited = person.send(f"/m/{sent['reply']}/edit", text=WORDS).text
    assert "edited by you" in edited and links_of(edited) == []


def test_a_reply_that_is_written_has_links_in_complete_blocks(ann: tuple[Person, Upstream]) -> None:
    person, upstream = ann
    upstream.pause = 0.05
    answer = person.client.post(
        "/c",
        data={"csrf": person.csrf, "text": "What rose?"},
        files={"upload": ("report.pdf", b"%PDF")},
        headers={"accept": "application/json"},
    )
    reply = answer.json()["reply"]
    with person.client.stream("GET", f"/m/{reply}/events") as events:
        heard = "".join(events.iter_text())
    assert 'class="quoted"' in heard and "event: state" in heard
    assert until(lambda: person.message(reply).state == "done")
    assert MESSAGES.c.citations is not None
