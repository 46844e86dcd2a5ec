"""New weights for a served model, from a folder that `rl` writes before each round that this server samples.

Off unless the configuration names a folder that may contain them. New weights are loaded beside the engine and swapped
in between two tokens: running replies continue with the new weights, and caches of the old ones are dropped.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.model.checkpoint import load_policy, named_tensors
from charter.ground.model.transformer import Transformer
from charter.ground.settings.purpose import refuse
from charter.ground.text.tokenizer import Tokenizer
from charter_service.api.errors import ApiError, invalid

START = "default"  # the version of the initial weights, as in vLLM
UNNAMED = "unnamed"  # the version of weights without a name so far


def check_folder(name: str, root: Path | None) -> Path:
    """The folder of new weights. Raises ApiError if the model takes none, and if the folder isn't below `root`."""
    if root is None:
        raise ApiError(403, "this model takes no new weights; allow them with charter serve --weights-from FOLDER")
    try:
        folder = Path(name).resolve()
        files = [path.resolve() for path in folder.iterdir()] if folder.is_dir() else []
    except (ValueError, OSError) as error:
        raise invalid(f"weights_path: {error}", "weights_path") from None
    if not all(path.is_relative_to(root) for path in (folder, *files)):  # links may lead anywhere
        raise ApiError(403, f"weights_path: new weights must be below {root}", param="weights_path")
    return folder


def read_weights(folder: Path, model: Transformer, tokenizer: Tokenizer) -> dict[str, Tensor]:
    """The weights of a folder by their names, on the model's device. Raises CharterError if the folder can't be read,
    and for a checkpoint of another shape or tokenizer."""
    refuse(folder, "it is not served")
    loaded, other = load_policy(folder, model.device, model.dtype)
    if loaded.shape != model.shape:
        raise CharterError(f"{folder} holds a model of another shape than the served one")
    if other.digest != tokenizer.digest:
        raise CharterError(f"{folder} has another tokenizer than the served model")
    return named_tensors(loaded)
