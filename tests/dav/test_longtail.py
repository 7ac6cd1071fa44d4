"""MKCOL, DELETE, PROPPATCH and OPTIONS, and the methods that are not offered."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from backends.errors import OutOfSpace, PermissionDenied, Unavailable

from .locking import LOCKINFO
from .served import WRITE, Served, basic, bearer
from .test_files import Refusing


def update(*properties: str, action: str = "set") -> bytes:
    inner = "".join(f"<d:{action}><d:prop>{text}</d:prop></d:{action}>" for text in properties)
    return (
        '<?xml version="1.0"?><d:propertyupdate xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"'
        f' xmlns:w="urn:schemas-microsoft-com:">{inner}</d:propertyupdate>'
    ).encode()


def test_mkcol_makes_a_folder_once_and_only_where_it_can_be(served):
    assert served.alice("MKCOL", "/home/new/").status == 201
    (served.data / "plain").write_bytes(b"x")
    for path, status, code in (
        ("/home/new", 405, "ALREADY_EXISTS"),
        ("/home/plain", 405, "ALREADY_EXISTS"),
        ("/home/", 405, "ALREADY_EXISTS"),
        ("/home/gone/deep", 409, "PARENT_MISSING"),
        ("/home/plain/deep", 409, "PARENT_MISSING"),
        ("/", 405, "METHOD_NOT_ALLOWED"),
        ("/received", 405, "METHOD_NOT_ALLOWED"),
        ("/newmount", 403, "NO_MOUNT"),
        ("/received/new", 403, "NO_MOUNT"),
        ("/frozen/new2", 403, "READ_ONLY"),
        ("/home/.ocm-gateway-0", 403, "PERMISSION_DENIED"),
    ):
        reply = served.alice("MKCOL", path)
        assert (reply.status, reply.code) == (status, code), path
        assert ("allow" in reply.headers) == (status == 405)


def test_mkcol_takes_no_body_in_any_form(served):
    for body in (b"x", iter([b"x"])):
        reply = served.alice("MKCOL", "/home/with-body", body)
        assert (reply.status, reply.code) == (415, "UNEXPECTED_BODY")
    assert served.alice("MKCOL", "/home/with-body", Depth="1").status == 400
    assert not (served.data / "with-body").exists()


def test_delete_removes_trees_and_files(served):
    (served.data / "gone" / "deep").mkdir(parents=True)
    (served.data / "gone" / "deep" / "file").write_bytes(b"x")
    assert served.alice("DELETE", "/home/gone", Depth="1").status == 400
    assert served.alice("DELETE", "/home/gone", b"body").status == 415
    assert served.alice("DELETE", "/home/gone", If_Match='"x"').status == 412
    reply = served.alice("DELETE", "/home/gone/")
    assert (reply.status, reply.body) == (204, b"")
    assert not (served.data / "gone").exists()
    assert served.alice("DELETE", "/home/gone").status == 404


def test_no_root_can_be_deleted(served):
    (served.data / "shared").mkdir(exist_ok=True)
    share = served.share("shared", WRITE)
    for path in ("/", "/home", "/home/", "/received", "/received/"):
        assert served.alice("DELETE", path).status == 403, path
    for path in ("/dav/ocm/", "/dav/ocm", f"/dav/ocm/{share.id}"):
        assert served.request("DELETE", path, headers=bearer(share.secret)).status == 403, path
    assert (served.data / "shared").is_dir()


def test_a_delete_that_fails_in_parts_names_them_and_one_that_fails_whole_says_why(tmp_path):
    errors = {"tree/a b": PermissionDenied("no"), "solo": OutOfSpace("full"), "hung": Unavailable("x", retry_after=9)}

    def wrap(local):
        for path, error in errors.items():
            local = Refusing(local, "remove", {path}, error)
        return local

    with Served(tmp_path, wrap=wrap) as served:
        (served.data / "tree").mkdir()
        for name in ("tree/a b", "tree/c", "solo", "hung"):
            (served.data / name).write_bytes(b"x")
        reply = served.alice("DELETE", "/home/tree")
        assert reply.status == 207
        assert b"/dav/files/alice/home/tree/a%20b<" in reply.body
        assert b"403" in reply.body
        assert sorted(os.listdir(served.data / "tree")) == ["a b"]
        reply = served.alice("DELETE", "/home/solo")
        assert (reply.status, reply.code) == (507, "OUT_OF_SPACE")
        reply = served.alice("DELETE", "/home/hung")
        assert (reply.status, reply.headers["retry-after"]) == (503, "9")


@pytest.mark.parametrize("name", ["d:lastmodified", "d:getlastmodified", "oc:lastmodified"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("86400", 86_400_000_000_000),
        ("86400.5", 86_400_500_000_000),
        ("-1", -1_000_000_000),
        (" Fri, 02 Jan 1970 00:00:00 GMT ", 86_400_000_000_000),
    ],
)
def test_the_time_of_a_file_or_folder_can_be_set(served, name, value, expected):
    (served.data / "touched").mkdir(exist_ok=True)
    (served.data / "touched" / "file").write_bytes(b"x")
    for path in ("touched/file", "touched"):
        reply = served.alice("PROPPATCH", f"/home/{path}", update(f"<{name}>{value}</{name}>"))
        assert reply.status == 207
        assert b"HTTP/1.1 200 OK" in reply.body
        assert (served.data / path).stat().st_mtime_ns == expected


@pytest.mark.parametrize("value", ["", "yesterday", "1e5", "nan", "99999999999999", "999999999999", "0x10", "\u0661"])
def test_a_time_that_is_none_is_409_for_that_property(served, value):
    (served.data / "untouched").write_bytes(b"x")
    before = (served.data / "untouched").stat().st_mtime_ns
    reply = served.alice("PROPPATCH", "/home/untouched", update(f"<d:lastmodified>{value}</d:lastmodified>"))
    assert reply.status == 207
    assert b"409 Conflict" in reply.body
    assert (served.data / "untouched").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "text",
    ["<d:displayname>x</d:displayname>", "<d:getetag/>", "<d:lockdiscovery/>", "<d:unheard-of/>", "<oc:checksums/>",
     "<d:resourcetype><d:collection/></d:resourcetype>"],
)  # fmt: skip
def test_what_the_gateway_says_itself_is_protected_and_then_nothing_is_set(served, text):
    (served.data / "untouched").write_bytes(b"x")
    before = (served.data / "untouched").stat().st_mtime_ns
    dead = "<w:Win32FileAttributes>1</w:Win32FileAttributes>"
    reply = served.alice("PROPPATCH", "/home/untouched", update("<d:lastmodified>5</d:lastmodified>", dead, text))
    assert reply.status == 207
    assert b"403 Forbidden" in reply.body
    assert b"424 Failed Dependency" in reply.body
    assert (served.data / "untouched").stat().st_mtime_ns == before
    assert b"Win32" not in served.alice("PROPFIND", "/home/untouched").body


@pytest.mark.parametrize("text", ["<d:lastmodified/>", "<d:getlastmodified/>", "<d:getetag/>"])
def test_what_the_gateway_says_itself_cannot_be_removed(served, text):
    (served.data / "untouched").write_bytes(b"x")
    assert b"403 Forbidden" in served.alice("PROPPATCH", "/home/untouched", update(text, action="remove")).body


@pytest.mark.parametrize(
    "body",
    [b"", b"x", update(), b'<propfind xmlns="DAV:"><allprop/></propfind>',
     b'<propertyupdate xmlns="DAV:"><set><prop/></set></propertyupdate>',
     b'<propertyupdate xmlns="DAV:"><set><prop><a xmlns="not a uri"/></prop></set></propertyupdate>',
     b'<propertyupdate xmlns="DAV:"><unknown><prop><a/></prop></unknown></propertyupdate>',
     b'<propertyupdate xmlns="DAV:"><set><other><a/></other><prop><a/></prop></set></propertyupdate>',
     b'<!DOCTYPE a [<!ENTITY b "c">]><propertyupdate xmlns="DAV:"><set><prop><a>&b;</a></prop></set></propertyupdate>'],
)  # fmt: skip
def test_a_body_that_is_no_propertyupdate_is_400(served, body):
    (served.data / "untouched").write_bytes(b"x")
    assert served.alice("PROPPATCH", "/home/untouched", body).status == 400


def test_proppatch_without_the_installed_lxml_is_the_same(tmp_path):
    """WsgiDAV takes lxml where it finds it; neither we nor it depend on that."""
    program = (
        "import sys; sys.modules['lxml'] = None\n"
        "from pathlib import Path; from dav.served import Served\n"
        "from dav.test_longtail import update\n"
        "with Served(Path(sys.argv[1])) as served:\n"
        "    (served.data / 'f').write_bytes(b'x')\n"
        "    body = update('<d:lastmodified>86400</d:lastmodified>')\n"
        "    assert b'200 OK' in served.alice('PROPPATCH', '/home/f', body).body\n"
        "    assert (served.data / 'f').stat().st_mtime == 86400\n"
        "    for text in ('<x xmlns=\"my:dead\"/>', '<y/>'):\n"
        "        assert b'200 OK' in served.alice('PROPPATCH', '/home/f', update(text)).body\n"
        "    assert b'my:dead' in served.alice('PROPFIND', '/home/f').body\n"
        "    assert served.alice('DELETE', '/home/f').status == 204\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", "."])}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "site")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_options_says_what_can_be_done_here(served):
    (served.data / "optional").mkdir()
    (served.data / "optional" / "file").write_bytes(b"x")

    def allowed(path):
        reply = served.alice("OPTIONS", path)
        assert (reply.status, reply.headers["dav"], reply.body) == (200, "1, 2, 3", b"")
        return set(reply.headers["allow"].split(", "))

    reading = {"OPTIONS", "PROPFIND", "COPY", "UNLOCK"}
    changing = {"DELETE", "MOVE", "PROPPATCH", "LOCK"}
    assert allowed("/home/optional/file") == reading | changing | {"GET", "HEAD", "PUT"}
    assert allowed("/home/optional") == reading | changing
    assert allowed("/home/gone") == {"OPTIONS", "PUT", "MKCOL", "LOCK"}
    assert allowed("/home/") == reading | {"PROPPATCH", "LOCK"}
    assert allowed("/frozen/optional/file") == reading | {"GET", "HEAD"}
    assert allowed("/") == {"OPTIONS", "PROPFIND"}


@pytest.mark.parametrize("method", ["POST", "PATCH", "REPORT", "SEARCH", "TRACE", "MKCALENDAR", "ACL"])
def test_what_is_not_offered_is_405_and_says_what_is(served, method):
    for path in ("/dav/files/alice/home/", "/dav/ocm/"):
        reply = served.request(method, path, headers=basic("alice"))
        assert reply.status == 405
        assert method not in reply.headers["allow"].split(", ")


def test_a_share_whose_folder_is_gone_answers_503_in_every_method(served):
    (served.data / "vanishing").mkdir()
    share = served.share("vanishing", WRITE)
    (served.data / "vanishing").rmdir()
    body = update("<d:lastmodified>5</d:lastmodified>")
    methods = ("GET", "HEAD", "PUT", "PROPFIND", "MKCOL", "DELETE", "PROPPATCH", "MOVE", "COPY", "OPTIONS", "UNLOCK")
    for method in (*methods, "LOCK"):
        sent = {"PROPPATCH": body, "PUT": b"x", "LOCK": LOCKINFO}.get(method)
        headers = bearer(share.secret) | {"Destination": "/dav/ocm/y", "Lock-Token": "<urn:uuid:x>"}
        reply = served.request(method, "/dav/ocm/x", sent, headers)
        assert reply.status == 503, method
        assert int(reply.headers["retry-after"]) > 0
    assert not (served.data / "vanishing").exists()
