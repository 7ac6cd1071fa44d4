"""Reading one JSON object of a peer field by field, so that every mistake is reported at once, by its name on the wire.

A reader returns None for what is absent or unusable; an unusable value is noted as a FieldError, and `check` raises
them all. PHP writes an empty object as `[]`, so that is read as one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

from gateway.ocm.address import OCMAddress, normalise_server
from gateway.ocm.errors import FieldError, Malformed
from gateway.ocm.secret import Secret
from gateway.ocm.text import is_identifier, line, prose

IDENTIFIER_MAX = 1024  # characters of ids and names of servers
URI_MAX = 4096  # characters
SECRET_MAX = 4096  # characters; a peer may use a whole JWT as a secret
DEPTH_MAX = 32  # objects in objects; the deepest that the draft defines is 4
FORM = "application/x-www-form-urlencoded"
FORM_FIELDS_MAX = 32
INTEGER_MAX = 2**53 - 1  # RFC 8259 section 6: beyond this, JSON implementations disagree

Member = TypeVar("Member", bound=StrEnum)


def decode_object(body: bytes) -> dict[str, Any]:
    """Decode a body that has to be one JSON object in UTF-8.

    Raises Malformed: INVALID_JSON (also for NaN, a name given twice, and nesting beyond DEPTH_MAX), NOT_AN_OBJECT.
    """
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise Malformed("INVALID_JSON", f"the body is not JSON that can be used: {type(error).__name__}") from error
    if not isinstance(value, dict):
        raise Malformed("NOT_AN_OBJECT", "the body is JSON, but not an object")
    if not is_shallow(value):
        raise Malformed("INVALID_JSON", f"the body is nested deeper than {DEPTH_MAX} levels")
    return value


def decode_form(body: bytes) -> dict[str, Any]:
    """Decode `application/x-www-form-urlencoded` in UTF-8, as the few fields that a message has.

    Raises Malformed: INVALID_FORM (also for more than FORM_FIELDS_MAX fields, and for one that comes twice).
    """
    try:
        text = body.decode("utf-8")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FORM_FIELDS_MAX)
    except ValueError as error:
        raise Malformed("INVALID_FORM", "the body is no form in UTF-8") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Malformed("INVALID_FORM", "a field comes twice")
    return fields


def is_shallow(value: object) -> bool:
    """Tell whether a decoded JSON value nests at most DEPTH_MAX levels; does not recurse itself."""
    level = [value]
    for _ in range(DEPTH_MAX + 1):
        inner: list[object] = []
        for item in level:
            if isinstance(item, Mapping):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not inner:
            return True
        level = inner
    return False


def canonical_json(value: object) -> str:
    """Return the one JSON text of `value`: sorted names, no spaces, ASCII; raises ValueError for what JSON lacks."""
    if not is_shallow(value):
        raise ValueError(f"nested deeper than {DEPTH_MAX} levels")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


class Fields:
    """One JSON object that is being read; objects inside it share its list of mistakes."""

    def __init__(self, body: object, path: str = "", mistakes: list[FieldError] | None = None) -> None:
        if not isinstance(body, Mapping):
            raise Malformed("NOT_AN_OBJECT", "the message is not a JSON object")
        self._body = body
        self._path = path
        self._mistakes: list[FieldError] = [] if mistakes is None else mistakes

    def fail(self, name: str, code: str) -> None:
        """Note, once, that the field `name` of this object cannot be used."""
        mistake = FieldError(self._inner(name), code)
        if mistake not in self._mistakes:
            self._mistakes.append(mistake)

    def check(self, code: str, *, alone: frozenset[str] = frozenset()) -> None:
        """Raise Malformed(`code`) if there are mistakes; one of `alone` is the code itself if it is the only one."""
        codes = {mistake.message for mistake in self._mistakes}
        if codes:
            raise Malformed(codes.pop() if len(codes) == 1 and codes <= alone else code, fields=tuple(self._mistakes))

    def raw(self, *names: str) -> tuple[str, Any]:
        """Return the first of `names` that is present and not null, and its value; else the first and None."""
        for name in names:
            if self._body.get(name) is not None:
                return name, self._body[name]
        return names[0], None

    def has(self, name: str) -> bool:
        return self._body.get(name) is not None

    def names(self) -> set[str]:
        """Return the names of all members that are not null."""
        return {name for name, value in self._body.items() if value is not None}

    def object(self, name: str, *, required: bool = False) -> Fields | None:
        """Return the object in field `name`."""
        _, value = self.raw(name)
        if value is None or value == []:
            if required:
                self.fail(name, "REQUIRED")
            return None if value is None else self.empty(name)
        if not isinstance(value, Mapping):
            self.fail(name, "NOT_AN_OBJECT")
            return None
        return Fields(value, self._inner(name), self._mistakes)

    def empty(self, name: str) -> Fields:
        """Return an object without members in the place of `name`, to read on where there is none."""
        return Fields({}, self._inner(name), self._mistakes)

    def string(self, *names: str, required: bool = False) -> str | None:
        """Return the first string among `names`, as it is; an empty one counts as absent."""
        name, value = self.raw(*names)
        if value is None or value == "":
            if required:
                self.fail(name, "REQUIRED")
            return None
        if not isinstance(value, str):
            self.fail(name, "NOT_A_STRING")
            return None
        return value

    def identifier(self, *names: str, required: bool = False, limit: int = IDENTIFIER_MAX) -> str | None:
        """Return a string that is used as it is, or not at all; an integer becomes its decimal digits."""
        name, value = self.raw(*names)
        if type(value) is int and abs(value) <= INTEGER_MAX:
            return str(value)
        text = self.string(*names, required=required)
        if text is not None and not is_identifier(text, limit):
            self.fail(name, "INVALID_CHARACTERS" if len(text) <= limit else "TOO_LONG")
            return None
        return text

    def line(self, *names: str, required: bool = False) -> str | None:
        """Return a line for people, cleaned."""
        text = self.string(*names, required=required)
        cleaned = line(text) if text else None
        if required and text and not cleaned:
            self.fail(self.raw(*names)[0], "INVALID_CHARACTERS")
        return cleaned or None

    def prose(self, *names: str) -> str | None:
        """Return text for people, cleaned, with its line breaks."""
        text = self.string(*names)
        return prose(text) or None if text else None

    def secret(self, *names: str, required: bool = False) -> Secret | None:
        """Return a secret: visible ASCII, as a `code` of RFC 6749 (appendix A.11) and a header have to be."""
        text = self.string(*names, required=required)
        if text is None:
            return None
        if not (text.isascii() and text.isprintable() and text == text.strip() and len(text) <= SECRET_MAX):
            self.fail(self.raw(*names)[0], "INVALID_CHARACTERS")
            return None
        return Secret(text)

    def address(self, *names: str, required: bool = False) -> str | None:
        """Return an OCM Address as the peer wrote it, once it is known that it can be normalised."""
        text = self.string(*names, required=required)
        try:
            if text is not None:
                OCMAddress.normalise(text)
        except Malformed as error:
            self.fail(self.raw(*names)[0], error.code)
            return None
        return text and text.strip()

    def server(self, name: str) -> str | None:
        """Return the one form of a server's name."""
        text = self.string(name)
        try:
            return None if text is None else normalise_server(text)
        except Malformed as error:
            self.fail(name, error.code)
            return None

    def integer(self, name: str, *, largest: int = INTEGER_MAX) -> int | None:
        """Return an integer from 0 to `largest`; a float and a string are none, whatever they hold."""
        _, value = self.raw(name)
        if value is None:
            return None
        if type(value) is not int:
            self.fail(name, "NOT_AN_INTEGER")
            return None
        if not 0 <= value <= largest:
            self.fail(name, "OUT_OF_RANGE")
            return None
        return value

    def members(
        self, name: str, kind: type[Member], unknown: str, *, old_names: Mapping[str, Member] | None = None
    ) -> frozenset[Member] | None:
        """Return a list of strings as a set of `kind`; a string that `kind` lacks is the mistake `unknown`."""
        _, value = self.raw(name)
        if value is None:
            return None
        if not isinstance(value, list):
            self.fail(name, "NOT_A_LIST")
            return None
        known = {member.value: member for member in kind} | dict(old_names or {})
        if not all(isinstance(item, str) and item in known for item in value):
            self.fail(name, unknown)
            return None
        return frozenset(known[item] for item in value)

    def strings(self, name: str) -> list[str]:
        """Return the strings in a list that only advises; whatever else it holds is passed over."""
        _, value = self.raw(name)
        items = list(value.values()) if isinstance(value, Mapping) else value  # PHP, for a list with gaps
        return [item for item in items if isinstance(item, str)] if isinstance(items, list) else []

    def _inner(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice")  # two readers could take different ones
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
