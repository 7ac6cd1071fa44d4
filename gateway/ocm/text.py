"""What text from a peer may hold, and what is taken out of it before anybody sees or stores it.

Three kinds: an identifier is used as it is or not at all; a line and prose are for people, so they are cleaned.
Cleaning matters: control characters steer terminals, marks of direction make `exe.pdf` look like `pdf.exe`, NUL
cannot be stored as text by PostgreSQL, and lone surrogates cannot be encoded at all.
"""

from __future__ import annotations

import posixpath
import unicodedata

NAME_BYTES = 200  # UTF-8 bytes; leaves room for ` (2)` and a temporary's prefix under the 255 of most file systems

# Unicode Standard Annex 9, section 2: the marks that embed, override, isolate or imply a direction.
_DIRECTION = frozenset(map(chr, (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))
# Characters without a shape, and the two non-characters that XML forbids: two names that differ by one look the same.
_SHAPELESS = frozenset(map(chr, (0x00AD, 0x200B, 0x2060, 0xFEFF, 0xFFFE, 0xFFFF)))
_UNPRINTED = frozenset({"Cc", "Cs", "Zl", "Zp"})  # controls, surrogates, separators of lines and paragraphs
_TEMPORARY = ".ocm-gateway-"  # names of the local backend's temporaries are never addressable
_UNNAMED = "unnamed"


def is_identifier(text: str, limit: int) -> bool:
    """Tell whether `text` is 1 to `limit` characters, none of which is a control or steers what is shown."""
    return 0 < len(text) <= limit and text == line(text)


def line(text: str) -> str:
    """Return `text` without what is not shown: one line for people."""
    return "".join(char for char in text if _is_shown(char))


def prose(text: str) -> str:
    """Return `text` like `line` does, but with its line breaks and tabs."""
    return "".join(char for char in text if char in "\n\t" or _is_shown(char))


def file_name(name: str) -> str:
    """Return one component of a path made from the `name` of a Share: at most NAME_BYTES bytes of UTF-8, never empty.

    Separators go, the backslash too, because some storage takes it for one (wire.md, Share Creation Notification).
    """
    kept = "".join(char for char in line(name) if char not in "/\\" and char not in _SHAPELESS).strip()
    if kept.casefold().startswith(_TEMPORARY):
        kept = kept[1:]
    kept = _cut(kept)
    return kept if kept not in ("", ".", "..") else _UNNAMED


def _is_shown(char: str) -> bool:
    return char not in _DIRECTION and unicodedata.category(char) not in _UNPRINTED


def _cut(name: str) -> str:
    """Shorten a name that is too long between two characters, and keep a short extension: programs go by it."""
    if len(name.encode()) <= NAME_BYTES:
        return name
    stem, extension = posixpath.splitext(name)
    if len(extension.encode()) > 16:
        stem, extension = name, ""
    room = NAME_BYTES - len(extension.encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip() + extension
