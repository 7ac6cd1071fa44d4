"""What is wrong in a configuration, in words for the operator."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import get_args

from pydantic_core import ErrorDetails

from gateway.config.model import Config
from gateway.config.section import Section

Loc = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to correct: where, what stands there (never a secret), and what may."""

    path: str
    found: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.path or 'the file'}: found {self.found}; allowed: {self.allowed}"


class ConfigError(Exception):
    """The configuration cannot be used; the text has one line per mistake."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = mistakes


def from_pydantic(details: ErrorDetails) -> Mistake:
    """Translate one error of the model."""
    loc = tuple(step for step in details["loc"] if step != "[key]")
    found: str | None = None
    match details["type"]:
        case "missing":
            found, allowed = "nothing", _description(loc)
        case "extra_forbidden":
            found, allowed = "an unknown key", _nearest(str(loc[-1]), _keys(loc[:-1]))
        case "mistake":
            found, allowed = details["ctx"]["found"], details["ctx"]["allowed"]
        case _:
            allowed = _description(loc)
    return Mistake(dotted(loc), found or shown(details["input"]), allowed)


def dotted(loc: Loc) -> str:
    """Write a place in the file as `mounts[1].backend`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc).removeprefix(".")


def shown(value: object) -> str:
    """Show a value of the file: short, and without what stands before an @ in a URL."""
    if isinstance(value, str):
        text = re.sub(r"//[^/@]*@", "//***@", value)
        return repr(text if len(text) <= 80 else f"{text[:80]}...")
    if isinstance(value, bool | int | float):
        return str(value).lower()
    words = {dict: "a mapping", list: "a list", type(None): "nothing"}
    return words.get(type(value)) or f"a {type(value).__name__}"


def _description(loc: Loc) -> str:
    """Say what may stand at `loc`: in the field's own words, else as the keys of the section."""
    for depth in range(len(loc), 0, -1):
        for model in _sections(loc[: depth - 1]):
            field = model.model_fields.get(str(loc[depth - 1]))
            if field is not None:
                return field.description or f"a mapping with keys of {', '.join(_keys(loc[:depth]))}"
    return "a mapping"


def _keys(loc: Loc) -> list[str]:
    return sorted({key for model in _sections(loc) for key in model.model_fields})


def _sections(loc: Loc) -> list[type[Section]]:
    """Return the sections that may stand at `loc`; numbers and free names stay within their container."""
    models: list[type[Section]] = [Config]
    for step in loc:
        fields = [model.model_fields[step] for model in models if isinstance(step, str) and step in model.model_fields]
        models = [model for field in fields for model in _models(field.annotation)] if fields else models
    return models


def _models(annotation: object) -> list[type[Section]]:
    """Return the sections that an annotation speaks of, through Annotated, unions and containers."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _nearest(key: str, known: list[str]) -> str:
    others = [name for name in known if name != key]  # `key` itself may belong to another type of the same section
    near = difflib.get_close_matches(key, others, n=1, cutoff=0.6)
    return f"perhaps {near[0]} was meant" if near else f"one of {', '.join(others)}"
