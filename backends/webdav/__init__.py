"""Any WebDAV server as storage (RFC 4918); also the form that a received Share takes once it is accepted."""

from backends.webdav.answers import RemoteRefused
from backends.webdav.backend import WebDAVBackend
from backends.webdav.configured import Configured
from backends.webdav.transport import Credential, Response, Transport, Upload

__all__ = ["Configured", "Credential", "RemoteRefused", "Response", "Transport", "Upload", "WebDAVBackend"]
