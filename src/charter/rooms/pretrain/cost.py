"""What a run will cost, said before it: minutes and memory, from its plan and what was measured of machines."""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.learn.flops import per_token
from charter.ground.settings.estimate import Sizes
from charter.rooms.pretrain.size import Derived

Span = tuple[int, float]  # tokens to learn, and how many others each of them sees on average

CPU_THREAD = 1.3e11  # operations a second of float32 products at best, a thread
GPU = 9.89e14  # an H100's in bfloat16: which GPU it will be isn't known beforehand
SHARES = ((0, 0.4), (256, 0.5), (512, 0.6))  # of the peak, from a width on, on a CPU
GPU_SHARE = 0.4
SEEN = 0.25  # tokens that a token sees on average, as a share of the context: documents are shorter than it
LOGITS = 512 * 3  # rows of the vocabulary that the loss holds at once
SLACK = 1.25  # what long rows take of a CPU's memory, measured, over what is counted


def minutes(plan: Derived, sizes: Sizes, spans: Sequence[Span] = ()) -> float:
    """Of learning all tokens, without measurements on the way; `spans`: those of texts that fill a window."""
    shape = plan.shape
    if sizes.device.startswith("cuda"):
        rate = GPU * GPU_SHARE
    else:
        share = next(share for width, share in reversed(SHARES) if shape.hidden_size >= width)
        rate = CPU_THREAD * max(1, sizes.threads) * share * sizes.gain
    if spans:
        return sum(tokens * per_token(shape, seen) for tokens, seen in spans) / rate / 60
    return plan.tokens * per_token(shape, SEEN * plan.context) / rate / 60


def memory_bytes(plan: Derived, optimizer_bytes: float, recompute: bool, lean: bool = False) -> float:
    """Weights, gradients, the optimizer's state, what is kept of a microbatch for backward, and the loss's logits.
    `lean`: of long rows on a CPU, as `ground/model/recomputing.py` counts it."""
    shape = plan.shape
    rows = max(plan.microbatch_tokens, plan.context)
    heads = (shape.num_heads + shape.num_kv_heads) * shape.head_dim
    kept = 5 * shape.hidden_size + 4 * heads + 3 * shape.intermediate_size  # floats a token and block
    blocks: float = shape.hidden_size * shape.num_layers + kept if recompute else kept * shape.num_layers
    if lean:
        query, key = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
        blocks = shape.num_layers * (shape.hidden_size + query + shape.num_heads)
        blocks = SLACK * (blocks + 6 * shape.hidden_size + 4 * query + 4 * key)
    activations = 4 * rows * blocks
    return 8 * shape.num_parameters + optimizer_bytes + activations + 4 * LOGITS * shape.vocab_size
