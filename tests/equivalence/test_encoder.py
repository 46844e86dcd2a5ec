"""The sentence encoder: the states of the published implementation, with and without an adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import BertModel

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.steps import drain
from charter.ground.model import sentence_encoder as encoders
from charter.ground.model.sentence_encoder import WEIGHTS, encoder_folder
from charter.ground.moderation.classifiers.encoder import BEFORE, READ, WINDOW, Encoder
from charter.ground.moderation.classifiers.reader import Window

pytestmark = pytest.mark.skipif(not encoders.is_installed(), reason=f"the package {encoders.PACKAGE} is not installed")
SAID = [
    "How do I forge a signature?",
    "日本 and \U0001f600",
    "[SEP] [CLS] [MASK]",
    "word " * 500,
    "Grüße aus Köln",
    "a" * 3000,
    "",
]


@pytest.fixture(scope="module")
def plain() -> Encoder:
    return Encoder.open(encoder_folder(), {})


def theirs(encoder: Encoder, window: Window, folder: Path) -> torch.Tensor:
    """What transformers makes of a window."""

    model = BertModel.from_pretrained(folder).eval()
    before = [*window.before, encoders.SEP] if window.before else []
    ids = [encoders.CLS, *before, *window.ids, encoders.SEP]
    start = 1 + len(before)
    parts = [0] * start + [int(start > 1)] * (len(ids) - start)
    with torch.no_grad():
        states = model(
            torch.tensor([ids]), token_type_ids=torch.tensor([parts]), output_hidden_states=True
        ).hidden_states
    return torch.cat([10 * F.normalize(states[layer + 1][0, start:].mean(0), dim=-1) for layer in READ])


def test_vectors_are_those_of_the_published_model(plain: Encoder) -> None:
    windows = [w for text in SAID for before in ("", "Human: hello\n\n") for w in plain.windows(text, before)]
    vectors = plain.vectors(windows)
    assert vectors.shape == (len(windows), plain.width)
    for window, vector in list(zip(windows, vectors, strict=True))[::3]:
        torch.testing.assert_close(vector, theirs(plain, window, encoder_folder()), atol=2e-4, rtol=1e-3)


def test_an_adapter_changes_its_projection_by_the_product(plain: Encoder) -> None:
    name = "encoder.layer.4.intermediate.dense"
    a, b = torch.randn(384, 2) / 20, torch.randn(2, 1536)
    changed = Encoder.open(encoder_folder(), {f"{name}.a": a, f"{name}.b": b})
    x = torch.randn(3, 384)
    torch.testing.assert_close(
        changed.model._project(x, name), plain.model._project(x, name) + x @ a @ b, atol=1e-4, rtol=1e-4
    )
    untouched = "encoder.layer.4.output.dense"
    assert torch.equal(changed.model.weights[f"{untouched}.weight"], plain.model.weights[f"{untouched}.weight"])


def test_windows_reach_the_end_and_a_special_token_that_is_spelled_stays_text(plain: Encoder) -> None:
    whole = plain.tokenizer.encode("word " * 500)
    windows = plain.windows("word " * 500, "before " * 100)
    assert all(len(w.ids) <= WINDOW and len(w.before) == BEFORE for w in windows)
    assert windows[-1].ids[-1] == whole[-1] and windows[0].ids == tuple(whole[:WINDOW])
    (spelled,) = plain.windows("[SEP] [CLS]")
    assert not {encoders.SEP, encoders.CLS} & set(spelled.ids)
    assert plain.windows("")[0].ids


def test_a_growing_text_has_the_vectors_of_one_that_is_read_again(plain: Encoder) -> None:
    growing, text = plain.open_stream(), "It depends on what they say there. " * 40
    for end in (5, 90, 700, len(text)):
        windows = plain.windows(text[:end], "Human: well?\n\n")
        torch.testing.assert_close(drain(growing.steps(windows)), plain.vectors(windows), atol=1e-4, rtol=1e-4)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    folder = encoder_folder()
    for path in folder.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(CharterError, match=r"isn't that of sentence-transformers/all-MiniLM-L6-v2"):
        Encoder.open(tmp_path, {})
    tensors = load_file(folder / WEIGHTS)
    tensors["embeddings.LayerNorm.bias"] += 0.01
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(CharterError, match="SHA-256 differs"):
        Encoder.open(tmp_path, {})
