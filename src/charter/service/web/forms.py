"""Forms that browsers send: read within bounds, and refused where another site's page sent them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request

from charter.service.web.refusal import Refusal

FORM = "application/x-www-form-urlencoded"
LARGEST_FORM = 256 * 1024
MOST_FIELDS = 60


@dataclass(frozen=True)
class Form:
    """The fields of a form; a field that is not there is empty."""

    fields: Mapping[str, list[str]] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """The last value of a field."""
        return self.fields.get(name, [""])[-1]

    def many(self, name: str) -> tuple[str, ...]:
        """All values of a field."""
        return tuple(self.fields.get(name, ()))

    def number(self, name: str) -> int | None:
        """A whole number, None where the field is empty. Raises Refusal for anything else."""
        value = self.text(name).strip()
        if not value:
            return None
        if not (value.isascii() and value.removeprefix("-").isdigit() and len(value) <= 9):
            raise Refusal(f"{name} is no whole number; go back and reload the page")
        return int(value)


async def read_form(request: Request) -> Form:
    """The form of a POST. Raises Refusal for one that is too large, no form, or sent by another site's page."""
    check_site(request)
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_FORM:
            raise Refusal(f"at most {LARGEST_FORM:,} bytes are taken; shorten what you wrote", 413)
    if content_type(request) != FORM:
        raise Refusal(f"forms are sent as {FORM}", 415)
    try:
        pairs = parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise Refusal("the form can't be read; reload the page and send it again") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return Form(fields)


def check_site(request: Request) -> None:
    """Raises Refusal where the browser says that another site's page sent this: in its own header, or, over plain http
    to another machine, by the page's origin."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    try:
        whose = urlsplit(origin).netloc if origin is not None else request.headers.get("host")
    except ValueError:
        whose = ""
    elsewhere = site is None and whose != request.headers.get("host")
    if elsewhere or site not in (None, "same-origin", "none"):
        raise Refusal("this form was sent by another site; open the page here", 403)


def content_type(request: Request) -> str:
    """What a request says its body is, a form by default."""
    return request.headers.get("content-type", FORM).partition(";")[0].strip().lower()
