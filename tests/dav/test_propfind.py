"""PROPFIND: what peers read out of it, in every form that they ask in."""

from __future__ import annotations

import os
import threading
import time
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dav.properties import PROPERTIES, STALE_SINCE
from gateway.ocm.shares import Permission

from .served import READ, WRITE, Reply, Served, basic, bearer

SHARE = "{http://owncloud.org/ns}permissions"
BITS = "{http://open-collaboration-services.org/ns}share-permissions"
LIST = "{http://open-cloud-mesh.org/ns}share-permissions"


@pytest.fixture(scope="module", autouse=True)
def tree(served: Served) -> None:
    (served.data / "tree" / "sub").mkdir(parents=True)
    (served.data / "tree" / "file.txt").write_bytes(b"12345")
    (served.data / "tree" / "sub" / "hidden").write_bytes(b"x")


def prop(*names: str) -> bytes:
    """Return the body that asks for the properties `names`, in {namespace}name form."""
    asked = "".join(f'<x:{name.rpartition("}")[2]} xmlns:x="{name[1:].rpartition("}")[0]}"/>' for name in names)
    return f'<?xml version="1.0"?><propfind xmlns="DAV:"><prop>{asked}</prop></propfind>'.encode()


def parsed(reply: Reply) -> dict[str, dict[str, dict[str, Element]]]:
    """Return href -> status -> name -> element, in the order of the document."""
    assert reply.status == 207
    assert reply.headers["content-type"] == "application/xml; charset=utf-8"
    found: dict[str, dict[str, dict[str, Element]]] = {}
    for response in fromstring(reply.body).iterfind("{DAV:}response"):
        propstats = {}
        for propstat in response.iterfind("{DAV:}propstat"):
            status = propstat.findtext("{DAV:}status").split()[1]
            propstats[status] = {element.tag: element for element in propstat.find("{DAV:}prop")}
        found[response.findtext("{DAV:}href")] = propstats
    return found


def test_a_listing_begins_with_the_collection_and_its_folders_end_with_a_slash(served):
    for depth in ({"Depth": "1"}, {}):
        found = parsed(served.alice("PROPFIND", "/home/tree", **depth))
        assert next(iter(found)) == "/dav/files/alice/home/tree/"
        assert set(found) == {f"/dav/files/alice/home/tree/{name}" for name in ("", "sub/", "file.txt")}
    assert list(parsed(served.alice("PROPFIND", "/home/tree", Depth="0"))) == ["/dav/files/alice/home/tree/"]
    assert list(parsed(served.alice("PROPFIND", "/home/tree/file.txt/"))) == ["/dav/files/alice/home/tree/file.txt"]


def test_what_allprop_tells_of_files_and_folders(served):
    found = parsed(served.alice("PROPFIND", "/home/tree"))
    file = found["/dav/files/alice/home/tree/file.txt"]["200"]
    head = served.alice("HEAD", "/home/tree/file.txt").headers
    assert file["{DAV:}getcontentlength"].text == "5"
    assert file["{DAV:}getetag"].text == head["etag"]
    assert file["{DAV:}getlastmodified"].text == head["last-modified"]
    assert file["{DAV:}getcontenttype"].text == head["content-type"]
    assert file["{DAV:}displayname"].text == "file.txt"
    assert len(file["{DAV:}resourcetype"]) == 0
    scopes = [entry[0].tag for entry in file["{DAV:}supportedlock"].iter("{DAV:}lockscope")]
    assert scopes == ["{DAV:}exclusive", "{DAV:}shared"]
    assert len(file["{DAV:}lockdiscovery"]) == 0
    folder = found["/dav/files/alice/home/tree/sub/"]["200"]
    assert folder["{DAV:}resourcetype"].find("{DAV:}collection") is not None
    assert {"{DAV:}getetag", "{DAV:}getlastmodified", "{DAV:}displayname"} <= folder.keys()
    assert not {"{DAV:}getcontentlength", "{DAV:}getcontenttype"} & folder.keys()
    assert all(list(propstats) == ["200"] for propstats in found.values())


