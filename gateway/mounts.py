"""Which mounts a user has, from the configuration alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from backends.paths import StoragePath
from gateway.config import MountConfig
from gateway.ocm.shares import Permission

USERS_KEPT = 10_000  # users whose mounts are kept in memory

READ = frozenset({Permission.READ})
READ_WRITE = frozenset({Permission.READ, Permission.WRITE})


@dataclass(frozen=True, slots=True)
class Mount:
    """One configured mount as one user has it."""

    name: str
    backend: str
    path: StoragePath  # bounded: no link in the mount leads out of it
    rights: frozenset[Permission]
    personal: bool  # its path holds {user}


class Mounts:
    """Which mounts a user has, from the configuration alone."""

    def __init__(self, mounts: Iterable[MountConfig], groups: Mapping[str, Iterable[str]]) -> None:
        self._mounts = tuple(mounts)
        self._groups = {name: frozenset(members) for name, members in groups.items()}
        self._known: dict[str, Mapping[bytes, Mount]] = {}

    def of(self, user: str) -> Mapping[bytes, Mount]:
        """Return the user's mounts by name."""
        known = self._known.get(user)
        if known is None:
            known = {mount.name.encode(): _for_user(mount, user) for mount in self._mounts if self._admits(mount, user)}
            if len(self._known) < USERS_KEPT:
                self._known[user] = known
        return known

    def leading_to(self, user: str, mount: str, backend: str, path: StoragePath) -> Mount | None:
        """Return the mount through which `user` has a place that was shared from `mount`.

        When that one does not lead there any more, as after a MOVE, it is the one with the most rights that does.
        """
        leading = [one for one in self.of(user).values() if one.backend == backend and path.is_within(one.path)]
        named = (one for one in leading if one.name == mount)
        return next(named, max(leading, key=lambda one: len(one.rights), default=None))

    def rights_at(self, user: str, mount: str, backend: str, path: StoragePath) -> frozenset[Permission]:
        """Return what `user` may do now at a place that was shared from `mount`."""
        leading = self.leading_to(user, mount, backend, path)
        return leading.rights if leading else frozenset()

    def _admits(self, mount: MountConfig, user: str) -> bool:
        if not mount.users and not mount.groups:
            return True
        return user in mount.users or any(user in self._groups[group] for group in mount.groups)


def _for_user(mount: MountConfig, user: str) -> Mount:
    path = StoragePath.parse(mount.path.replace("{user}", user)).bounded()
    rights = READ_WRITE if mount.rights == "write" else READ
    return Mount(mount.name, mount.backend, path, rights, "{user}" in mount.path)
