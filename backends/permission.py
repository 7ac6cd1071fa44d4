"""May the calling thread write to what is open? Asked of the kernel, which changes nothing for that.

access(2) answers for the real user. faccessat2(2) with AT_EACCESS answers for whoever the thread acts for: it looks at
the file-system ids, groups and capabilities in effect. Where it is missing an open tells as much, but others notice it.
"""

from __future__ import annotations

import errno
import os
import stat

from backends.linux import Abilities, Descriptor, access_in_effect

_NO = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})  # access(2)
# A program that runs may not be written by anybody; no unnamed files here, or no /proc: what is done will tell
_NOT_SAID = frozenset({errno.ETXTBSY, errno.EOPNOTSUPP, errno.ENOENT})


def may_write(file: Descriptor, abilities: Abilities) -> bool:
    """Tell whether the file's content, or the names in the directory, may be changed; raises OSError."""
    try:
        if abilities.access_in_effect:
            access_in_effect(file.fileno(), os.W_OK)
        else:
            _open(file)
    except OSError as error:
        if error.errno in _NO:
            return False
        raise
    return True


def _open(file: Descriptor) -> None:
    is_directory = stat.S_ISDIR(os.fstat(file.fileno()).st_mode)
    flags = os.O_TMPFILE | os.O_RDWR if is_directory else os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
    try:
        os.close(os.open(f"/proc/self/fd/{file.fileno()}", flags))
    except OSError as error:
        if error.errno not in _NOT_SAID:
            raise