def test_named_properties_come_and_unknown_ones_are_404(served):
    names = ("{DAV:}getetag", "{DAV:}getcontentlength", "{foo:&}bar", "{DAV:}unheard-of", "{DAV:}creationdate")
    body = prop(*(name.replace("&", "&amp;") for name in names))
    found = parsed(served.alice("PROPFIND", "/home/tree", body))
    assert list(found["/dav/files/alice/home/tree/file.txt"]["200"]) == ["{DAV:}getetag", "{DAV:}getcontentlength"]
    assert set(found["/dav/files/alice/home/tree/sub/"]["404"]) == {*names[1:]}
    body = b'<propfind xmlns="DAV:"><prop><plain xmlns=""/></prop></propfind>'
    assert list(parsed(served.alice("PROPFIND", "/home/tree", body, Depth="0")).popitem()[1]["404"]) == ["plain"]


def test_propname_gives_names_and_include_adds_to_allprop(served):
    body = b'<propfind xmlns="DAV:"><propname/></propfind>'
    found = parsed(served.alice("PROPFIND", "/home/tree/file.txt", body))["/dav/files/alice/home/tree/file.txt"]
    assert set(found) == {"200"}
    assert {"{DAV:}getetag", SHARE, BITS, LIST} <= set(found["200"])
    assert all(element.text is None and len(element) == 0 for element in found["200"].values())
    body = (
        b'<propfind xmlns="DAV:" xmlns:oc="http://owncloud.org/ns"><allprop/>'
        b"<include><oc:permissions/><oc:unknown/></include></propfind>"
    )
    found = parsed(served.alice("PROPFIND", "/home/tree/file.txt", body))["/dav/files/alice/home/tree/file.txt"]
    assert {"{DAV:}getetag", SHARE} <= set(found["200"])
    assert set(found) == {"200"}


@pytest.mark.parametrize(
    ("permissions", "path", "letters", "bits", "listed"),
    [
        (READ, "", "", "1", '["read"]'),
        (READ, "file.txt", "", "1", '["read"]'),
        (WRITE, "", "CK", "15", '["read", "write"]'),
        (WRITE, "sub", "DNVCK", "15", '["read", "write"]'),
        (WRITE, "file.txt", "DNVW", "11", '["read", "write"]'),
        (WRITE | {"share"}, "", "RCK", "31", '["read", "write", "share"]'),
        (READ | {"share"}, "file.txt", "R", "17", '["read", "share"]'),
    ],
)
def test_rights_are_told_in_all_three_ways(served, permissions, path, letters, bits, listed):
    share = served.share("tree", frozenset(map(Permission, permissions)))
    reply = served.request("PROPFIND", f"/dav/ocm/{path}", prop(SHARE, BITS, LIST), bearer(share.secret))
    (href, propstats), *_ = parsed(reply).items()
    values = {name: element.text or "" for name, element in propstats["200"].items()}
    assert values == {SHARE: letters, BITS: bits, LIST: listed}, href


def test_a_shared_file_can_be_updated_but_neither_deleted_nor_created_in(served):
    share = served.share("tree/file.txt", WRITE)
    reply = served.request("PROPFIND", "/dav/ocm/", prop(SHARE, BITS), bearer(share.secret))
    values = {name: element.text for name, element in parsed(reply)["/dav/ocm/"]["200"].items()}
    assert values == {SHARE: "W", BITS: "3"}


def test_quota_is_told_when_named_and_known(served):
    names = ("{DAV:}quota-available-bytes", "{DAV:}quota-used-bytes")
    found = parsed(served.alice("PROPFIND", "/home/tree", prop(*names)))
    for folder in ("", "sub/"):
        available, used = (int(found[f"/dav/files/alice/home/tree/{folder}"]["200"][name].text) for name in names)
        system = os.statvfs(served.data)  # others write to it meanwhile
        assert available == pytest.approx(system.f_bavail * system.f_frsize, abs=1 << 30)
        assert used > 0
        assert available + used <= system.f_blocks * system.f_frsize
    alone = parsed(served.alice("PROPFIND", "/home/tree", prop(*names), Depth="0"))
    assert set(alone["/dav/files/alice/home/tree/"]["200"]) == set(names)
    assert set(found["/dav/files/alice/home/tree/file.txt"]["404"]) == set(names)
    assert set(parsed(served.alice("PROPFIND", "/other/", prop(*names)))["/dav/files/alice/other/"]["404"]) == set(
        names
    )
    assert not any(
        "quota" in name for name in parsed(served.alice("PROPFIND", "/home/tree"))["/dav/files/alice/home/tree/"]["200"]
    )


