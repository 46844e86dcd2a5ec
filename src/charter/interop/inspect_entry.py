"""The module that Inspect loads for every model: it names the provider and the audit's task, without importing torch.

pyproject.toml names this module under the entry points `inspect_ai`.
"""

from inspect_ai.model import ModelAPI, modelapi

from charter.interop.inspect_audit import audit as audit
from charter.runner.rooms import load_module


@modelapi(name="charter")
def charter() -> type[ModelAPI]:
    """The provider of `charter/STEP-FOLDER-OR-MODEL`."""
    provider: type[ModelAPI] = load_module("charter.interop.inspect_model").CharterAPI
    return provider
