"""The project's own source as facts: which module imports what, which names it uses, how long its functions are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gateway", "backends")


def within(name: str, prefix: str) -> bool:
    """Tell whether the dotted `name` is `prefix` or lies below it."""
    return name == prefix or name.startswith(f"{prefix}.")


@dataclass(frozen=True)
class Function:
    """A function or method, and the lines from its `def` to its end."""

    name: str
    lines: int


@dataclass(frozen=True)
class Module:
    """One module, parsed; `name` is dotted, and a package has that of its directory."""

    name: str
    path: str  # from the root of the project
    text: str
    is_package: bool

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        return tuple(ast.walk(ast.parse(self.text)))

    @cached_property
    def imports(self) -> frozenset[str]:
        """What is imported anywhere in it, dotted: `from urllib.parse import quote` is `urllib.parse.quote`."""
        return frozenset(self._imports())

    @cached_property
    def names(self) -> frozenset[str]:
        """Every name and attribute that the code uses, whatever it is bound to."""
        used = {node.id for node in self.nodes if isinstance(node, ast.Name)}
        used |= {node.attr for node in self.nodes if isinstance(node, ast.Attribute)}
        return frozenset(used | {name.rpartition(".")[2] for name in self.imports})

    @cached_property
    def calls(self) -> frozenset[str]:
        """The last names of what is called: `now` for `datetime.now()`."""
        called = [node.func for node in self.nodes if isinstance(node, ast.Call)]
        names = {func.id for func in called if isinstance(func, ast.Name)}
        return frozenset(names | {func.attr for func in called if isinstance(func, ast.Attribute)})

    @property
    def functions(self) -> list[Function]:
        found = [node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        return [Function(node.name, (node.end_lineno or 0) - node.lineno + 1) for node in found]

    def _imports(self) -> Iterator[str]:
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{self._base(node)}.{alias.name}" for alias in node.names)

    def _base(self, node: ast.ImportFrom) -> str:
        """Return the package or module after `from`, in full also where it is given by dots."""
        package = self.name.split(".") if self.is_package else self.name.split(".")[:-1]
        above = package[: len(package) - node.level + 1] if node.level else []
        return ".".join([*above, node.module] if node.module else above)


def module(path: Path) -> Module:
    """Return the module in a file of this project."""
    relative = path.relative_to(ROOT)
    parts = relative.with_suffix("").parts
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    return Module(name, str(relative), path.read_text(encoding="utf-8"), is_package)


def planted(name: str, text: str) -> Module:
    """Return a module that does not exist, to see whether a check finds what is wrong in it."""
    return Module(name, f"{name.replace('.', '/')}.py", text, is_package=False)


MODULES = tuple(module(path) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
NAMES = frozenset(found.name for found in MODULES)
