"""Turns a failed validation into one line: the wrong key or value, and what is allowed.

Words of other tools for what Charter names otherwise are known, so that a refusal can name ours. A word has several
meanings where rooms call the same thing differently; the first that is allowed in a place holds.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from charter.ground.artifact.errors import CharterError

_SETTINGS = {
    ("learning_rate", "init_lr", "max_lr", "peak_lr"): ("lr",),
    ("num_epochs", "num_train_epochs", "n_epochs", "max_epochs", "ppo_epochs", "num_ppo_epochs"): ("epochs",),
    ("max_steps", "num_steps", "train_steps", "total_steps", "iterations", "max_iters"): ("steps", "learning.steps"),
    ("batch_size", "train_batch_size", "per_device_train_batch_size", "global_batch_size"): (
        "batch",
        "rollout.prompts",
        "learning.batch_tokens",
    ),
    ("micro_batch_size", "gradient_accumulation_steps", "per_device_batch_size"): (
        "microbatch_tokens",
        "learning.microbatch_tokens",
    ),
    ("mini_batch_size", "num_mini_batches"): ("minibatches",),
    ("max_seq_length", "max_seq_len", "max_length", "seq_len", "seq_length", "block_size", "context_length"): (
        "context",
        "sizing.context",
    ),
    ("max_new_tokens", "response_length", "max_completion_length", "max_gen_toks"): (
        "max_tokens",
        "rollout.max_tokens",
    ),
    ("warmup_steps", "num_warmup_steps", "warmup_ratio", "lr_warmup_steps"): ("warmup", "learning.warmup"),
    ("lr_scheduler", "lr_scheduler_type", "scheduler"): ("schedule",),
    ("grad_clip", "max_grad_norm", "gradient_clipping"): ("gradient_clip", "clip", "learning.clip"),
    ("cliprange", "clip_range", "epsilon"): ("clip",),
    ("wd", "decay_rate"): ("weight_decay", "learning.weight_decay"),
    ("kl_coef", "init_kl_coef", "kl_penalty", "kl_weight", "beta"): ("beta", "kl.coefficient"),
    ("target_kl", "kl_target"): ("kl.adaptive_target", "kl.stop_at"),
    ("vf_coef", "value_coef", "vf_loss_coef"): ("value.coefficient",),
    ("discount",): ("value.gamma",),
    ("lam", "gae_lam"): ("value.gae_lambda",),
    ("num_generations", "num_return_sequences", "num_samples", "best_of", "n_samples"): (
        "rollout.replies",
        "k",
        "samples",
    ),
    ("sft_weight", "rpo_alpha", "nll_weight"): ("nll",),
    ("lora_r", "lora_rank", "peft_r"): ("lora.rank",),
    ("lora_alpha",): ("lora.alpha",),
    ("freeze_layers", "num_frozen_layers"): ("frozen_layers",),
    ("save_steps", "save_interval", "checkpoint_every", "checkpoint_interval"): ("save_every",),
    ("eval_steps", "eval_interval", "eval_every"): ("evaluate_every", "heldout.every"),
    ("num_fewshot", "num_shots", "n_shots", "few_shot", "fewshot"): ("shots", "change.shots"),
    ("max_samples", "max_examples", "num_examples", "subset"): ("limit",),
    ("benchmarks", "evals", "evaluations"): ("tasks", "benchmarks"),
    ("num_layers", "n_layer", "n_layers", "num_hidden_layers"): ("sizing.layers",),
    ("hidden_size", "d_model", "n_embd", "dim"): ("sizing.width",),
    ("num_heads", "n_head", "n_heads", "num_attention_heads"): ("sizing.heads",),
    ("num_key_value_heads", "n_kv_heads"): ("sizing.key_heads",),
    ("intermediate_size", "ffn_dim", "d_ff"): ("sizing.feed_forward",),
    ("vocab_size",): ("vocabulary.size",),
    ("gradient_checkpointing", "activation_checkpointing"): ("recompute",),
    ("torch_compile",): ("compile",),
    ("early_stopping", "early_stopping_patience"): ("keep.patience", "guard.patience"),
}
_ROLES = {
    ("model", "base_model", "model_name", "model_name_or_path", "checkpoint"): ("policy", "start", "models"),
    ("ref_model", "reference_model"): ("start",),
    ("dataset", "data", "train_data", "train_dataset"): ("dialogues", "comparisons", "prompts", "corpus", "sources"),
    ("preferences", "pairs", "preference_data"): ("comparisons",),
    ("eval_dataset", "validation", "val_dataset", "dev"): ("heldout", "heldout_prompts"),
    ("judge", "annotator"): ("judge", "grader", "labeller"),
    ("principles",): ("constitution",),
}
_ROOMS = {
    ("ppo", "grpo", "rloo", "rlhf", "reinforce"): ("rl",),
    ("sft", "instruct", "fine_tune", "finetuning", "train"): ("finetune",),
    ("reward_model", "reward", "rm", "preference_model", "reward_modeling"): ("reward", "preference"),
    ("pretraining", "pre_train", "lm"): ("pretrain",),
    ("tokenize", "tokenizer", "preprocess"): ("corpus",),
    ("ipo", "preference_optimization"): ("dpo",),
    ("cai", "constitutional", "revise", "revision", "self_critique"): ("critique",),
    ("rlaif", "label", "labels", "ai_feedback", "labelling"): ("feedback",),
    ("best_of_n", "bon", "rejection_sampling", "rejection"): ("select",),
    ("benchmark", "eval", "test", "lm_eval"): ("evaluate",),
    ("model_card", "report"): ("card",),
    ("chatbot_arena", "human_feedback", "votes"): ("arena",),
    ("model_merging", "interpolate", "soup"): ("merge",),
    ("scaling_law", "scaling_laws"): ("scaling",),
}
_METRICS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("perplexity", "ppl", "bits_per_character", "nll_per_token"): ("bits_per_byte",)
}
Model = TypeVar("Model", bound=BaseModel)
UNKNOWN = "extra_forbidden"  # pydantic's name of this problem
LONGEST_WORD = 100  # characters to compare: the input may have any length
KEY = "[key]"  # how pydantic names the key itself of a mapping
_UNION = re.compile(r"str|int|float|bool|none|\w+\[.*\]")
_WORDS = {
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have {max_length} or fewer entries",
    "literal_error": "must be {expected}",
    "value_error": "{error}",
    "finite_number": "must be a finite number",
}
_KINDS = {
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "string": "must be text",
    "list": "must be a list",
    "tuple": "must be a list",
    "dict": "must be a mapping of names to values",
    "model": "must be a mapping of names to values",
}


def _by_word(*tables: Mapping[tuple[str, ...], tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    meanings: dict[str, tuple[str, ...]] = {}
    for words, ours in (row for table in tables for row in table.items()):
        meanings |= {word: (*meanings.get(word, ()), *ours) for word in words}
    return meanings


ALIASES = _by_word(_SETTINGS, _ROLES, _ROOMS, _METRICS)


def our_name(word: str, allowed: Collection[str]) -> str | None:
    """Charter's name of what other tools call `word`, if it is one of the allowed names."""
    key = word.lower().replace("-", "_")
    return next((name for name in ALIASES.get(key, ()) if name in allowed), None)


