"""PDF: the text layer of each page. Nothing in a file is run: this build of pdfium has no JavaScript."""

import re

import pypdfium2

from charter.ground.documents.parsing.outcome import Damaged, Locked, Refused, Text

_PICTURE = "[a picture; no text could be read]"
_END = 4096  # bytes before the end of the file among which its end mark stands
_BROKEN = re.compile("[\x02\ufffe](?:\r\n|\n)?")  # pdfium's mark for a hyphen at the end of a line


def read(data: bytes, text: Text) -> str:
    """Append the pages of a PDF to `text`."""
    if b"%%EOF" not in data[-_END:]:
        raise Damaged("PDF")  # pdfium would show the pages that are left
    try:
        document = pypdfium2.PdfDocument(data)
        count = len(document)
    except pypdfium2.PdfiumError as error:
        raise (Locked if "password" in str(error).lower() else Damaged)("PDF") from None
    text.check_pages(count)
    words_found, pictures_found = False, False
    for number in range(count):
        try:
            page = document[number]
            words = page.get_textpage().get_text_bounded()
        except pypdfium2.PdfiumError:
            raise Damaged("PDF") from None
        words = _BROKEN.sub("-\n", words).replace("\r\n", "\n").replace("\r", "\n")
        picture = not words.strip() and next(page.get_objects(max_depth=3), None) is not None
        words_found, pictures_found = words_found or bool(words.strip()), pictures_found or picture
        text.page(f"[page {number + 1}]")
        text.block(_PICTURE if picture else words)
        page.close()
    if pictures_found and not words_found:
        raise Refused("This PDF holds pictures of pages; no text could be read.")
    if not words_found:
        raise Refused("There is no text in this PDF; send one with text.")
    return "pdf"
