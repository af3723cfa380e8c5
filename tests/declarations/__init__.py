"""One test declaration per op; every module of this package that defines a DECLARATION is included automatically.

The tests of all ops derive from these: core and oracle, HTTP and core, predictions, defaults of frameworks, memory.
"""

from __future__ import annotations

import importlib
import pkgutil

from tests.declarations.declaration import Declaration

__all__ = ["BY_NAME", "DECLARATIONS"]

_modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
DECLARATIONS: tuple[Declaration, ...] = tuple(
    module.DECLARATION for module in _modules if hasattr(module, "DECLARATION")
)
BY_NAME = {declaration.name: declaration for declaration in DECLARATIONS}