def validate(model: type[Model], data: object, place: str | Path, reword: Callable[[str], str] = str) -> Model:
    """Data as an instance of `model`. Raises CharterError with `place` and the first problem, which `reword` may
    rephrase."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise CharterError(f"{place}: {reword(first_problem(error, model))}") from None


def suggest(word: str, allowed: Iterable[str]) -> str:
    """'did you mean X? ' if one of the allowed names is close or means what other tools call so, then all names."""
    names = list(allowed)
    guess = our_name(word, names) or near(word, names)
    hint = f"did you mean {guess}? " if guess else ""
    return f"{hint}allowed: {', '.join(names) if names else 'none'}"


def near(word: str, names: Sequence[str], alike: float = 0.6) -> str | None:
    """The name that a word probably misspells; `alike` is the least similarity, from 0 to 1."""
    folded = {name.lower(): name for name in reversed(names)}
    close = difflib.get_close_matches(word[:LONGEST_WORD].lower(), folded, n=1, cutoff=alike)
    return folded[close[0]] if close else None


def suggest_key(model: type[BaseModel], place: Sequence[int | str]) -> str:
    """Suggests the meaning of an unknown key in data for `model`, as `suggest` does. For a key of another part it names
    the place."""
    *above, last = place
    word, fields = str(last), _fields_at(model, above)
    elsewhere = _nested_keys(model)
    guess = word if word in elsewhere else our_name(word, [*fields, *elsewhere, *elsewhere.values()])
    guess = guess or near(word, fields) or near(word, list(elsewhere), alike=0.8)
    if guess and guess not in fields:
        return f"did you mean {elsewhere.get(guess, guess)}? {suggest('', fields)}"
    return suggest(word, fields)


def misspelt_first(problems: Sequence[ErrorDetails]) -> ErrorDetails:
    """The problem to report: an unknown key before other problems, which it may cause."""
    return next((problem for problem in problems if problem["type"] == UNKNOWN), problems[0])


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem in data validated against `model`, on one line; a misspelt key comes first."""
    problems = error.errors(include_url=False)
    problem = misspelt_first(problems)
    place = list(problem["loc"])
    name = ".".join(str(part) for part in place)
    if problem["type"] == UNKNOWN:
        return f"unknown key {name}; {suggest_key(model, place)}"
    if place and place[-1] == KEY and problem["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(problem.get("ctx", {}).get("expected", "")))
        return f"unknown key {'.'.join(map(str, place[:-1]))}; {suggest(str(place[-2]), allowed)}"
    if problem["type"] == "missing":
        return f"{name} is missing"
    alternatives = [other for other in problems if _alternative(other, problem)]
    if alternatives:
        name = ".".join(str(part) for part in place[:-1])
    first, *further = dict.fromkeys(_words(alternative) for alternative in alternatives or [problem])
    words = " or ".join([first, *(form.removeprefix("must be ") for form in further)])
    return f"{name}{': ' if name else ''}{words}{_describe_value(problem['input'])}"


def _words(problem: ErrorDetails) -> str:
    """The expectation in plain words, or pydantic's message for other types of problems."""
    if (words := _WORDS.get(problem["type"])) is not None:
        return words.format(**problem.get("ctx", {}))
    if (words := _KINDS.get(problem["type"].partition("_")[0])) is not None:
        return words
    return problem["msg"][:1].lower() + problem["msg"][1:]


def problem_words(problem: ErrorDetails) -> str:
    """The expectation, and the value that doesn't meet it, without its place."""
    return f"{_words(problem)}{_describe_value(problem['input'])}"


def _alternative(other: ErrorDetails, problem: ErrorDetails) -> bool:
    """Whether a problem concerns another allowed form of the same value: text, or a list of texts."""
    place = problem["loc"]
    same = other["input"] is problem["input"] and other["loc"][:-1] == place[:-1]
    return same and all(_UNION.fullmatch(str(loc[-1])) is not None for loc in (other["loc"], place) if loc)


def _describe_value(value: object) -> str:
    """' (given 3)'; "" for lists and mappings, which would fill the line."""
    if isinstance(value, list | dict | tuple | BaseModel):
        return ""
    text = "nothing" if value is None else repr(value)
    return f" (given {text if len(text) <= 60 else text[:57] + '...'})"


def _fields_at(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The field names (as written in YAML) of the class at the end of a path of fields."""
    classes, in_mapping = [model], False
    for part in place:
        if isinstance(part, int):
            continue
        if in_mapping:  # a name in a mapping, whose values are of the classes here
            in_mapping = False
            continue
        if len(classes) > 1:  # pydantic names which of several forms it read
            classes = [form for form in classes if _is_form(form, part)] or classes
            continue
        field = next((f for form in classes for n, f in form.model_fields.items() if part in (n, f.alias)), None)
        classes = _classes_in(field.annotation) if field is not None else []
        in_mapping = field is not None and _is_mapping(field.annotation)
    return list(dict.fromkeys(name for form in classes for name in _names(form)))


@lru_cache(maxsize=64)
def _nested_keys(model: type[BaseModel]) -> dict[str, str]:
    """The keys of a model's parts, each with its first place: {"max_output": "models.max_output"}."""
    places: dict[str, str] = {}
    waiting, classes = [("", model)], {model}
    for above, part in waiting:
        for name, field in part.model_fields.items():
            key = field.alias or name
            at = above + key
            if above:
                places.setdefault(key, at)
            inner = [each for each in _classes_in(field.annotation) if each not in classes]
            classes.update(inner)
            waiting += [(f"{at}.", each) for each in inner]
    return places


def _is_mapping(annotation: object) -> bool:
    """Whether an annotation is a mapping, or has one among its forms."""
    return get_origin(annotation) in (dict, Mapping) or any(_is_mapping(form) for form in get_args(annotation))


def _is_form(model: type[BaseModel], tag: str) -> bool:
    """Whether a part of a place means this form: its name, or the value of its tag."""
    return tag == model.__name__ or any(tag in get_args(f.annotation) for f in model.model_fields.values())


def _names(model: type[BaseModel]) -> Iterator[str]:
    return (field.alias or name for name, field in model.model_fields.items())


def _classes_in(annotation: object) -> list[type[BaseModel]]:
    """The pydantic classes in an annotation such as Optional[Sampling] or list[Step | Group]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _classes_in(inner)]
