"""The code of light templates, run while deploying: what a part will compute is compared before it is written."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from types import ModuleType

from conch.deploy.family import libraries_of


@functools.cache
def light_module(name: str) -> ModuleType:
    """The library of `conch.deploy.templates` of that name; one that needs no `triton_python_backend_utils`."""
    path = str(resources.files("conch.deploy") / "templates" / f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"conch.deploy.templates.{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    imported = (file.removesuffix(".py") for file in libraries_of(f"{name}.py"))
    with _importable({each: light_module(each) for each in imported}):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _importable(modules: Mapping[str, ModuleType]) -> Iterator[None]:
    """Modules that lie beside a part, by the names it imports them by."""
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
