"""The OCM gateway: stands beside storage that already exists and makes it an Open Cloud Mesh provider."""

from importlib.metadata import version

__version__ = version("ocm-gateway")
