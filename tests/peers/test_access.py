"""Our Shares, reached as each product reaches them (peers.md, sections 3a and 3b): its URLs, credentials, requests."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from dav.served import WRITE, Reply, Served, Shared, basic, bearer

NEXTCLOUD_ASKS = (
    b'<?xml version="1.0"?><d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"'
    b' xmlns:ocs="http://open-collaboration-services.org/ns" xmlns:ocm="http://open-cloud-mesh.org/ns"><d:prop>'
    b"<d:getlastmodified/><d:getcontentlength/><d:getcontenttype/><d:resourcetype/><d:getetag/>"
    b"<d:quota-available-bytes/><oc:permissions/><ocs:share-permissions/><ocm:share-permissions/>"
    b"</d:prop></d:propfind>"
)
SEAFILE_PASSWORDS = ("", ":", "::", ":::")  # the padding of its secret to a multiple of four


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("access")) as door:
        (door.data / "folder" / "sub").mkdir(parents=True)
        (door.data / "folder" / "file.txt").write_bytes(b"content")
        yield door


@pytest.fixture
def share(served: Served) -> Shared:
    return served.share("folder", WRITE)


def listed(reply: Reply) -> dict[str, ET.Element]:
    assert reply.status == 207
    responses = ET.fromstring(reply.body).findall("{DAV:}response")
    return {response.findtext("{DAV:}href") or "": response for response in responses}


def is_folder(response: ET.Element) -> bool:
    return response.find(".//{DAV:}resourcetype/{DAV:}collection") is not None


def test_nextcloud_finds_the_share_at_the_bare_root_by_its_secret(served: Served, share: Shared) -> None:
    """It uses neither id nor uri (trap 9); the collection itself comes first, and every href is a path (trap 13)."""
    found = listed(served.request("PROPFIND", "/dav/ocm/", NEXTCLOUD_ASKS, basic(share.secret, "") | {"Depth": "1"}))
    assert next(iter(found)) == "/dav/ocm/"
    assert set(found) == {"/dav/ocm/", "/dav/ocm/file.txt", "/dav/ocm/sub/"}
    for name in ("getetag", "getlastmodified", "resourcetype"):
        assert all(response.find(f".//{{DAV:}}{name}") is not None for response in found.values())
    ocs = "{http://open-collaboration-services.org/ns}share-permissions"
    assert found["/dav/ocm/"].findtext(f".//{ocs}") == "15"


def test_a_single_file_is_the_root_itself_and_no_collection(served: Served) -> None:
    share = served.share("folder/file.txt")
    found = listed(served.request("PROPFIND", "/dav/ocm/", NEXTCLOUD_ASKS, basic(share.secret, "") | {"Depth": "0"}))
    assert [is_folder(response) for response in found.values()] == [False]
    assert served.request("GET", "/dav/ocm/", headers=basic(share.secret, "")).body == b"content"


def test_ocm_go_gets_a_file_below_its_id_with_a_token(served: Served) -> None:
    share = served.share("folder/file.txt", requires_exchange=True)
    reply = served.request("GET", f"/dav/ocm/{share.id}", headers=bearer(served.token(share)))
    assert (reply.status, reply.body) == (200, b"content")


@pytest.mark.parametrize("password", SEAFILE_PASSWORDS)
def test_seafile_lists_one_level_without_saying_so(served: Served, share: Shared, password: str) -> None:
    """Its password is colons, and its PROPFIND has neither Depth nor body (trap 11)."""
    (served.data / "folder" / "sub" / "deep").mkdir(exist_ok=True)
    found = listed(served.request("PROPFIND", "/dav/ocm/", headers=basic(share.secret, password)))
    assert set(found) == {"/dav/ocm/", "/dav/ocm/file.txt", "/dav/ocm/sub/"}
    for href, response in found.items():
        first = response.find("{DAV:}propstat")
        assert first is not None
        assert href.startswith("/")
        assert first.find(".//{DAV:}getlastmodified") is not None
        assert first.find(".//{DAV:}resourcetype") is not None


def test_reva_tries_bearer_and_then_basic_and_opencloud_bearer_alone(served: Served, share: Shared) -> None:
    """Both below the id, where the secret itself is the token (trap 10)."""
    for headers in (bearer(share.secret), basic(share.secret, "")):
        found = listed(served.request("PROPFIND", f"/dav/ocm/{share.id}/", b"", headers | {"Depth": "1"}))
        assert next(iter(found)) == f"/dav/ocm/{share.id}/"
        assert all("200" in (status.text or "") for status in found[f"/dav/ocm/{share.id}/"].iter("{DAV:}status"))


@pytest.mark.parametrize("method", ["GET", "HEAD", "PROPFIND", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/dav/ocm", "/dav/ocm/", "/dav/ocm/sub", "/dav/ocm/ID", "/dav/ocm/ID/sub", "/dav/ocm//ID"]
)
def test_nothing_is_redirected(served: Served, share: Shared, method: str, path: str) -> None:
    """oCIS never follows one (section 3a)."""
    reply = served.request(method, path.replace("ID", share.id), headers=bearer(share.secret) | {"Depth": "0"})
    assert not 300 <= reply.status < 400
    assert reply.status < 500


@pytest.mark.parametrize("root", ["/dav/ocm", "/dav/ocm/ID"])
def test_what_products_write_is_answered_as_they_expect(served: Served, share: Shared, root: str) -> None:
    """MKCOL 201, DELETE 204 also with a slash at the end, GET 200, and `Upload-Length: -1` of reva (trap 13)."""
    root, headers = root.replace("ID", share.id), basic(share.secret, "")
    assert served.request("MKCOL", f"{root}/new", headers=headers).status == 201
    assert served.request("PUT", f"{root}/new/a", b"alpha", headers | {"Upload-Length": "-1"}).status == 201
    assert served.request("PUT", f"{root}/new/a", b"beta", headers).status == 204
    target = {"Destination": f"{served.origin}{root}/new/b", "Overwrite": "F"}
    assert served.request("MOVE", f"{root}/new/a", headers=headers | target).status == 201
    assert served.request("GET", f"{root}/new/b", headers=headers).body == b"beta"
    assert served.request("DELETE", f"{root}/new/b", headers=headers).status == 204
    assert served.request("DELETE", f"{root}/new/", headers=headers).status == 204


def test_a_unknown_property_is_told_apart(served: Served, share: Shared) -> None:
    """It goes into a propstat of its own with 404 (section 3b)."""
    body = b'<d:propfind xmlns:d="DAV:" xmlns:x="urn:x"><d:prop><d:getetag/><x:unknown/></d:prop></d:propfind>'
    found = listed(served.request("PROPFIND", "/dav/ocm/", body, basic(share.secret, "") | {"Depth": "0"}))
    statuses = [(status.text or "").split()[1] for status in found["/dav/ocm/"].iter("{DAV:}status")]
    assert sorted(statuses) == ["200", "404"]
