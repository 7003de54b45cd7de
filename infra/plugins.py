"""Code of the user's own: found by name, with a version for the records, and named when it fails."""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of
from onibus.infra.process.ending import leave_the_end_to_python

_ROOT = Path(__file__).resolve().parents[1]
_OURS = {_ROOT / name for name in ("consumers", "infra", "learner", "producers", "schemas")}
_checksums: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()
_imported: set[str] = set()
_EXAMPLES = _ROOT / "infra" / "examples"


class without_packaging_warnings(warnings.catch_warnings):  # noqa: N801  (reads as a statement)
    """MiniHack imports pkg_resources, which warns about its own end: nothing a user can act on."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.filterwarnings("ignore", message=".*pkg_resources")
        warnings.filterwarnings("ignore", message=".*declare_namespace")
        return entered


def import_plugin(flag: str, name: str) -> ModuleType:
    """The module ``name``, which may lie in the current folder.

    Args:
        flag: what the user typed it with, for errors.
        name: dotted name of a module.

    Raises:
        OnibusError: there is no such module, or it cannot be imported.
    """
    if name.endswith(".py") or os.sep in name:
        stem = Path(name).stem
        raise OnibusError(f"{flag} {name}: give a module's name, not a file's: {flag} {stem}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # as python -m does; child processes are spawned with the same path
    leave_the_end_to_python()
    try:
        with without_packaging_warnings():
            module = import_module(name)
        checksum_of(module)
        _imported.add(name)
        return module
    except OnibusError:
        raise
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise OnibusError(
                f"{flag} {name}: there is no module {error.name}; run this in the folder that holds it, or "
                "install it beside onibus"
            ) from error
        raise _not_importable(flag, name, error) from error
    except Exception as error:
        raise _not_importable(flag, name, error) from error


def was_imported(name: str) -> bool:
    """Whether :func:`import_plugin` has imported this module, which a person then named."""
    return name in _imported and name in sys.modules


def load_plugin(flag: str, reference: str) -> Any:
    """The object that ``module:name`` stands for.

    Raises:
        OnibusError: as :func:`import_plugin`; or the module has no such name.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise OnibusError(f"{flag} {reference}: write it as module:name, for example my_module:MyClass")
    module = import_plugin(flag, module_name)
    try:
        return getattr(module, name)
    except AttributeError as error:
        raise OnibusError(f"{flag} {reference}: {module_name} has no {name}; is it spelt so?") from error


def is_plugin(reference: str) -> bool:
    """Whether a value of a flag is ``module:name``."""
    return ":" in reference


def version_of(module_name: str) -> str:
    """What records say of the version of an imported module.

    Its package's ``__version__``, or that of the distribution that it comes from; for a file that has
    neither, ``sha256-`` and the first 12 digits of its content's hash.
    """
    top = module_name.partition(".")[0]
    module = sys.modules.get(module_name)
    for one in (module, sys.modules.get(top)):
        if stated := getattr(one, "__version__", None):
            return str(stated)
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return "unknown"
    for name in metadata.packages_distributions().get(top, []):
        distribution = metadata.distribution(name)
        here = Path(str(distribution.locate_file(""))).resolve() in Path(file).resolve().parents
        if here or '"editable": true' in (distribution.read_text("direct_url.json") or ""):
            return distribution.version
    return checksum_of(module)


def checksum_of(module: ModuleType) -> str:
    """``sha256-`` and the first 12 digits of the hash of a module's file; empty if it has none.

    It is that of the code at work: the file as it was when the module was imported, or first asked about.
    """
    found = _checksums.get(module)
    if found is None:
        file = getattr(module, "__file__", None)
        found = "" if file is None else f"sha256-{hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]}"
        _checksums[module] = found
    return found


def failure_of(what: str, error: BaseException) -> OnibusError:
    """What a plug-in raised, in one line that names it and the place.

    Args:
        what: the plug-in and what it was doing.
        error: what it raised.
    """
    if isinstance(error, OnibusError):
        return OnibusError(f"{what} failed: {error}")
    place = _place(error)
    return OnibusError(f"{what} failed: {reason_of(error)}{place}; correct it{' there' if place else ''}")


def _place(error: BaseException) -> str:
    """The innermost line that was at work and is not onibus's own: of the plug-in, or of what it uses."""
    found, step = "", error.__traceback__
    while step is not None:
        file = Path(step.tb_frame.f_code.co_filename).resolve()
        if _OURS.isdisjoint(file.parents) or _EXAMPLES in file.parents:
            found = f" ({file.name}, line {step.tb_lineno})"
        step = step.tb_next
    return found


def _not_importable(flag: str, name: str, error: BaseException) -> OnibusError:
    return OnibusError(f"{flag} {name}: the module cannot be imported: {reason_of(error)}{_place(error)}")
