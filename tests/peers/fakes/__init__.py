"""Strict fakes of the products that speak Open Cloud Mesh: each sends, demands, refuses and answers as it does.

They are written from what is known of the products and import nothing of the gateway, so that no mistake is made twice
and cancels itself out. `gateway/peersim` is this package, for `ocm-gateway peer-sim`.
"""

from __future__ import annotations

from .fake import Fake
from .journal import Complaint, Entry, Exchange, Failed
from .nextcloud import Nextcloud30, Nextcloud31, Nextcloud33, Nextcloud35
from .ocis import OCIS
from .ocm_go import OCMGo
from .opencloud import OpenCloud
from .owncloud10 import OwnCloud10
from .resources import Resource
from .reva import Reva
from .seafile import Seafile
from .shares import Received, Sent

PRODUCTS: dict[str, type[Fake]] = {
    fake.product: fake
    for fake in (
        *(Nextcloud30, Nextcloud31, Nextcloud33, Nextcloud35, OwnCloud10),
        *(OCIS, OpenCloud, Reva, Seafile, OCMGo),
    )
}

__all__ = ["PRODUCTS", "Complaint", "Entry", "Exchange", "Failed", "Fake", "Received", "Resource", "Sent"]
