"""The front of a card's page alone, for places that have room for four sections."""

from charter.rooms.card.layout import FOLDED


def front_of(page: str) -> str:
    """The page without its folded parts and without the links to them; a page that has none as it is."""
    folded = [at for key in FOLDED if (at := page.find(f'<section id="{key}"')) >= 0]
    end = page.find("</main>")
    front = page[: min(folded)] + page[end:] if folded and end > 0 else page
    before, nav, rest = front.partition("<nav ")
    return before + rest.partition("</nav>")[2] if nav else front
