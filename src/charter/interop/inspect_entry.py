"""The module that Inspect loads for every model: it only names the provider, so other models don't import torch.

pyproject.toml names this module under the entry points `inspect_ai`.
"""

from inspect_ai.model import ModelAPI, modelapi

from charter.runner.rooms import load_module


@modelapi(name="charter")
def charter() -> type[ModelAPI]:
    """The provider of `charter/STEP-FOLDER-OR-MODEL`."""
    provider: type[ModelAPI] = load_module("charter.interop.inspect_model").CharterAPI
    return provider
