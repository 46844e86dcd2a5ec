"""The meaning of request fields for the reference, by name, since a field means the same in every body.
A shape with its own description of a field keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from charter_service.api.wire import offered

PARTS = {
    "model": "the model's id, or an alias of it",
    "batch": "the batch's id, msgbatch_…",
    "file": "the file's id, file_…",
    "request": "the request's id, req_…, from its answer's header request-id",
}
FIELDS = {
    "model": "the model's id, or an alias of it; /v1/models lists them",
    "messages": "the conversation so far, oldest turn first; a last turn of the assistant's is continued",
    "system": "instructions for the model in all turns",
    "max_tokens": "the most tokens of the reply",
    "max_completion_tokens": "the most tokens of the reply, a newer name of max_tokens",
    "max_tokens_to_sample": "the most tokens of the reply",
    "prompt": "the text to continue",
    "temperature": "0 takes the likeliest token each time; higher ones vary more. If neither it nor top_p nor "
    "top_k is given, all are the model's own; else 1 by default",
    "top_p": "draws from the likeliest tokens that have this share together",
    "top_k": "draws from this many likeliest tokens",
    "seed": "replies to equal requests with the same seed are equal",
    "n": "number of replies to the same prompt",
    "stop": "texts that end the reply and are cut from it",
    "stop_sequences": "texts that end the reply and are cut from it",
    "stream": "sends the reply as events while it is written",
    "stream_options": "what a stream sends beside the reply",
    "metadata": "your data about the request; Anthropic's user_id is stored as a digest",
    "user": "your id of the end user; stored as a digest",
    "safety_identifier": "your id of the end user; stored as a digest",
    "tools": "the tools that the model may call, each with the schema of its input, and those that the server runs",
    "max_uses": "most calls of this tool for one message",
    "allowed_domains": "the only sites that a search may read, such as example.org, with what is below them",
    "blocked_domains": "sites that a search may not read",
    "user_location": "none: the search knows no places",
    "tool_choice": "whether a tool may or must be called, or which one",
    "parallel_tool_calls": "whether one reply may call several tools",
    "output_config": "the form of the reply",
    "output_format": "the form of the reply, an older name of output_config.format",
    "response_format": "the form of the reply",
    "logprobs": "returns the log-probability of each token",
    "top_logprobs": "returns this many likeliest tokens in each place",
    "echo": "returns the prompt before the reply",
    "tokens": "ids of tokens, in the model's own numbering",
    "requests": "the requests, each with your own id",
    "thumb": "up, or down if something is wrong with the reply",
    "cache_control": "usage shows the tokens read from the prompt's cache and those put into it",
    "thinking": "only disabled: no model here thinks before it answers",
    "logit_bias": "none: tokens are not weighted",
    "presence_penalty": "only 0: there are no penalties",
    "frequency_penalty": "only 0: there are no penalties",
    "repetition_penalty": "only 1: there are no penalties",
    "min_p": "0 alone",
    "best_of": "the same as n",
    "return_token_ids": "also returns the token ids of prompt and reply",
    "return_weight_versions": "also returns the version of the weights that wrote each token",
    "suffix": "none: texts are continued, not filled in",
    "modalities": "text alone",
    "continue_final_message": "continues the last turn instead of beginning a new one",
    "add_generation_prompt": "begins a new turn of the assistant's after the last one",
    **dict.fromkeys(
        (
            "store",
            "reasoning_effort",
            "verbosity",
            "prompt_cache_key",
            "prompt_cache_retention",
        ),
        "accepted, without effect",
    ),
}


def explain(shapes: Mapping[str, Any], named: Iterable[str]) -> None:
    """Adds descriptions to fields without one, in place. `shapes`: schemas by name; `named`: those of bodies."""
    for name in named:
        for field, schema in shapes[name].get("properties", {}).items():
            if schema.get("description"):
                continue
            if field in FIELDS:
                schema["description"] = FIELDS[field]
            elif field in offered.FIELDS:
                schema["description"] = offered.FIELDS[field].meaning
