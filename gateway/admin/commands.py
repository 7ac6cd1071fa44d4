"""The commands of the admin socket: one table, each entry parses its arguments and calls one use case."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.access import Access
from gateway.admin import views
from gateway.admin.calling import Arguments, Caller, Command, number, optional, path, server, text, words
from gateway.errors import NoSuch
from gateway.ocm.shares import ShareType
from gateway.outbox import Outbox
from gateway.peers import Peers
from gateway.receiving import Receiving
from gateway.roots import Roots
from gateway.sending import ASK, Sending, ShareRequest, permissions, protocols
from gateway.signing_keys import SigningKeys
from gateway.trust import BLOCKED, TRUSTED, Trust
from gateway.users import Users


def share_request(arguments: Arguments) -> ShareRequest:
    """Return what `share create` asks for; raises Invalid."""
    wanted = words(arguments, "protocols")
    return ShareRequest(
        path=path(arguments),
        share_with=text(arguments, "with"),
        permissions=permissions(words(arguments, "permissions") or ["read"]),
        name=optional(arguments, "name"),
        expiration=number(arguments, "expiration"),
        share_type=ShareType.GROUP if arguments.get("group") else ShareType.USER,
        reshare=optional(arguments, "reshare") or ASK,
        protocols=protocols(wanted) if wanted else None,
    )


class Commands:
    """Calls the use cases for the command line."""

    def __init__(
        self,
        users: Users,
        access: Access,
        sending: Sending,
        receiving: Receiving,
        trust: Trust,
        peers: Peers,
        outbox: Outbox,
        keys: SigningKeys,
        roots: Roots,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._users = users
        self._access = access
        self._sending = sending
        self._receiving = receiving
        self._trust = trust
        self._peers = peers
        self._outbox = outbox
        self._keys = keys
        self._roots = roots
        self._status = status
        self.table: dict[str, Command] = {
            "status": self._show_status,
            "user.add": self._user_add,
            "user.list": self._user_list,
            "user.update": self._user_update,
            "user.passwd": self._user_passwd,
            "user.disable": self._user_disable,
            "user.enable": self._user_enable,
            "share.create": self._share_create,
            "share.list": self._share_list,
            "share.show": self._share_show,
            "share.update": self._share_update,
            "share.revoke": self._share_revoke,
            "received.list": self._received_list,
            "received.show": self._received_show,
            "received.accept": self._received_accept,
            "received.host-key": self._received_host_key,
            "received.decline": self._received_decline,
            "received.leave": self._received_leave,
            "peer.list": self._peer_list,
            "peer.show": self._peer_show,
            "peer.trust": self._peer_trust,
            "peer.block": self._peer_block,
            "peer.forget": self._peer_forget,
            "outbox.list": self._outbox_list,
            "outbox.retry": self._outbox_retry,
            "backend.list": self._backend_list,
            "backend.accept-root": self._backend_accept_root,
            "keys.list": self._keys_list,
            "keys.rotate": self._keys_rotate,
        }

    async def _scope(self, caller: Caller, arguments: Arguments) -> str | None:
        """Return whose Shares are meant; raises NotAllowed, Invalid, and Unproven for a disabled caller."""
        scope = caller.scope(optional(arguments, "as"))
        await self._require_enabled(caller)
        return scope

    async def _require_enabled(self, caller: Caller) -> None:
        """Let the operator act for a disabled user, but no such user; raises Unproven."""
        if caller.user is not None:
            await self._access.of_user(caller.user)

    async def _show_status(self, _caller: Caller, _arguments: Arguments) -> Any:
        return self._status()

    # --- users --------------------------------------------------------------------------------------------------

    async def _user_add(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        name, password = text(arguments, "name"), text(arguments, "password")
        identity = {"email": optional(arguments, "email"), "display_name": optional(arguments, "display_name")}
        return views.user(await self._users.add(name, password, caller.actor, **identity))

    async def _user_update(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        identity = {"email": optional(arguments, "email"), "display_name": optional(arguments, "display_name")}
        await self._users.set_identity(text(arguments, "name"), caller.actor, **identity)

    async def _user_list(self, caller: Caller, _arguments: Arguments) -> Any:
        caller.require_operator()
        return [views.user(user) for user in await self._users.everybody()]

    async def _user_passwd(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        await self._users.set_password(text(arguments, "name"), text(arguments, "password"), caller.actor)

    async def _user_disable(self, caller: Caller, arguments: Arguments) -> Any:
        await self._set_disabled(caller, arguments, disabled=True)

    async def _user_enable(self, caller: Caller, arguments: Arguments) -> Any:
        await self._set_disabled(caller, arguments, disabled=False)

    async def _set_disabled(self, caller: Caller, arguments: Arguments, *, disabled: bool) -> None:
        caller.require_operator()
        await self._users.set_disabled(text(arguments, "name"), disabled, caller.actor)
        self._access.forget()

    # --- Shares of ours -----------------------------------------------------------------------------------------

    async def _share_create(self, caller: Caller, arguments: Arguments) -> Any:
        owner = caller.acting_as(optional(arguments, "as"))
        await self._require_enabled(caller)
        request = share_request(arguments)
        view, problem = await self._sending.create(await self._access.of_user(owner), request, caller.actor)
        return views.sent_share(view) | {"problem": problem}

    async def _share_list(self, caller: Caller, arguments: Arguments) -> Any:
        scope = await self._scope(caller, arguments)
        return [views.sent_share(view) for view in await self._sending.list(scope)]

    async def _share_show(self, caller: Caller, arguments: Arguments) -> Any:
        view = await self._sending.show(await self._scope(caller, arguments), text(arguments, "id"))
        return views.sent_share(view) | {"events": views.history(view.history)}

    async def _share_update(self, caller: Caller, arguments: Arguments) -> Any:
        wanted = words(arguments, "permissions")
        view = await self._sending.update(
            await self._scope(caller, arguments),
            text(arguments, "id"),
            caller.actor,
            permissions=permissions(wanted) if wanted else None,
            expiration=number(arguments, "expiration"),
            never_expires=bool(arguments.get("never_expires")),
            reshare=optional(arguments, "reshare"),
        )
        return views.sent_share(view)

    async def _share_revoke(self, caller: Caller, arguments: Arguments) -> Any:
        scope = await self._scope(caller, arguments)
        return views.sent_share(await self._sending.revoke(scope, text(arguments, "id"), caller.actor))

    # --- Shares of others ---------------------------------------------------------------------------------------

    async def _received_list(self, caller: Caller, arguments: Arguments) -> Any:
        scope = await self._scope(caller, arguments)
        return [views.received_share(view) for view in await self._receiving.list(scope)]

    async def _received_show(self, caller: Caller, arguments: Arguments) -> Any:
        view = await self._receiving.show(await self._scope(caller, arguments), text(arguments, "id"))
        copies = [views.kept(copy) for copy in view.kept]
        return views.received_share(view) | {"events": views.history(view.history), "kept": copies}

    async def _received_accept(self, caller: Caller, arguments: Arguments) -> Any:
        scope = await self._scope(caller, arguments)
        host_key = optional(arguments, "host_key")
        view, problem = await self._receiving.accept(scope, text(arguments, "id"), caller.actor, host_key)
        return views.received_share(view) | {"problem": problem}

    async def _received_host_key(self, caller: Caller, arguments: Arguments) -> Any:
        """Show the host key that the Share's SSH server has now."""
        scope = await self._scope(caller, arguments)
        return views.ssh_key(await self._receiving.host_key(scope, text(arguments, "id")))

    async def _received_decline(self, caller: Caller, arguments: Arguments) -> Any:
        scope = await self._scope(caller, arguments)
        return views.received_share(await self._receiving.decline(scope, text(arguments, "id"), caller.actor))

    async def _received_leave(self, caller: Caller, arguments: Arguments) -> Any:
        scope = await self._scope(caller, arguments)
        return views.received_share(await self._receiving.leave(scope, text(arguments, "id"), caller.actor))

    # --- peers, outbox, backends, keys ----------------------------------------------------------------------------

    async def _peer_list(self, caller: Caller, _arguments: Arguments) -> Any:
        caller.require_operator()
        standing = self._peers.breakers.standing
        return [views.peer(record, standing(record.server)) for record in await self._peers.everyone()]

    async def _peer_show(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        record = await self._peers.record(server(arguments))
        if record is None:
            raise NoSuch("NO_SUCH_PEER", "nothing is known of this server; `peer list` shows who is known")
        known = {"standing": await self._trust.standing(record.server)} | views.dialect(record)
        return views.peer(record, self._peers.breakers.standing(record.server)) | views.proofs(record) | known

    async def _peer_trust(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        await self._trust.set(server(arguments), TRUSTED, caller.actor)
        return {"standing": await self._trust.standing(server(arguments))}

    async def _peer_block(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        await self._trust.set(server(arguments), BLOCKED, caller.actor)

    async def _peer_forget(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        await self._trust.forget(server(arguments), caller.actor)
        self._peers.breakers.forget(server(arguments))

    async def _outbox_list(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        state, peer = optional(arguments, "state"), server(arguments) if arguments.get("server") else None
        return [views.message(record) for record in await self._outbox.everything(state, peer)]

    async def _outbox_retry(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        peer = server(arguments) if arguments.get("server") else None
        servers = await self._outbox.retry(number(arguments, "id"), peer)
        for each in set(servers):
            self._peers.breakers.forget(each)  # `now` means that it is asked
        return {"messages": len(servers)}

    async def _backend_list(self, caller: Caller, _arguments: Arguments) -> Any:
        caller.require_operator()
        return [views.backend(status) for status in await self._roots.everything()]

    async def _backend_accept_root(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        return views.backend(await self._roots.accept(text(arguments, "name"), caller.actor))

    async def _keys_list(self, caller: Caller, _arguments: Arguments) -> Any:
        caller.require_operator()
        return [views.key(record) for record in self._keys.records()]

    async def _keys_rotate(self, caller: Caller, _arguments: Arguments) -> Any:
        caller.require_operator()
        return [views.key(record) for record in await asyncio.to_thread(self._keys.rotate)]