def test_the_top_of_a_tree_is_made_of_names(served):
    assert list(parsed(served.alice("PROPFIND", "/"))) == [
        f"/dav/files/alice/{name}" for name in ("", "home/", "frozen/", "other/", "received/")
    ]
    assert list(parsed(served.alice("PROPFIND", "/", Depth="0"))) == ["/dav/files/alice/"]
    assert list(parsed(served.alice("PROPFIND", "/received"))) == ["/dav/files/alice/received/"]
    found = parsed(served.alice("PROPFIND", "/home/", Depth="0"))["/dav/files/alice/home/"]["200"]
    assert found["{DAV:}displayname"].text == "home"
    (served.data / "users" / "alice").mkdir(parents=True)
    assert "/dav/files/alice/personal/" in parsed(served.alice("PROPFIND", "/"))


def test_depth_infinity_is_refused_with_its_condition(served):
    reply = served.alice("PROPFIND", "/home/", Depth="infinity")
    assert (reply.status, reply.code) == (403, "FINITE_DEPTH")
    assert b"<d:propfind-finite-depth/>" in reply.body
    assert served.alice("PROPFIND", "/home/", Depth="2").status == 400


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><propfind xmlns="DAV:"><prop>&b;</prop></propfind>'


@pytest.mark.parametrize(
    "body",
    [
        b"<",
        b"no xml",
        b"<propfind/>",
        b'<propfind xmlns="DAV:"/>',
        b'<propfind xmlns="DAV:"><allprop/><propname/></propfind>',
        b'<propfind xmlns="DAV:"><propname/><include/></propfind>',
        b'<propertyupdate xmlns="DAV:"><prop/></propertyupdate>',
        b'<propfind xmlns="DAV:"><prop><x:y xmlns:x="no uri \xc3\xa4"/></prop></propfind>',
        b'<propfind xmlns="DAV:"><prop>' + b"".join(b"<p%d/>" % n for n in range(300)) + b"</prop></propfind>",
        b'<propfind xmlns="DAV:"><prop><x:unbound/></prop></propfind>',
        b'<?xml version="1.0" encoding="no-such"?><propfind xmlns="DAV:"><allprop/></propfind>',
        b'<?xml version="1.0" encoding="shift_jis"?><propfind xmlns="DAV:"><allprop/></propfind>',
        b'<?xml version="1.0" encoding="utf-16"?><propfind xmlns="DAV:"><allprop/></propfind>',
        b"\xff\xfe<",
        BOMB,
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><propfind xmlns="DAV:"><allprop/></propfind>',
        b"<a>" * 100_000,
        b"<a>" * 50_000 + b"</a>" * 50_000,
    ],
)
def test_a_body_that_is_no_propfind_is_400(served, body):
    reply = served.alice("PROPFIND", "/home/tree", body)
    assert (reply.status, reply.code) == (400, "INVALID_XML")


def test_a_body_may_be_chunked_or_empty_but_not_huge(served):
    body = prop("{DAV:}getetag")
    assert list(parsed(served.alice("PROPFIND", "/home/tree", iter([body[:20], body[20:]]), Depth="0")).popitem()[1])
    assert served.alice("PROPFIND", "/home/tree", iter([b""])).status == 207
    assert served.alice("PROPFIND", "/home/tree", b" " * (1 << 20) + b"x").status == 413
    assert served.alice("PROPFIND", "/home/tree", iter([b" " * 600_000] * 2)).status == 413


def test_comments_and_processing_instructions_mean_nothing(served):
    body = b'<?a b?><!-- c --><propfind xmlns="DAV:"><!-- d --><prop><?e f?><!-- g --><getetag/></prop></propfind>'
    found = parsed(served.alice("PROPFIND", "/home/tree", body, Depth="0"))
    assert list(found["/dav/files/alice/home/tree/"]["200"]) == ["{DAV:}getetag"]


