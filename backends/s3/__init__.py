"""A bucket of any S3 server as storage: Amazon S3, Ceph, MinIO and their like."""

from backends.s3.backend import S3Backend
from backends.s3.connection import KeyFiles, Location, Patience

__all__ = ["KeyFiles", "Location", "Patience", "S3Backend"]
