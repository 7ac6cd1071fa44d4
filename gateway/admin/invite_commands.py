"""The commands on invites and address books."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.access import Access
from gateway.admin.calling import Arguments, Caller, Command, flag, number, optional, text
from gateway.contacts import Contacts
from gateway.inviting import InviteView, Inviting
from gateway.ocm.invites import Party
from gateway.store.contacts import Contact


class InviteCommands:
    """Calls the use cases for the command line."""

    def __init__(self, access: Access, inviting: Inviting, contacts: Contacts) -> None:
        self._access = access
        self._inviting = inviting
        self._contacts = contacts
        self.table: Mapping[str, Command] = {
            "invite.create": self._invite_create,
            "invite.list": self._invite_list,
            "invite.accept": self._invite_accept,
            "invite.revoke": self._invite_revoke,
            "contact.list": self._contact_list,
            "contact.show": self._contact_show,
            "contact.add": self._contact_add,
            "contact.remove": self._contact_remove,
            "contact.auto-accept": self._contact_auto_accept,
            "contact.export": self._contact_export,
            "contact.import": self._contact_import,
        }

    async def _user(self, caller: Caller, arguments: Arguments) -> str:
        """Return the user to act as, who has to be enabled; raises NotAllowed, Invalid, Unproven."""
        user = caller.acting_as(optional(arguments, "as"))
        await self._access.of_user(user)
        return user

    async def _scope(self, caller: Caller, arguments: Arguments) -> str | None:
        """Return whose are meant; raises NotAllowed, Invalid, and Unproven for a disabled caller."""
        scope = caller.scope(optional(arguments, "as"))
        if caller.user is not None:
            await self._access.of_user(caller.user)
        return scope

    async def _invite_create(self, caller: Caller, arguments: Arguments) -> Any:
        user = await self._user(caller, arguments)
        note, expires = optional(arguments, "note"), number(arguments, "expires")
        made = await self._inviting.create(user, note, expires, caller.actor)
        return _invite(made.view) | {"invite_string": made.invite_string.reveal(), "link": made.link.reveal()}

    async def _invite_list(self, caller: Caller, arguments: Arguments) -> Any:
        return [_invite(view) for view in await self._inviting.list(await self._scope(caller, arguments))]

    async def _invite_accept(self, caller: Caller, arguments: Arguments) -> Any:
        user = await self._user(caller, arguments)
        invite = self._inviting.read(text(arguments, "invite"))
        return _contact(await self._inviting.accept(user, invite, caller.actor))

    async def _invite_revoke(self, caller: Caller, arguments: Arguments) -> Any:
        scope = await self._scope(caller, arguments)
        return _invite(await self._inviting.revoke(scope, text(arguments, "id"), caller.actor))

    async def _contact_list(self, caller: Caller, arguments: Arguments) -> Any:
        return [_contact(contact) for contact in await self._contacts.everyone(await self._scope(caller, arguments))]

    async def _contact_show(self, caller: Caller, arguments: Arguments) -> Any:
        return _contact(await self._contacts.show(await self._user(caller, arguments), text(arguments, "address")))

    async def _contact_add(self, caller: Caller, arguments: Arguments) -> Any:
        user, address = await self._user(caller, arguments), text(arguments, "address")
        name, email = optional(arguments, "name"), optional(arguments, "email")
        return _contact(await self._contacts.add(user, address, name, email, caller.actor))

    async def _contact_remove(self, caller: Caller, arguments: Arguments) -> Any:
        user = await self._user(caller, arguments)
        await self._contacts.remove(user, text(arguments, "address"), caller.actor)

    async def _contact_auto_accept(self, caller: Caller, arguments: Arguments) -> Any:
        user, address = await self._user(caller, arguments), text(arguments, "address")
        on = flag(arguments, "on")
        return _contact(await self._contacts.set_auto_accept(user, address, on, caller.actor))

    async def _contact_export(self, caller: Caller, arguments: Arguments) -> Any:
        return await self._contacts.export(await self._user(caller, arguments))

    async def _contact_import(self, caller: Caller, arguments: Arguments) -> Any:
        user, trusted = await self._user(caller, arguments), flag(arguments, "trusted")
        done = await self._contacts.take_in(user, arguments.get("cards"), caller.actor, trusted=trusted)
        return {"new": done.new, "known": done.known, "unusable": done.unusable}


def _invite(view: InviteView) -> dict[str, Any]:
    invite = view.invite
    accepted_by = invite.user_id and invite.server and Party(invite.user_id, None, None).address(invite.server)
    return {
        "id": invite.id,
        "user": invite.user,
        "state": view.state,
        "note": invite.note,
        "created": invite.created,
        "expires": invite.expires,
        "accepted": invite.accepted,
        "accepted_by": str(accepted_by) if accepted_by else None,
    }


def _contact(contact: Contact) -> dict[str, Any]:
    return {
        "address": contact.address,
        "user": contact.user,
        "name": contact.name,
        "email": contact.email,
        "source": str(contact.source),
        "verified": contact.verified,
        "auto_accept": contact.auto_accept,
        "created": contact.created,
    }
