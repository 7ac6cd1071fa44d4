"""Who is let in, and what everybody else learns: nothing."""

from __future__ import annotations

import base64
import time

import pytest

from gateway.store import sent_shares, users

from .served import PASSWORD, READ, WRITE, Served, basic, bearer


def encoded(credential: bytes) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(credential).decode()}


@pytest.fixture(scope="module")
def folder(served: Served) -> str:
    (served.data / "folder").mkdir()
    (served.data / "folder" / "file").write_bytes(b"content")
    return "folder"


def test_every_form_of_credential_opens_the_share_bare_and_by_id(served, folder):
    share = served.share(folder)
    for headers in (
        bearer(share.secret),
        bearer(served.token(share)),
        basic(share.secret, ""),
        basic(share.secret, ":::"),
        encoded(share.secret.encode() + b"::::"),
        {"Authorization": f"bearer {share.secret}"},
    ):
        for path in ("/dav/ocm/file", f"/dav/ocm/{share.id}/file", f"/dav/ocm//{share.id}//file"):
            reply = served.request("GET", path, headers=headers)
            assert (reply.status, reply.body) == (200, b"content"), (headers, path)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("no-such-secret"),
        bearer("a.b.c"),
        bearer("!"),
        bearer("\u00e4"),
        basic("no-such-secret"),
        basic(""),
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!!"},
        {"Authorization": "Digest username=x"},
        {"Authorization": ""},
        encoded(b"\xff\xfe:x"),
        encoded(b"no colon"),
        encoded(b"nul\0:x"),
        {"Authorization": "Bearer " + "x" * 20000},
    ],
)
def test_every_refusal_is_the_same(served, headers):
    connection = served.raw(
        b"GET /dav/ocm/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        + b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
        + b"\r\n"
    )
    head, _, body = connection.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 ")
    assert b'WWW-Authenticate: Basic realm="ocm", charset="UTF-8"\r\nWWW-Authenticate: Bearer\r\n' in head
    assert b"<s:exception>ACCESS_DENIED</s:exception><s:message>no valid credential was given</s:message>" in body


