"""What the products say of themselves, and the Shares that they send: shapes from their sources (peers.md §1, §2a)."""

from __future__ import annotations

import json
from typing import Any

from gateway.ocm.discovery import Discovery, parse_discovery

PEM = {"keyId": "https://peer.example/ocm#signature", "publicKeyPem": "-----BEGIN PUBLIC KEY-----\n..."}
OPTIONS = {"sharedSecret": "s3cr3t", "permissions": "{http://open-cloud-mesh.org/ns}share-permissions"}


def _file(webdav: str, *share_types: str, **protocols: Any) -> dict[str, Any]:
    return {"name": "file", "shareTypes": list(share_types), "protocols": {"webdav": webdav} | protocols}


def documents(url: str = "https://peer.example") -> dict[str, dict[str, Any]]:
    """Return the discovery document of each product, as it stands at `url`."""
    nextcloud = {
        "enabled": True,
        "apiVersion": "1.0-proposal1",
        "endPoint": f"{url}/index.php/ocm",
        "resourceTypes": [_file("/public.php/webdav/", "user", "group")],
    }
    nextcloud_32 = nextcloud | {"version": "1.1.0", "publicKey": PEM}
    return {
        "nextcloud-30": nextcloud,
        "nextcloud-31": nextcloud | {"publicKey": PEM},
        "nextcloud-32": nextcloud_32 | {"capabilities": ["/invite-accepted", "/notifications", "/shares"]},
        "nextcloud-33": nextcloud_32 | {"capabilities": ["invite-accepted", "notifications", "shares"]},
        "nextcloud-35": nextcloud_32
        | {
            "version": "1.1.2",
            "provider": "Nextcloud",
            "capabilities": ["exchange-token", "http-sig", "invite-accepted", "notifications", "shares"],
            "tokenEndPoint": f"{url}/index.php/apps/cloud_federation_api/api/v1/access-token",
            "jwksUri": f"{url}/ocm/jwks",
        },
        "owncloud-10": {
            "enabled": True,
            "apiVersion": "1.0-proposal1",
            "endPoint": f"{url}/index.php/apps/federatedfilesharing",
            "shareTypes": [{"name": "file", "protocols": {"webdav": "/public.php/webdav/"}}],
        },
        "ocis": {
            "enabled": True,
            "apiVersion": "1.1.0",
            "provider": "oCIS",
            "endPoint": f"{url}/ocm",
            "resourceTypes": [_file("/dav/ocm/", "user")],
            "capabilities": ["/invite-accepted"],
        },
        "opencloud": {
            "enabled": True,
            "apiVersion": "1.2.0",
            "provider": "OpenCloud",
            "endPoint": f"{url}/ocm",
            "resourceTypes": [_file("/dav/ocm/", "user")],
            "capabilities": ["invites", "webdav-uri", "protocol-object", "invite-wayf"],
            "inviteAcceptDialog": f"{url}/open-cloud-mesh/accept-invite",
        },
        "reva": {
            "enabled": True,
            "apiVersion": "1.3.0",
            "provider": "CERNBox",
            "endPoint": f"{url}/ocm",
            "resourceTypes": [
                _file("/remote.php/dav/ocm/", "user", **{"webdav-receive": {"uri": "absolute"}}) | {"name": name}
                for name in ("file", "folder")
            ],
            "capabilities": ["invites", "protocol-object", "invite-wayf"],
            "criteria": ["must-invite"],
        },
        "seafile": {
            "enabled": True,
            "apiVersion": "1.0-proposal1",
            "endPoint": f"{url}/ocm-via-webdav/",
            "resourceTypes": [_file("seafdav", "user")],
        },
        "ocm-go": {
            "enabled": True,
            "apiVersion": "1.4.0",
            "endPoint": f"{url}/ocm",
            "resourceTypes": [_file("/webdav/ocm/", "user", **{"webdav-receive": {"uri": "relative"}})],
            "capabilities": ["http-sig", "exchange-token", "invites", "notifications"],
            "criteria": ["must-use-http-sig", "must-exchange-token", "must-invite"],
            "tokenEndPoint": f"{url}/ocm/token",
            "jwksUri": f"{url}/ocm/jwks",
        },
        "ocm-stub": {
            "enabled": True,
            "apiVersion": "1.0-proposal1",
            "endPoint": f"{url}/ocm",
            "resourceTypes": [_file("/webdav-api/", "user")],
            "publicKey": "-----BEGIN RSA PUBLIC KEY-----\n...",
        },
    }


