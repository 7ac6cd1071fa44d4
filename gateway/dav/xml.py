"""XML of WebDAV: request bodies in, error bodies out, and the text that may stand in either."""

from __future__ import annotations

import re
from collections.abc import Iterable
from copy import copy
from typing import Any
from xml.etree.ElementTree import Element, ParseError, tostring

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

DAV = "DAV:"
OWNCLOUD = "http://owncloud.org/ns"
OCS = "http://open-collaboration-services.org/ns"
OCM = "http://open-cloud-mesh.org/ns"
GATEWAY = "urn:x-ocm-gateway:ns"  # of our own
LIVE_NAMESPACES = frozenset({DAV, OWNCLOUD, OCS, OCM, GATEWAY})  # their properties are ours to say; peers act on them

DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'
CONTENT_TYPE = "application/xml; charset=utf-8"
NAMES_MAX = 256  # properties in one request; each is repeated for every entry of the answer,
NAMES_LENGTH = 16 * 1024  # and so is every character of its name
DEPTH_MAX = 64  # elements within each other; deep ones exhaust the recursion of whoever writes them

# XML 1.0 §2.2: what no document can hold, not even as a character reference
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPECIAL = re.compile('[&<>"]')
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
# RFC 3986: the characters of a URI reference. libxml2, which WsgiDAV uses where it is installed, wants no others.
_NAMESPACE = re.compile(r"[A-Za-z0-9\-._~:/?#@!$&'()*+,;=%]*")


class BadXml(ValueError):
    """The body is not the XML that the method takes."""


def parse_body(body: bytes, root: str) -> Any:
    """Return the element tree of `body`, whose root must be `{DAV:}root`; comments are gone. Raises BadXml.

    A document type is refused whatever it declares: entities can grow without end, or read our files.
    """
    try:
        element = defusedxml.ElementTree.fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise BadXml("the body is no well-formed XML, or has a document type") from error
    if _is_deeper(element, DEPTH_MAX):
        raise BadXml(f"more than {DEPTH_MAX} elements within each other")
    if element.tag != f"{{{DAV}}}{root}":
        raise BadXml(f"the body is no DAV:{root}")
    return element


def _is_deeper(element: Element, depth: int) -> bool:
    level = [element]
    for _ in range(depth):
        level = [child for parent in level for child in parent]
    return bool(level)


def serialise(element: Element) -> bytes:
    """Return a parsed body as bytes again, in one encoding and without comments."""
    return bytes(tostring(element, encoding="utf-8", xml_declaration=True))


def fragment(element: Element) -> str:
    """Return a parsed element as text that may stand in any document: it declares its own namespaces."""
    alone = copy(element)
    alone.tail = None
    return str(tostring(alone, encoding="unicode"))


def property_names(elements: Iterable[Any]) -> list[str]:
    """Return the names of the properties in {namespace}name form, once each; raises BadXml."""
    names = list(dict.fromkeys(element.tag for element in elements))
    if len(names) > NAMES_MAX or sum(map(len, names)) > NAMES_LENGTH:
        raise BadXml(f"more than {NAMES_MAX} properties, or names too long")
    if not all(_NAMESPACE.fullmatch(split_name(name)[0]) for name in names):
        raise BadXml("a namespace that is no URI")
    return names


def split_name(name: str) -> tuple[str, str]:
    """Return the namespace, empty for none, and the local part of a name in {namespace}name form."""
    namespace, closing, local = name.rpartition("}")
    return (namespace[1:], local) if closing else ("", name)


def escape(text: str) -> str:
    """Return `text` as character data or attribute value; the text itself must be one that XML can hold."""
    return _SPECIAL.sub(lambda match: _ENTITIES[match[0]], text)


def can_hold(text: str) -> bool:
    """Tell whether XML can express `text` at all."""
    return _FORBIDDEN.search(text) is None


def condition_element(condition: str, hrefs: Iterable[str]) -> str:
    """Return a condition code of RFC 4918 §16 with the addresses that it is about."""
    inner = "".join(f"<d:href>{href}</d:href>" for href in hrefs)
    return f"<d:{condition}>{inner}</d:{condition}>" if inner else f"<d:{condition}/>"


def error_body(code: str, sentence: str, condition: str | None = None, hrefs: Iterable[str] = ()) -> bytes:
    """Return a DAV:error (RFC 4918 §14.5) with the condition, if any, and code and sentence as sabre/dav gives them."""
    detail = condition_element(condition, hrefs) if condition else ""
    message = escape(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", sentence))
    return (
        f'{DECLARATION}<d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">{detail}'
        f"<s:exception>{escape(code)}</s:exception><s:message>{message}</s:message></d:error>\n"
    ).encode()
