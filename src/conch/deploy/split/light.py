"""The code of light templates, run while deploying: what a part will compute is compared before it is written."""

from __future__ import annotations

import functools
import importlib.util
from importlib import resources
from types import ModuleType


@functools.cache
def light_module(name: str) -> ModuleType:
    """The library of `conch.deploy.templates` of that name; one that imports no other library there."""
    path = str(resources.files("conch.deploy") / "templates" / f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"conch.deploy.templates.{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
