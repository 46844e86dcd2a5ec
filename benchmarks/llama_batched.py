"""llama.cpp's library with all sequences in one batch: llama_batched.py FILE THREADS PROMPT NEW STREAMS...

Random prompts of PROMPT tokens, read together in one batch, then NEW greedy tokens of every sequence, a step for all at
a time. Prints one line of JSON: tokens a second with the prompts, the best of three. Runs in an interpreter that has
llama-cpp-python; `serving.py` calls it.
"""

import ctypes
import json
import resource
import sys
import time

import llama_cpp
import numpy as np


@llama_cpp.llama_log_callback
def _silent(level, text, data):
    """llama.cpp says much."""


def fill(batch, rows):
    """Puts (token, position, sequence, whether logits are wanted) into a batch."""
    batch.n_tokens = len(rows)
    for at, (token, position, sequence, wanted) in enumerate(rows):
        batch.token[at], batch.pos[at] = token, position
        batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
        batch.logits[at] = wanted
    return batch


def rate(model, threads, prompts, new):
    """New tokens a second."""
    count, length = prompts.shape
    how = llama_cpp.llama_context_default_params()
    how.n_ctx, how.n_seq_max = count * 256, count
    how.n_batch, how.n_ubatch = max(2048, count * length), 512
    how.n_threads = how.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, how)
    batch = llama_cpp.llama_batch_init(count * length, 0, count)
    size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def decode(rows):
        if llama_cpp.llama_decode(context, fill(batch, rows)):
            raise RuntimeError("llama_decode failed")

    def likeliest():
        logits = llama_cpp.llama_get_logits(context)
        return np.ctypeslib.as_array(logits, (count, size)).argmax(1).tolist()

    began = time.perf_counter()
    decode([(int(prompts[s, p]), p, s, p == length - 1) for s in range(count) for p in range(length)])
    tokens = likeliest()
    for step in range(new - 1):
        decode([(tokens[s], length + step, s, 1) for s in range(count)])
        tokens = likeliest()
    seconds = time.perf_counter() - began
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    return count * new / seconds


def main():
    """Measures every number of streams."""
    file, threads, length, new, *counts = sys.argv[1:]
    llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    how = llama_cpp.llama_model_default_params()
    how.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(file.encode(), how)
    size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    draw = np.random.default_rng(0)
    found = {}
    for count in map(int, counts):
        prompts = draw.integers(100, size - 1000, (count, int(length)))
        rate(model, int(threads), prompts[:1], 2)
        found[f"rate_{count}"] = max(rate(model, int(threads), prompts, int(new)) for _ in range(3))
    found["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(found))


main()
