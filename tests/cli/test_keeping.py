"""`received cp` and `received accept --into`: what they say, and how they end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backends.paths import StoragePath
from gateway.admin.calling import Caller
from gateway.cli import keeping
from gateway.errors import Invalid, NoSuch, NotAllowed

from .served import Served


def path(text: str) -> StoragePath:
    return StoragePath.parse(text)


@pytest.fixture(scope="module")
def share(served: Served) -> str:
    """An accepted Share of alice's, with a file, a folder, and a name that a mount does not take."""
    served.receive("kept", state="accepted", mount="kept")
    served.theirs.make_directory(path("sub"))
    for name, content in (("a.txt", b"alpha"), ("sub/b.txt", b"beta"), (".ocm-unfinished-x", b"")):
        with served.theirs.open_write(path(name)) as writer:
            writer.write(content)
            writer.commit()
    return "kept"


def cp(served: Served, *arguments: str) -> Any:
    return served.cli("received", "cp", *arguments, "--as", "alice")


def test_a_copy_says_what_it_has_done_and_what_has_failed(served: Served, share: str) -> None:
    done = cp(served, share, "/home/text")
    assert done.exit_code == 1
    assert done.stdout == "/home/text: 2 files copied, 0 there already, 1 failed, 9 bytes (incomplete).\n"
    assert ".ocm-unfinished-x: names that begin with" in done.stderr
    assert cp(served, share, "/home/text").stdout.startswith("/home/text: 0 files copied, 2 there already, 1 failed")


def test_json_has_the_numbers_and_each_failure(served: Served, share: str) -> None:
    done = cp(served, share, "/home/json", "--json")
    result = json.loads(done.stdout)
    assert (done.exit_code, result["state"], result["files"], result["bytes"]) == (1, "incomplete", 2, 9)
    assert [failure["path"] for failure in result["failures"]] == [".ocm-unfinished-x"]
    assert (result["moving"], result["reason"]) == ([], None)


def test_a_part_is_named_behind_the_id(served: Served, share: str) -> None:
    done = cp(served, f"{share}/sub/b.txt", "/home/part.txt")
    assert (done.exit_code, done.stdout) == (0, "/home/part.txt: 1 file copied, 0 there already, 4 bytes (done).\n")
    with served.backend.open_read(path("part.txt")) as reader:
        assert reader.read_at(0, 10) == b"beta"


def test_a_share_is_accepted_into_a_folder(served: Served, share: str) -> None:
    served.receive("into-text")
    done = served.cli("received", "accept", "into-text", "--as", "alice", "--into", "/home/into-text")
    assert done.exit_code == 1  # one name is not taken
    assert done.stdout.startswith("Accepted: /received/data")
    assert "/home/into-text: 2 files copied" in done.stdout
    served.receive("into-json")
    done = served.cli("received", "accept", "into-json", "--as", "alice", "--into", "/home/into-json", "--json")
    result = json.loads(done.stdout)
    assert (result["state"], result["copy"]["path"], result["copy"]["files"]) == ("accepted", "/home/into-json", 2)


@pytest.mark.parametrize(("target", "code"), [("/nowhere/x", "NotFound"), ("/frozen/x", "READ_ONLY")])
def test_an_acceptance_is_told_also_when_nothing_can_be_copied(served: Served, target: str, code: str) -> None:
    """It has happened, and the same command again would be refused for that."""
    share = f"refused-{code}"
    served.receive(share)
    done = served.cli("received", "accept", share, "--as", "alice", "--into", target, "--json")
    result = json.loads(done.stdout)
    assert (done.exit_code, result["state"], result["copy"]) == (1, "accepted", None)
    assert f"({code})" in result["copy_problem"]
    assert done.stderr == f"ocm-gateway: {result['copy_problem']}\n"
    text = f"{share}-text"
    served.receive(text)
    done = served.cli("received", "accept", text, "--as", "alice", "--into", target)
    assert (done.exit_code, done.stderr) == (1, f"ocm-gateway: {result['copy_problem']}\n")
    assert done.stdout.startswith("Accepted: /received/data")


def test_show_tells_where_a_share_was_kept(served: Served) -> None:
    served.receive("shown", state="accepted", mount="shown")
    assert served.json("received", "show", "shown", "--as", "alice")["kept"] == []
    assert "kept as files" not in served.cli("received", "show", "shown", "--as", "alice").stdout
    cp(served, "shown/a.txt", "/home/shown.txt")
    (copy,) = served.json("received", "show", "shown", "--as", "alice")["kept"]
    assert (copy["path"], copy["source"], copy["state"], copy["bytes"]) == ("/home/shown.txt", "a.txt", "done", 5)
    text = served.cli("received", "show", "shown", "--as", "alice").stdout
    assert "kept as files:\nPATH " in text
    assert "/home/shown.txt" in text


REFUSED = {
    "no mount": ("/received/kept/x", "NO_MOUNT"),
    "the top": ("/", "NO_MOUNT"),
    "no such mount": ("/nowhere/x", "NotFound"),
    "read-only": ("/frozen/x", "READ_ONLY"),
    "dots": ("/home/../x", "INVALID_PATH"),
    "nothing": ("", "ARGUMENT_MISSING"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_target_that_cannot_be_is_refused(served: Served, share: str, what: str) -> None:
    target, code = REFUSED[what]
    done = cp(served, share, target)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"({code})" in done.stderr


def test_what_is_not_accepted_or_not_there_is_refused(served: Served) -> None:
    served.receive("waiting")
    assert "only what is accepted" in cp(served, "waiting", "/home/x").stderr
    assert "NO_SUCH_SHARE" in cp(served, "unheard-of", "/home/x").stderr
    assert "NO_SUCH_COPY" in cp(served, "waiting", "/home/x", "--stop").stderr


def test_another_account_reaches_its_own_copies_only(served: Served, share: str) -> None:
    cp(served, share, "/home/hers")
    arguments = {"id": share, "path": "/home/hers"}
    for command in ("received.cp", "received.cp.watch", "received.cp.stop"):
        with pytest.raises(NoSuch):
            served.run(served.keeping.table[command](Caller("bob"), arguments))
        with pytest.raises(NotAllowed):
            served.run(served.keeping.table[command](Caller("bob"), arguments | {"as": "alice"}))
    assert served.run(served.keeping.table["received.cp.watch"](Caller("alice"), arguments))["files"] == 2
    with pytest.raises(Invalid):
        served.run(served.keeping.table["received.cp.watch"](Caller("alice"), arguments | {"wait": "long"}))
    with pytest.raises(Invalid):
        served.run(served.keeping.table["received.cp"](Caller("alice"), arguments | {"overwrite": "yes"}))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (3_565_158, "3.4 MiB"), (1 << 60, "1048576.0 TiB")],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert keeping.size(count) == text
