"""What the fields of requests mean, for the reference: by name, since a field means the same in every body that has it.
A shape that says more of a field of its own is left as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

PARTS = {
    "model": "the model's id, or an alias of it",
    "batch": "the batch's id, msgbatch_…",
    "request": "the request's id, req_…, which its answer had in the header request-id",
}
FIELDS = {
    "model": "the model's id, or an alias of it; /v1/models lists them",
    "messages": "the conversation so far, oldest turn first; what the assistant began in a last turn is continued",
    "system": "what the model should know and heed in all turns",
    "max_tokens": "the most tokens of the reply",
    "max_completion_tokens": "the most tokens of the reply, a newer name of max_tokens",
    "max_tokens_to_sample": "the most tokens of the reply",
    "prompt": "the text to go on from",
    "temperature": "0 takes the likeliest token each time; higher ones vary more. If neither it nor top_p nor "
    "top_k is given, all are the model's own; else 1 by default",
    "top_p": "draws from the likeliest tokens that have this share together",
    "top_k": "draws from so many of the likeliest tokens",
    "seed": "replies to equal requests with the same seed are equal",
    "n": "so many replies to the same prompt",
    "stop": "texts that end the reply and are cut from it",
    "stop_sequences": "texts that end the reply and are cut from it",
    "stream": "sends the reply as events while it is written",
    "stream_options": "what a stream tells beside the reply",
    "metadata": "facts of yours about the request; Anthropic's user_id is kept, as a digest",
    "user": "who asks, in your own names; kept as a digest",
    "safety_identifier": "who asks, in your own names; kept as a digest",
    "tools": "what the model may call, each with the schema of its input",
    "tool_choice": "whether a tool may be called, must be, or which",
    "parallel_tool_calls": "whether one reply may call several tools",
    "output_config": "the form of the reply",
    "output_format": "the form of the reply, an older name of output_config.format",
    "response_format": "the form of the reply",
    "logprobs": "tells how likely each token was",
    "top_logprobs": "tells so many of the likeliest tokens in each place",
    "echo": "gives the prompt back before the reply",
    "tokens": "ids of tokens, in the model's own numbering",
    "requests": "the requests, each with an id of your own",
    "thumb": "up, or down where something is wrong with the reply",
    "cache_control": "nothing more is kept for it, but usage tells what was read from a cache",
    "thinking": "disabled or adaptive, both without effect; enabled is refused",
    "mcp_servers": "none: the server calls nothing",
    "logit_bias": "none: tokens are not weighted",
    "presence_penalty": "0 alone: there are no penalties",
    "frequency_penalty": "0 alone: there are no penalties",
    "repetition_penalty": "1 alone: there are no penalties",
    "min_p": "0 alone",
    "best_of": "the same as n",
    "return_token_ids": "answer with the token ids of prompt and reply as well",
    "return_weight_versions": "answer with the version of the weights that wrote each token",
    "suffix": "none: texts are continued, not filled in",
    "modalities": "text alone",
    "continue_final_message": "goes on with the last turn instead of beginning one",
    "add_generation_prompt": "begins a turn of the assistant's behind the last one",
    **dict.fromkeys(
        (
            "container",
            "context_management",
            "inference_geo",
            "speed",
            "user_profile_id",
            "service_tier",
            "store",
            "reasoning_effort",
            "verbosity",
            "prompt_cache_key",
            "prompt_cache_retention",
            "billing_policy",
            "diagnostics",
            "fallbacks",
        ),
        "taken, without effect",
    ),
}


def explain(shapes: Mapping[str, Any], named: Iterable[str]) -> None:
    """Gives fields without words theirs, in place. `shapes`: schemas by name; `named`: those of bodies."""
    for name in named:
        for field, found in shapes[name].get("properties", {}).items():
            if field in FIELDS and not found.get("description"):
                found["description"] = FIELDS[field]
