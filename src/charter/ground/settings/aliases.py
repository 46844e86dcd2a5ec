"""Words of other tools for what Charter names otherwise, so that a refusal can name ours.

A word has several meanings where rooms call the same thing differently; the first that is allowed in a place holds.
"""

from collections.abc import Collection, Mapping

_SETTINGS = {
    ("learning_rate", "init_lr", "max_lr", "peak_lr"): ("lr",),
    ("num_epochs", "num_train_epochs", "n_epochs", "max_epochs", "ppo_epochs", "num_ppo_epochs"): ("epochs",),
    ("max_steps", "num_steps", "train_steps", "total_steps", "iterations", "max_iters"): (
        "steps",
        "learning.steps",
    ),
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
    (
        "max_seq_length",
        "max_seq_len",
        "max_length",
        "seq_len",
        "seq_length",
        "block_size",
        "context_length",
    ): (
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
    ("dataset", "data", "train_data", "train_dataset"): (
        "dialogues",
        "comparisons",
        "prompts",
        "corpus",
        "sources",
    ),
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


def _by_word(*tables: Mapping[tuple[str, ...], tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    meanings: dict[str, tuple[str, ...]] = {}
    for words, ours in (row for table in tables for row in table.items()):
        meanings |= {word: (*meanings.get(word, ()), *ours) for word in words}
    return meanings


_METRICS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("perplexity", "ppl", "bits_per_character", "nll_per_token"): ("bits_per_byte",)
}
ALIASES = _by_word(_SETTINGS, _ROLES, _ROOMS, _METRICS)


def our_name(word: str, allowed: Collection[str]) -> str | None:
    """Charter's name of what other tools call `word`, if it is one of the allowed names."""
    key = word.lower().replace("-", "_")
    return next((name for name in ALIASES.get(key, ()) if name in allowed), None)
