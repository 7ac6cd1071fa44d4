"""The contract's assertions explain themselves when they fail, though they are not in test modules."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_link import FaultyLink
from sftp_servers import Server, sshd

pytest.register_assert_rewrite("tests.backends.conformance", "tests.backends.local_contract")


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """OpenSSH's sshd, for every test that leaves it running."""
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def ssh_root(ssh_server: Server) -> Path:
    """A new directory on that server."""
    root = ssh_server.data / uuid.uuid4().hex
    root.mkdir()
    return root


@pytest.fixture
def link(ssh_server: Server) -> Iterator[FaultyLink]:
    """A link to that server, to be disturbed."""
    with FaultyLink(ssh_server.port) as link:
        yield link
