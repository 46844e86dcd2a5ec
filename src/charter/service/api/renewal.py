"""New weights for a model that is served, from a folder: what `rl` writes before each round that this server samples.

Off unless the configuration names a folder below which they may lie. A reload is read beside the engine and put into it
between two tokens: replies under way go on with the new weights, and nothing that the old ones read is used again.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.model.checkpoint import load_policy, named_tensors
from charter.ground.model.transformer import Transformer
from charter.ground.text.tokenizer import Tokenizer
from charter.service.api.errors import ApiError, invalid

START = "default"  # the version of what the server started with, as vLLM calls it
UNNAMED = "unnamed"  # of weights that nobody named yet


def allowed(name: str, root: Path | None) -> Path:
    """The folder of new weights. Raises ApiError where none are taken, and for one that does not lie below `root`."""
    if root is None:
        raise ApiError(403, "this model takes no new weights; charter serve --weights-from FOLDER lets it")
    try:
        folder = Path(name).resolve()
        files = [path.resolve() for path in folder.iterdir()] if folder.is_dir() else []
    except (ValueError, OSError) as error:
        raise invalid(f"weights_path: {error}", "weights_path") from None
    if not all(path.is_relative_to(root) for path in (folder, *files)):  # links lead where they like
        raise ApiError(403, f"weights_path: new weights must lie below {root}", param="weights_path")
    return folder


def read_weights(folder: Path, model: Transformer, tokenizer: Tokenizer) -> dict[str, Tensor]:
    """The weights of a folder by their names, on the model's device. Raises CharterError for a folder that can't be
    read, and for a checkpoint of another shape or tokenizer."""
    found, other = load_policy(folder, model.device, model.dtype)
    if found.shape != model.shape:
        raise CharterError(f"{folder} holds a model of another shape than the one that is served")
    if other.digest != tokenizer.digest:
        raise CharterError(f"{folder} has another tokenizer than the model that is served")
    return named_tensors(found)
