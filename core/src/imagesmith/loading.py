"""A target, as people write it, to the ImageSpec it names.

spec.toml, spec.yaml, spec.json      fields at the top level; base_image may be a table of fields
app.py:image, package.module:image   an attribute of Python code; without it, the only ImageSpec there
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith._checks import nearest
from imagesmith._plain_files import READERS, read_mapping
from imagesmith.errors import Problem, SpecError, SpecFileError, UsageError
from imagesmith.spec import ImageSpec

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

__all__ = ["load"]

_FORMS = "a target is spec.toml, spec.yaml, spec.json, file.py[:attribute] or module[:attribute]"
_PYTHON = re.compile(r"(?P<place>.+?)(?::(?P<attribute>[^:/\\]*))?")


def load(target: str | os.PathLike[str]) -> ImageSpec:
    """The spec that ``target`` names. Python code in it is executed.

    Raises:
        SpecFileError: the file, or the declaration in the Python code, is wrong.
        UsageError: there is no such target, it holds no spec, or its code fails.
    """
    text = os.fspath(target)
    if Path(text).suffix.lower() in READERS:
        return _from_file(Path(text))
    matched = _PYTHON.fullmatch(text)
    if matched is None or matched["attribute"] == "":
        raise UsageError(f"{text!r} is no target", hint=_FORMS)
    place, attribute = matched["place"], matched["attribute"]
    if place.endswith(".py"):
        module = _executed(_existing(Path(place)))
    elif re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", place):
        module = _imported(place)
    else:
        raise UsageError(f"{text!r} is no target", hint=_FORMS)
    return _chosen(module, place, attribute)


def _from_file(path: Path) -> ImageSpec:
    problems: list[Problem] = []
    fields = read_mapping(_existing(path))
    try:
        spec = _built(fields, os.path.abspath(path.parent), "", problems)  # noqa: PTH100 - keeps symlinks
    except SpecError as error:
        raise SpecFileError([*problems, *error.problems], file=str(path)) from error
    if problems:
        raise SpecFileError(problems, file=str(path))
    return spec


def _built(fields: Mapping[str, object], root: str, prefix: str, problems: list[Problem]) -> ImageSpec:
    """The spec of a table; what is wrong with a base in it is added to ``problems`` under its path."""
    given = dict(fields)
    if "root" in given:
        del given["root"]
        problems.append(Problem(f"{prefix}root", "is the folder of this file", "leave it out"))
    base = given.get("base_image")
    if isinstance(base, Mapping):
        del given["base_image"]
        here = f"{prefix}base_image."
        try:
            given["base_image"] = _built(base, root, here, problems)
        except SpecError as error:
            problems += [Problem(f"{here}{each.path}", each.message, each.hint) for each in error.problems]
    return ImageSpec(**given, root=root)  # type: ignore[arg-type]  # the constructor checks the types


def _existing(path: Path) -> Path:
    if path.is_file():
        return path
    if path.exists():
        raise UsageError(f"{path} is not a file", hint=_FORMS)
    folder = path.parent
    names = [each.name for each in folder.iterdir() if each.suffix == path.suffix] if folder.is_dir() else []
    close = nearest(path.name, names)
    hint = f"did you mean {str(folder / close)!r}?" if close else f"looked in {folder.absolute()}"
    raise UsageError(f"no such file: {path}", hint=hint)


def _executed(path: Path) -> ModuleType:
    """The file as a module, under the name that an import would give it, executed once per process."""
    path = path.resolve()
    folder, name = path.parent, path.stem
    while (folder / "__init__.py").is_file():
        folder, name = folder.parent, f"{folder.name}.{name}"
    loaded = sys.modules.get(name)
    if loaded is not None and _is_from(loaded, path):
        return loaded
    if loaded is not None or name in sys.stdlib_module_names or not name.replace(".", "_").isidentifier():
        name = "_imagesmith_target_" + re.sub(r"\W", "_", str(path))
        if name in sys.modules:
            return sys.modules[name]
    with _on_path(folder), _explained(str(path)):
        if "." in name:
            module = importlib.import_module(name)
            if not _is_from(module, path):
                other = getattr(module, "__file__", None)
                raise UsageError(f"{path} is {name} by its folders, but that name is taken by {other}")
            return module
        found = importlib.util.spec_from_file_location(name, path)
        if found is None or found.loader is None:
            raise UsageError(f"{path} cannot be loaded as Python code", hint=_FORMS)
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module
        try:
            found.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module


def _is_from(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path


def _imported(name: str) -> ModuleType:
    with _on_path(Path.cwd()), _explained(name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            hint = f"looked on sys.path and in {Path.cwd()}; a file is named with its ending: {name}.py"
            raise UsageError(f"no module named {error.name!r}", hint=hint) from error


@contextlib.contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)


@contextlib.contextmanager
def _explained(target: str) -> Iterator[None]:
    """Turn whatever the user's code raises into an error that says where."""
    try:
        yield
    except UsageError:
        raise
    except SpecError as error:
        raise SpecFileError(error.problems, file=_where(error.__traceback__, target)) from error
    except SyntaxError as error:
        raise UsageError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        hint = None
        if isinstance(error, ModuleNotFoundError):
            hint = "install it here, or import it where it is used: `with spec.imports():`"
        where = _where(error.__traceback__, target)
        raise UsageError(f"{where}: {type(error).__name__}: {error}", hint=hint) from error


def _where(traceback: TracebackType | None, target: str) -> str:
    """File and line of the user's code that was running: the first frame that is not the import itself."""
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file != __file__ and not file.startswith("<frozen") and Path(file).parent.name != "importlib":
            return f"{file}, line {traceback.tb_lineno}"
        traceback = traceback.tb_next
    return target


def _chosen(module: ModuleType, place: str, attribute: str | None) -> ImageSpec:
    candidates = {name: value for name, value in vars(module).items() if isinstance(value, ImageSpec)}
    found = ", ".join(f"{place}:{name}" for name in candidates)
    if attribute is None:
        if len({id(value) for value in candidates.values()}) == 1:
            return next(iter(candidates.values()))
        if candidates:
            raise UsageError(f"{place} holds several specs", hint=f"name one: {found}")
        raise UsageError(f"{place} holds no ImageSpec at its top level", hint=_FORMS)
    value: object = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            close = nearest(attribute, list(candidates))
            hint = f"did you mean {place}:{close}?" if close else f"its specs: {found or 'none'}"
            raise UsageError(f"{place} has no attribute {attribute!r}", hint=hint)
        value = getattr(value, part)
    if not isinstance(value, ImageSpec):
        kind = type(value).__name__
        raise UsageError(
            f"{place}:{attribute} is no ImageSpec, but of type {kind}", hint=f"its specs: {found or 'none'}"
        )
    return value
