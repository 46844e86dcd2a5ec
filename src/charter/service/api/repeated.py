"""What of a stopped prompt was stopped before: callers send their history again, and what was charged once is not
charged with each turn that follows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from charter.service.accounts.cases import ACTED, stopped_before
from charter.service.api.conduct import conversation_mark
from charter.service.api.model_request import Ids, PromptInput
from charter.service.web.database import reading

if TYPE_CHECKING:
    from charter.service.api.exchange import Exchange


async def stopped_already(exchange: Exchange) -> str:
    """The earlier request of the account that was stopped, if a stopped prompt goes on from it and the rest alone
    passes; else "". What the rest means only behind the earlier turns is stopped, too, but not charged."""
    prompt, screen, facts = exchange.original_prompt, exchange.screen, exchange.plain_facts()
    if isinstance(prompt, str | Ids) or screen is None:
        return ""
    ends = [n for n, message in enumerate(prompt, 1) if message["role"] == "user"][:-1]
    mine = facts.caller.organisation
    marks = {conversation_mark(mine, facts.model, form(prompt[:end])): end for end in ends}

    def known() -> dict[str, str]:
        with reading(exchange.service.database) as connection:
            return stopped_before(connection, mine, facts.mark, marks)

    requests = await asyncio.to_thread(known)
    if not requests:
        return ""
    last = max(requests, key=marks.__getitem__)
    said, more = exchange.said, len(prompt) - marks[last]
    # what is said of tools belongs to every turn
    rest = [*(m for m in said.messages[:-more] if m["role"] == "system"), *said.messages[-more:]]
    steps = screen.steps(rest, exchange.sensitivity, mine, said.system)
    verdict = await exchange.service.judge(exchange.call, steps)
    return "" if verdict.action in ACTED else requests[last]


def form(prompt: PromptInput) -> Any:
    """A prompt as JSON, to recognise it again."""
    if isinstance(prompt, Ids):
        return {"ids": list(prompt.ids)}
    return {"text": prompt} if isinstance(prompt, str) else {"messages": [dict(m) for m in prompt]}
