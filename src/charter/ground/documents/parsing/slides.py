"""PPTX: the words and tables of each slide in its order, its title marked, and the speaker's notes."""

from typing import Any

from charter.ground.documents.parsing.outcome import Text, row
from charter.ground.documents.parsing.package import Package, attribute, local

_MARKS = {"br": "\n", "tab": "\t"}


def write_slides(package: Package, main: str, text: Text) -> None:
    """Append the presentation whose main part is `main` to `text`; slides are its pages."""
    parts = package.parts(main)
    ids = [
        attribute_of_relation(slide)
        for slides in package.xml(main).iterchildren("{*}sldIdLst")
        for slide in slides.iterchildren("{*}sldId")
    ]
    names = [parts[one][1] for one in ids if one in parts]
    text.check_pages(len(names), "slides")
    for number, name in enumerate(names, 1):
        text.page(f"[slide {number}]")
        _write_shapes(package.xml(name), text)
        for kind, notes in package.parts(name).values():
            if kind == "notesSlide" and notes in package.names:
                words = "\n".join(_words(body) for body in _bodies(package.xml(notes), {"body"})).strip()
                text.block(f"Notes: {words}" if words else "")


def attribute_of_relation(slide: Any) -> str:
    """The id of the relation to a slide; its own id, in no namespace, has the same name."""
    return next((value for key, value in slide.attrib.items() if key.endswith("}id")), "")


def _write_shapes(parent: Any, text: Text) -> None:
    for child in parent:
        name = local(child)
        if name == "sp":
            title = _placeholder(child) in ("title", "ctrTitle")
            for body in child.iterchildren("{*}txBody"):
                words = _words(body).strip()
                text.block(f"# {' '.join(words.split())}" if title and words else words)
        elif name == "tbl":
            text.gap()
            for one in child.iterchildren("{*}tr"):
                text.line(row([_words(cell) for cell in one.iterchildren("{*}tc")]))
            text.gap()
        elif name and name != "Fallback":
            _write_shapes(child, text)


def _bodies(slide: Any, kinds: set[str]) -> list[Any]:
    return [
        body
        for shape in slide.iter("{*}sp")
        if _placeholder(shape) in kinds
        for body in shape.iterchildren("{*}txBody")
    ]


def _placeholder(shape: Any) -> str:
    """What a shape stands for on its slide, such as the title; "" if it is just a shape."""
    return next((attribute(one, "type") for one in shape.iterfind("{*}nvSpPr/{*}nvPr/{*}ph")), "")


def _words(body: Any) -> str:
    """The paragraphs of a body, a line each."""
    return "\n".join(
        "".join(
            (one.text or "") if local(one) == "t" else _MARKS[local(one)]
            for one in paragraph.iter("{*}t", "{*}br", "{*}tab")
            if local(one.getparent()) != "tabLst"
        )
        for paragraph in body.iter("{*}p")
    )