texts = st.sampled_from(
    ["<", ">", "/", "propfind", "prop", "allprop", "propname", "include", ' xmlns="DAV:"', ' xmlns:a="b:"', "a:", "&",
     ";", "#0", "<![CDATA[", "]]>", "<!--", "-->", "<?", "?>", "\0", "\xff", "é", "<propfind xmlns='DAV:'>",
     "</propfind>", "<prop>", "</prop>", "<getetag/>"]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(texts, max_size=12).map("".join), st.sampled_from(["PROPFIND", "PROPPATCH"]), st.booleans())
def test_any_xml_gets_an_answer(served, text, method, wrapped):
    body = f'<propfind xmlns="DAV:"><prop>{text}</prop></propfind>' if wrapped else text
    if method == "PROPPATCH":
        body = f'<propertyupdate xmlns="DAV:"><set><prop>{text}</prop></set></propertyupdate>' if wrapped else text
    reply = served.alice(method, "/home/tree/file.txt", body.encode())
    assert reply.status in (207, 400)


def test_names_that_xml_cannot_hold_are_in_the_href_alone(served):
    (served.data / "odd").mkdir()
    for name in (b"\x01", b"\xff", b"a\xffb", "\ufffe".encode(), b"<&>"):
        with open(bytes(served.data / "odd") + b"/" + name, "wb"):
            pass
    found = parsed(served.alice("PROPFIND", "/home/odd", prop("{DAV:}displayname")))
    names = {href.rpartition("/")[2]: propstats for href, propstats in found.items()}
    for name in ("%01", "%FF", "a%FFb", "%EF%BF%BE"):
        assert list(names[name]) == ["404"], name
    assert names["%3C%26%3E"]["200"]["{DAV:}displayname"].text == "<&>"


def test_a_folder_of_thousands_is_streamed_whole(served):
    (served.data / "many").mkdir()
    for number in range(3500):
        (served.data / "many" / f"file-{number}").touch()
    reply = served.alice("PROPFIND", "/home/many")
    assert reply.headers.get("transfer-encoding") == "chunked"
    found = parsed(reply)
    assert next(iter(found)) == "/dav/files/alice/home/many/"
    assert set(found) == {f"/dav/files/alice/home/many/{name}" for name in ("", *(f"file-{n}" for n in range(3500)))}
    old = served.raw(
        b"PROPFIND /dav/files/alice/home/many HTTP/1.0\r\nAuthorization: "
        + basic("alice")["Authorization"].encode()
        + b"\r\n\r\n"
    )
    assert old.count(b"<d:response>") == 3501
    assert old.endswith(b"</d:multistatus>\n")


def test_a_times_far_away_are_still_dates(served):
    for name, seconds in (("ancient", -2_000_000_000), ("later", 9_000_000_000)):
        (served.data / name).touch()
        os.utime(served.data / name, (seconds, seconds))
        assert served.alice("HEAD", f"/home/{name}").status == 200
        assert served.alice("PROPFIND", f"/home/{name}").status == 207


def test_every_property_has_a_value_for_something(served):
    share = served.share("tree", WRITE)
    reply = served.request("PROPFIND", "/dav/ocm/", prop(*PROPERTIES), bearer(share.secret))
    seen = set()
    for propstats in parsed(reply).values():
        seen |= propstats["200"].keys()
    assert seen == set(PROPERTIES) - {STALE_SINCE}, "nothing here is stale"


def test_the_top_of_a_tree_is_listed_while_a_disk_hangs(tmp_path):
    answers = threading.Event()

    class Hung:
        def __init__(self, inner):
            self._inner = inner

        def __getattr__(self, name):
            return getattr(self._inner, name)

        def stat(self, path):
            answers.wait(20)
            return self._inner.stat(path)

    with Served(tmp_path, wrap=Hung) as served:
        started = time.monotonic()
        assert "/dav/files/alice/home/" in parsed(served.alice("PROPFIND", "/"))
        assert time.monotonic() - started < 2
        answers.set()