def test_two_credentials_are_none(served, folder):
    share = served.share(folder)
    line = f"Authorization: Bearer {share.secret}\r\n".encode()
    answer = served.raw(b"GET /dav/ocm/file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + 2 * line + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_a_share_that_requires_the_exchange_opens_to_its_token_alone(served, folder):
    share = served.share(folder, requires_exchange=True)
    assert served.request("GET", "/dav/ocm/file", headers=bearer(share.secret)).status == 401
    assert served.request("GET", "/dav/ocm/file", headers=basic(share.secret)).status == 401
    assert served.request("GET", "/dav/ocm/file", headers=bearer(served.token(share))).status == 200


def test_an_expired_share_is_refused(served, folder):
    share = served.share(folder, expiration=int(time.time()) - 1)
    assert served.request("GET", "/dav/ocm/file", headers=bearer(share.secret)).status == 401


def test_a_share_is_refused_within_a_second_of_its_revocation(served, folder):
    share = served.share(folder)
    assert served.request("GET", "/dav/ocm/file", headers=bearer(share.secret)).status == 200
    token = served.token(share)
    served.revoke(share)
    time.sleep(1)
    for headers in (bearer(share.secret), basic(share.secret), bearer(token)):
        assert served.request("GET", "/dav/ocm/file", headers=headers).status == 401


def test_what_a_disabled_owner_shared_is_refused_and_so_is_the_owner(served, folder):
    share = served.share(folder, owner="bob")
    assert served.request("GET", "/dav/ocm/file", headers=bearer(share.secret)).status == 200
    served.store.run_sync(lambda tx: users.set_disabled(tx, "bob", True))
    time.sleep(1)
    assert served.request("GET", "/dav/ocm/file", headers=bearer(share.secret)).status == 401
    assert served.request("GET", "/dav/files/bob/home/folder/file", headers=basic("bob")).status == 401
    served.store.run_sync(lambda tx: users.set_disabled(tx, "bob", False))
    time.sleep(0.6)


def test_a_mount_that_is_read_only_for_the_owner_makes_the_share_read_only(served, folder):
    share = served.share(folder, WRITE, mount="frozen")
    reply = served.request("PUT", "/dav/ocm/new", b"x", bearer(share.secret))
    assert (reply.status, reply.code) == (403, "READ_ONLY")


def test_a_user_reaches_no_other_users_files(served):
    for path in ("/dav/files/bob/home/", "/dav/files/", "/dav/files/Alice/", "/dav/files/alice%00/"):
        assert served.request("PROPFIND", path, headers=basic("alice")).status == 403, path


@pytest.mark.parametrize(
    "headers", [{}, basic("alice", "wrong"), basic("nobody"), bearer(PASSWORD), basic("alice", "")]
)
def test_a_wrong_password_is_told_the_one_way_that_there_is(served, headers):
    reply = served.request("GET", "/dav/files/alice/home/folder/file", headers=headers)
    assert (reply.status, reply.code) == (401, "ACCESS_DENIED")
    assert reply.headers["www-authenticate"] == 'Basic realm="files", charset="UTF-8"'


def test_a_shares_secret_opens_no_users_files_and_a_password_no_share(served, folder):
    share = served.share(folder)
    assert served.request("PROPFIND", "/dav/files/alice/", headers=basic(share.secret)).status == 401
    assert served.request("PROPFIND", "/dav/ocm/", headers=basic("alice")).status == 401


def test_a_mount_for_bob_is_not_there_for_alice(served):
    assert served.alice("PROPFIND", "/private/").status == 404
    assert served.request("PROPFIND", "/dav/files/bob/private/", headers=basic("bob")).status == 207


def test_no_secret_and_no_password_is_ever_logged(served, folder, log):
    share = served.share(folder, READ)
    token = served.token(share)
    served.request("GET", f"/dav/ocm/{share.id}/gone", headers=basic(share.secret))
    served.request("PUT", "/dav/ocm/gone", b"x", headers=basic(share.secret))
    served.request("MOVE", "/dav/ocm/file", headers=bearer(token) | {"Destination": "http://elsewhere/x"})
    served.revoke(share)
    time.sleep(0.6)
    served.request("GET", "/dav/ocm/", headers=basic(share.secret))
    served.request("GET", "/dav/ocm/", headers=bearer(token))
    served.request("GET", "/dav/files/alice/", headers=basic("alice", "wrong-password"))
    assert len(log) >= 4
    for secret in (share.secret, token, PASSWORD, "wrong-password", *encoded(share.secret.encode()).values()):
        assert secret not in repr(log)


def test_a_refusal_is_logged_with_its_reason(served, folder, log):
    share = served.share(folder)
    served.request("PUT", "/dav/ocm/new%0aname", b"x", bearer(share.secret))
    (line,) = [line for line in log if line["event"] == "dav.refused"]
    assert line["code"] == "READ_ONLY"
    assert line["principal"] == f"share:{share.id}"
    assert line["method"] == "PUT"
    assert line["path"] == "new%0Aname"


def test_options_needs_no_credential_but_accepts_no_wrong_one(served):
    reply = served.request("OPTIONS", "/dav/ocm/")
    assert (reply.status, reply.headers["dav"]) == (200, "1, 2, 3")
    assert "LOCK" in reply.headers["allow"].split(", ")
    assert served.request("OPTIONS", "/dav/files/alice/home/", headers=basic("alice", "wrong")).status == 401


def test_a_share_on_a_backend_that_no_mount_of_the_owner_leads_to_is_refused(served, folder):
    share = served.share(folder)
    served.change(
        share, lambda tx, share_id: sent_shares.set_location(tx, share_id, "removed", served.stored(share).path, None)
    )
    assert served.request("GET", "/dav/ocm/file", headers=bearer(share.secret)).status == 401