PRODUCTS = tuple(documents())


def discovery(product: str, **changes: Any) -> Discovery:
    """Return what is read of a product's document."""
    return parse_discovery(json.dumps(documents()[product] | changes).encode(), "https://peer.example/ocm-provider/")


def _common(sender: str, /, **more: Any) -> dict[str, Any]:
    """Return what all notifications have; `sender` is the address as the product writes it."""
    return {
        "shareWith": "bob@gw.example",
        "shareType": "user",
        "name": "data",
        "resourceType": "file",
        "providerId": "17",
        "owner": sender,
    } | more


def _multi(uri: str, *permissions: str, **more: Any) -> dict[str, Any]:
    return {"webdav": {"uri": uri, "sharedSecret": "s3cr3t", "permissions": list(permissions)}} | more


def _nextcloud(sender: str, /, **more: Any) -> dict[str, Any]:
    names = {"ownerDisplayName": "Alice", "sharedBy": sender, "sharedByDisplayName": "Alice", "description": ""}
    return _common(sender, name="/data", **names, protocol={"name": "webdav", "options": OPTIONS}) | more


def _reva(sender: str, uri: str, /, **more: Any) -> dict[str, Any]:
    return (
        _common(
            sender,
            sender=sender,
            description="",
            ownerDisplayName="",
            senderDisplayName="",
            code="",
            resourceType="folder",
            expiration=0,
            protocol={"name": "multi", "options": {}} | _multi(uri, "read", "write"),
        )
        | more
    )


# The Share Creation Notification of each product to bob@gw.example, and the server that it speaks for.
SHARES: dict[str, tuple[dict[str, Any], str]] = {
    "nextcloud-30": (
        _nextcloud("alice@https://nc.example/", shareWith="bob@https://gw.example/", providerId=17),
        "nc.example",
    ),
    "nextcloud-31": (
        _nextcloud("alice@nc.example", sender="alice@nc.example", senderDisplayName="Alice"),
        "nc.example",
    ),
    "nextcloud-33": (
        _nextcloud("alice@https://nc.example", sender="alice@https://nc.example", senderDisplayName="Alice"),
        "nc.example",
    ),
    "nextcloud-35": (
        _nextcloud(
            "alice@nc.example",
            sender="alice@nc.example",
            protocol={"name": "webdav"} | _multi("https://nc.example/public.php/webdav/", "read", "write", "share"),
        ),
        "nc.example",
    ),
    "owncloud-10": (
        _common(
            "alice@https://oc.example/",
            sender="alice@https://oc.example/",
            ownerDisplayName="Alice",
            senderDisplayName="Alice",
            description="",
            protocol={"name": "webdav", "options": OPTIONS},
        ),
        "oc.example",
    ),
    "ocis": (
        _reva(
            "0d3f@ocis.example@ocis.example",
            "https://ocis.example/dav/ocm/17",
            shareWith="bob@gw.example@gw.example",
        ),
        "ocis.example",
    ),
    "opencloud": (
        _reva("0d3f@https://oc.example@oc.example", "https://oc.example/dav/ocm/17"),
        "oc.example",
    ),
    "reva": (_reva("alice@cern.example", "https://cern.example/remote.php/dav/ocm/17"), "cern.example"),
    "seafile": (
        _common(
            "a@mail.example@seafile.example",
            sender="a@mail.example@seafile.example",
            sharedBy="a@mail.example@seafile.example",
            sharedByDisplayName="Alice",
            description="",
            expiration=0,
            protocol={"name": "webdav", "options": {"permissions": "read", "sharedSecret": "cmVwbzovcGF0aA=="}},
        ),
        "seafile.example",
    ),
    "ocm-go": (
        _common(
            "YWxpY2VAZ28uZXhhbXBsZQ@go.example:9200",
            sender="YWxpY2VAZ28uZXhhbXBsZQ@go.example:9200",
            protocol={"name": "multi"}
            | {
                "webdav": _multi("0d3f-17", "read")["webdav"] | {"requirements": ["must-exchange-token"]},
            },
        ),
        "go.example:9200",
    ),
    "ocm-stub": (
        _common(
            "einstein@stub.example",
            sender="einstein@stub.example",
            code="c0d3",
            protocol={
                "name": "webdav",
                "options": OPTIONS,
                "webdav": {"URI": "https://stub.example/webdav-api/", "sharedSecret": "s3cr3t"},
            },
        ),
        "stub.example",
    ),
}
