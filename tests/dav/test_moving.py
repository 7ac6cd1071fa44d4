"""MOVE and COPY over HTTP: destinations, overwriting, rights at both ends, and the Shares that go along."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.errors import PermissionDenied

from .served import READ, WRITE, Served, basic, bearer
from .test_files import Refusing


@pytest.fixture(autouse=True)
def tree(served: Served) -> None:
    for name in ("a", "b"):
        served.alice("DELETE", f"/home/{name}")
        served.alice("DELETE", f"/other/{name}")
    served.alice("MKCOL", "/home/a")
    served.alice("PUT", "/home/a/file", b"content")


def to(path: str) -> str:
    return f"/dav/files/alice{path}"


@pytest.mark.parametrize("method", ["MOVE", "COPY"])
def test_a_new_destination_is_201_and_a_replaced_one_204(served, method):
    assert served.alice(method, "/home/a/file", Destination=served.url(to("/home/b"))).status == 201
    served.alice("PUT", "/home/a/file", b"newer")
    reply = served.alice(method, "/home/a/file", Destination=to("/home/b"), Overwrite="T")
    assert (reply.status, reply.body) == (204, b"")
    assert served.alice("GET", "/home/b").body == b"newer"
    assert served.alice("GET", "/home/a/file").status == (404 if method == "MOVE" else 200)


@pytest.mark.parametrize("method", ["MOVE", "COPY"])
def test_overwrite_f_protects_what_is_there(served, method):
    served.alice("PUT", "/home/b", b"old")
    for source in ("/home/a/file", "/home/a"):
        reply = served.alice(method, source, Destination=to("/home/b"), Overwrite="F")
        assert (reply.status, reply.code) == (412, "DESTINATION_EXISTS")
    assert served.alice("GET", "/home/b").body == b"old"


@pytest.mark.parametrize("method", ["MOVE", "COPY"])
def test_folders_go_with_everything_in_them_also_to_another_storage(served, method):
    assert served.alice(method, "/home/a/", Destination=to("/other/a/")).status == 201
    assert served.alice("GET", "/other/a/file").body == b"content"
    assert served.alice("PROPFIND", "/home/a").status == (404 if method == "MOVE" else 207)


@pytest.mark.parametrize("method", ["MOVE", "COPY"])
@pytest.mark.parametrize(
    ("source", "fields", "status"),
    [
        ("/home/a", {}, 400),
        ("/home/a", {"Destination": ""}, 400),
        ("/home/a", {"Destination": "http://elsewhere.example/dav/files/alice/home/b"}, 502),
        ("/home/a", {"Destination": "/dav/files/bob/home/b"}, 403),
        ("/home/a", {"Destination": "/dav/ocm/b"}, 403),
        ("/home/a", {"Destination": "/elsewhere"}, 403),
        ("/home/a", {"Destination": to("/home/gone/b")}, 409),
        ("/home/a", {"Destination": to("/home/a/file/b")}, 403),
        ("/home/a", {"Destination": to("/home/a")}, 403),
        ("/home/a", {"Destination": to("/home/a/sub")}, 403),
        ("/home/a/file", {"Destination": to("/home/a")}, 403),
        ("/home/gone", {"Destination": to("/home/b")}, 404),
        ("/home/a", {"Destination": to("/frozen/b")}, 403),
        ("/home/a", {"Destination": to("/home")}, 403),
        ("/home/a", {"Destination": to("/")}, 403),
        ("/home/a", {"Destination": to("/received")}, 403),
        ("/home/a", {"Destination": to("/newmount")}, 403),
        ("/home/a", {"Destination": to("/home/b"), "Overwrite": "X"}, 400),
        ("/home/a", {"Destination": to("/home/b"), "Depth": "1"}, 400),
        ("/home/a", {"Destination": to("/home/b"), "If_Match": '"x"'}, 412),
        ("/home/a", {"Destination": to("/home/b"), "If": "(<urn:uuid:x>)"}, 412),
        ("/home/a", {"Destination": to("/home/b"), "If": f'<{to("/home/gone")}> (["x"])'}, 412),
        ("/", {"Destination": to("/home/b")}, 403),
        ("/received/", {"Destination": to("/home/b")}, 403),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_changes_nothing(served, method, source, fields, status):
    assert served.alice(method, source, **fields).status == status
    assert served.alice("GET", "/home/a/file").body == b"content"
    assert served.alice("PROPFIND", "/home/b").status == 404


def test_a_mount_cannot_be_moved_but_copied(served):
    assert served.alice("MOVE", "/other/", Destination=to("/home/b")).status == 403
    assert served.alice("COPY", "/other/", Destination=to("/home/b")).status == 201


def test_depth_0_copies_the_folder_alone_and_cannot_move(served):
    assert served.alice("MOVE", "/home/a", Destination=to("/home/b"), Depth="0").status == 400
    assert served.alice("COPY", "/home/a", Destination=to("/home/b"), Depth="0").status == 201
    assert served.alice("GET", "/home/b/file").status == 404


def test_copying_takes_the_right_to_read_here_and_to_write_there(served):
    assert served.alice("COPY", "/frozen/a", Destination=to("/home/b")).status == 201
    assert served.alice("MOVE", "/frozen/a", Destination=to("/home/b")).status == 403
    share = served.share("a", READ)
    reply = served.request("COPY", "/dav/ocm/file", headers=bearer(share.secret) | {"Destination": "/dav/ocm/b"})
    assert (reply.status, reply.code) == (403, "READ_ONLY")


def test_a_moved_folder_keeps_its_share(served):
    share = served.share("a", WRITE)
    inner = served.share("a/file")
    assert served.alice("MOVE", "/home/a", Destination=to("/home/b")).status == 201
    assert served.request("GET", "/dav/ocm/file", headers=bearer(share.secret)).body == b"content"
    assert served.request("PUT", "/dav/ocm/new", b"x", bearer(share.secret)).status == 201
    assert (served.data / "b" / "new").read_bytes() == b"x"
    assert served.request("GET", "/dav/ocm/", headers=bearer(inner.secret)).body == b"content"
    reply = served.request("MOVE", "/dav/ocm/file", headers=bearer(share.secret) | {"Destination": "/dav/ocm/renamed"})
    assert reply.status == 201
    assert served.request("GET", f"/dav/ocm/{inner.id}", headers=basic(inner.secret)).body == b"content"


def test_a_grantee_moves_within_the_share_alone(served):
    share = served.share("a", WRITE)
    for destination, status in (
        ("/dav/ocm/x", 201),
        (f"/dav/ocm/{share.id}/y", 404),
        ("/dav/ocm/", 403),
        (f"/dav/ocm/{share.id}", 403),
        ("/dav/ocm/../b", 400),
        (to("/home/b"), 403),
    ):
        headers = bearer(share.secret) | {"Destination": destination}
        assert served.request("MOVE", "/dav/ocm/file", headers=headers).status == status, destination
    headers = bearer(share.secret) | {"Destination": f"/dav/ocm/{share.id}/y"}
    assert served.request("MOVE", f"/dav/ocm/{share.id}/x", headers=headers).status == 201
    assert served.request("MOVE", "/dav/ocm/", headers=headers).status == 403


def test_what_fails_in_parts_is_207_with_the_address_of_each_failure(tmp_path):
    with Served(tmp_path, wrap=lambda local: Refusing(local, "copy", {"a/x y"}, PermissionDenied("no"))) as served:
        (served.data / "a").mkdir()
        (served.data / "a" / "x y").write_bytes(b"1")
        (served.data / "a" / "z").write_bytes(b"2")
        reply = served.alice("COPY", "/home/a", Destination=to("/home/b"))
        assert reply.status == 207
        assert b"<d:href>/dav/files/alice/home/b/x%20y</d:href><d:status>HTTP/1.1 403 Forbidden" in reply.body
        assert (served.data / "b" / "z").read_bytes() == b"2"


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["MOVE", "COPY"]),
    st.text(alphabet=st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=30),
    st.sampled_from(["", "/dav/files/alice/", "http://", "/dav/files/alice/home/"]),
    st.sampled_from(["T", "F", "t", "", "TF"]),
    st.sampled_from(["0", "1", "infinity", "Infinity", "-1", ""]),
)
def test_any_destination_overwrite_and_depth_get_an_answer(served, method, text, prefix, overwrite, depth):
    reply = served.request(
        method,
        "/dav/files/alice/home/a/file",
        headers=basic("alice") | {"Destination": prefix + text, "Overwrite": overwrite, "Depth": depth},
    )
    assert reply.status in (201, 204, 400, 403, 404, 409, 412, 502)
    served.alice("PUT", "/home/a/file", b"content")
