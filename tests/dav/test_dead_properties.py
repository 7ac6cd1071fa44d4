"""Dead properties from outside: what clients keep with files follows the files (RFC 4918 §4, §9.1, §9.2)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from xml.etree.ElementTree import Element, fromstring

import pytest
from sqlalchemy import event

from backends.errors import PermissionDenied, Unavailable, Unsupported
from backends.paths import StoragePath
from gateway.belongings import COUNT_MAX, TOTAL_MAX, VALUE_MAX, Belongings
from gateway.store import locks
from gateway.store import moves as moves_table
from gateway.store import properties as table
from gateway.store.moves import Move

from .locking import LOCKINFO, Client, owner, sharee
from .served import READ, WRITE, Served
from .test_files import Refusing, place
from .test_longtail import update
from .test_propfind import parsed, prop

COLOUR = "{my:}colour"
_numbers = itertools.count()


@pytest.fixture
def alice(served: Served) -> Client:
    """alice in a folder of her own for each test, with a file, and a folder with one in it."""
    name = f"kept-{next(_numbers)}"
    (served.data / name / "sub").mkdir(parents=True)
    (served.data / name / "file").write_bytes(b"x")
    (served.data / name / "sub" / "deep").write_bytes(b"deep")
    return owner(served, f"/home/{name}")


def paint(client: Client, path: str, colour: str = "red") -> None:
    reply = client("PROPPATCH", path, update(f"<colour xmlns='my:'>{colour}</colour>"))
    assert (reply.status, reply.body.count(b"HTTP/1.1 200 OK")) == (207, 1), reply


def colour(client: Client, path: str) -> str | None:
    """Return what the resource itself has, None for nothing."""
    found = next(iter(parsed(client("PROPFIND", path, prop(COLOUR), Depth="0")).values()))
    assert list(found) in (["200"], ["404"])
    return found["200"][COLOUR].text if "200" in found else None


def colours(client: Client, path: str = "/") -> dict[str, str | None]:
    """Return what a listing says, by the last part of the href."""
    found = parsed(client("PROPFIND", path, prop(COLOUR, "{DAV:}getetag"), Depth="1"))
    return {
        href.rstrip("/").rpartition("/")[2]: propstats["200"][COLOUR].text
        for href, propstats in found.items()
        if COLOUR in propstats["200"]
    }


def statuses(body: bytes) -> dict[str, list[str]]:
    """Return status -> names of a PROPPATCH's answer."""
    found: dict[str, list[str]] = {}
    for propstat in fromstring(body).iter("{DAV:}propstat"):
        status = propstat.findtext("{DAV:}status").split()[1]
        found.setdefault(status, []).extend(element.tag for element in propstat.find("{DAV:}prop"))
    return found


def test_a_property_is_kept_until_it_is_removed(alice):
    assert colour(alice, "/file") is None
    paint(alice, "/file")
    assert colour(alice, "/file") == "red"
    paint(alice, "/file", "blue")
    assert colour(alice, "/file") == "blue"
    for _ in range(2):  # to remove what is not there is no error (RFC 4918 §9.2)
        reply = alice("PROPPATCH", "/file", update("<colour xmlns='my:'/>", action="remove"))
        assert statuses(reply.body) == {"200": [COLOUR]}
        assert colour(alice, "/file") is None


def test_every_form_of_propfind_tells_them(alice):
    paint(alice, "/file")
    paint(alice, "/sub", "green")
    (file,) = parsed(alice("PROPFIND", "/file")).values()
    assert file["200"][COLOUR].text == "red"
    assert "{DAV:}getetag" in file["200"]
    (file,) = parsed(alice("PROPFIND", "/file", b'<propfind xmlns="DAV:"><propname/></propfind>')).values()
    assert (file["200"][COLOUR].text, len(file["200"][COLOUR])) == (None, 0)
    listing = alice("PROPFIND", "/", Depth="1")
    found = {href.removeprefix(alice.root): propstats for href, propstats in parsed(listing).items()}
    assert {href: COLOUR in propstats["200"] for href, propstats in found.items()} == {
        "/": False, "/file": True, "/sub/": True,
    }  # fmt: skip
    asked = parsed(alice("PROPFIND", "/", prop(COLOUR, "{my:}other", "{DAV:}getetag"), Depth="1"))
    assert {(href.removeprefix(alice.root), status): set(names) for href, propstats in asked.items()
            for status, names in propstats.items()} == {
        ("/", "200"): {"{DAV:}getetag"}, ("/", "404"): {COLOUR, "{my:}other"},
        ("/file", "200"): {COLOUR, "{DAV:}getetag"}, ("/file", "404"): {"{my:}other"},
        ("/sub/", "200"): {COLOUR, "{DAV:}getetag"}, ("/sub/", "404"): {"{my:}other"},
    }  # fmt: skip
    assert colours(alice) == {"file": "red", "sub": "green"}


VALUES = [
    "<a xmlns='my:'>100 %s %% &amp; &lt;b&gt; \U0001f600 \u0080</a>",
    "<a xmlns='my:' b='&quot;%&lt;' xmlns:c='other:' c:d='e'><f xmlns='third:'>g<h/>i</f>tail</a>",
    "<a xmlns=''><b>no namespace</b></a>",
    "<a xmlns='my:'/>",
    "<a xmlns='my:'>  spaces \n </a>",
    "<a xmlns='my:' xml:lang='de'>Straße</a>",
    "<a xmlns='http://apache.org/dav/props/'><![CDATA[<raw>]]></a>",
]


def canonical(element: Element) -> str:
    """Return an element in a form that two equal ones share."""
    inner = "".join(canonical(child) + repr(child.tail) for child in element)
    return f"{element.tag}{sorted(element.attrib.items())}{element.text!r}[{inner}]"


@pytest.mark.parametrize("text", VALUES)
def test_a_value_comes_back_as_it_was(alice, text):
    wanted = fromstring(text)
    assert alice("PROPPATCH", "/file", update(text)).body.count(b"200 OK") == 1
    named = prop(wanted.tag) if "}" in wanted.tag else b'<propfind xmlns="DAV:"><prop><a xmlns=""/></prop></propfind>'
    for reply in (alice("PROPFIND", "/file"), alice("PROPFIND", "/file", named)):
        (found,) = parsed(reply).values()
        assert canonical(found["200"][wanted.tag]) == canonical(wanted)


def test_the_language_of_what_is_around_a_property_is_the_property_s(alice):
    body = (b'<propertyupdate xmlns="DAV:" xml:lang="en"><set><prop xml:lang="fr"><a xmlns="my:">x</a>'
            b'<b xmlns="my:" xml:lang="de">y</b></prop></set><set><prop><c xmlns="my:">z</c></prop></set>'
            b"</propertyupdate>")  # fmt: skip
    assert alice("PROPPATCH", "/file", body).status == 207
    (found,) = parsed(alice("PROPFIND", "/file")).values()
    language = "{http://www.w3.org/XML/1998/namespace}lang"
    assert [found["200"][f"{{my:}}{name}"].get(language) for name in "abc"] == ["fr", "de", "en"]


def test_changes_are_made_in_their_order(alice):
    def change(*steps: str) -> None:
        inner = "".join(f"<{step[0]}><prop><colour xmlns='my:'>{step[1]}</colour></prop></{step[0]}>" for step in steps)
        reply = alice("PROPPATCH", "/file", f"<propertyupdate xmlns='DAV:'>{inner}</propertyupdate>".encode())
        assert set(statuses(reply.body)) == {"200"}, reply

    change(("set", "red"), ("remove", ""))
    assert colour(alice, "/file") is None
    change(("remove", ""), ("set", "red"))
    assert colour(alice, "/file") == "red"
    change(("set", "blue"), ("set", "green"))
    assert colour(alice, "/file") == "green"


def test_all_changes_are_made_or_none(served, alice):
    file = served.data / alice.root.rpartition("/")[2] / "file"
    before = file.stat().st_mtime_ns
    paint(alice, "/file")
    changes = ["<colour xmlns='my:'>blue</colour>", "<d:lastmodified>5</d:lastmodified>"]
    reply = alice("PROPPATCH", "/file", update(*changes, "<d:getetag>x</d:getetag>"))
    assert statuses(reply.body) == {"424": [COLOUR, "{DAV:}lastmodified"], "403": ["{DAV:}getetag"]}
    assert (colour(alice, "/file"), file.stat().st_mtime_ns) == ("red", before)
    reply = alice("PROPPATCH", "/file", update(*changes))
    assert statuses(reply.body) == {"200": [COLOUR, "{DAV:}lastmodified"]}
    assert (colour(alice, "/file"), file.stat().st_mtime) == ("blue", 5)


def test_when_the_state_fails_the_time_stays_too_and_the_other_way_round(tmp_path):
    def wrap(local):
        return Refusing(local, "set_modified", {"unchangeable"}, Unsupported("no"))

    with Served(tmp_path, wrap=wrap) as served:
        alice = owner(served)
        for name in ("file", "unchangeable"):
            (served.data / name).write_bytes(b"x")
        times = "<d:lastmodified>5</d:lastmodified>"
        reply = alice("PROPPATCH", "/unchangeable", update("<colour xmlns='my:'>x</colour>", times, "<b xmlns='my:'/>"))
        assert statuses(reply.body) == {"501": [COLOUR], "424": ["{DAV:}lastmodified", "{my:}b"]}
        assert colour(alice, "/unchangeable") is None
        before = (served.data / "file").stat().st_mtime_ns
        many = [f"<p{number} xmlns='my:'/>" for number in range(COUNT_MAX + 1)]
        reply = alice("PROPPATCH", "/file", update(times, *many))
        assert statuses(reply.body)["507"] == ["{DAV:}lastmodified"]
        assert (served.data / "file").stat().st_mtime_ns == before
        assert b"my:" not in alice("PROPFIND", "/file").body


def test_the_bounds_are_507_and_nothing_is_changed(alice):
    paint(alice, "/file")
    for texts in (
        [f"<a xmlns='my:'>{'x' * VALUE_MAX}</a>"],
        [f"<p{number} xmlns='my:'/>" for number in range(COUNT_MAX)],  # with the one there is
        [
            f"<p{number} xmlns='my:'>{'x' * (VALUE_MAX - 100)}</p{number}>"
            for number in range(TOTAL_MAX // VALUE_MAX + 1)
        ],
    ):
        reply = alice("PROPPATCH", "/file", update(*texts))
        assert (reply.status, set(statuses(reply.body)) - {"424"}) == (207, {"507"})
        (found,) = parsed(alice("PROPFIND", "/file")).values()
        assert [name for name in found["200"] if name.startswith("{my:}")] == [COLOUR]
    assert set(statuses(alice("PROPPATCH", "/file", update(f"<a xmlns='my:'>{'ä' * 8000}</a>")).body)) == {"200"}


def test_who_may_only_read_sees_them_and_sets_none(served, alice):
    folder = alice.root.rpartition("/")[2]
    paint(alice, "/file")
    reader, writer = sharee(served, served.share(folder, READ)), sharee(served, served.share(folder, WRITE))
    assert (colour(reader, "/file"), colour(writer, "/file")) == ("red", "red")
    reply = reader("PROPPATCH", "/file", update("<colour xmlns='my:'>blue</colour>"))
    assert (reply.status, reply.code) == (403, "READ_ONLY")
    assert owner(served, f"/frozen/{folder}")("PROPPATCH", "/file", update("<y xmlns='my:'/>")).status == 403
    paint(writer, "/file", "green")
    assert colour(alice, "/file") == "green"


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
@pytest.mark.parametrize("where", ["beside", "other mount"])
def test_they_go_with_what_is_copied_and_moved(served, alice, method, where):
    for path, value in (("/file", "1"), ("/sub", "2"), ("/sub/deep", "3")):
        paint(alice, path, value)
    there = alice if where == "beside" else owner(served, "/other")
    name = f"there-{next(_numbers)}"
    target = f"{there.root}/{name}"
    assert there("MKCOL", f"/{name}").status == 201
    assert there("PUT", f"/{name}/old", b"old").status == 201
    paint(there, f"/{name}", "old")
    paint(there, f"/{name}/old", "old")
    assert alice(method, "/sub", Destination=target).status == 204  # onto a folder that has others
    assert (colour(there, f"/{name}"), colours(there, f"/{name}")) == ("2", {name: "2", "deep": "3"})
    assert alice(method, "/file", Destination=f"{target}/file").status == 201
    assert colour(there, f"/{name}/file") == "1"
    left = {"file": "1", "sub": "2"} if method == "COPY" else {}
    assert {key: value for key, value in colours(alice).items() if not key.startswith("there")} == left
    assert alice("PUT", "/file", b"again").status == (204 if method == "COPY" else 201)
    assert colour(alice, "/file") == ("1" if method == "COPY" else None)
    assert there("PUT", f"/{name}/old", b"anew").status == 201
    assert colour(there, f"/{name}/old") is None


def test_a_copy_of_a_file_over_a_file_has_those_of_the_source_alone(alice):
    paint(alice, "/file")
    assert alice("PROPPATCH", "/sub/deep", update("<other xmlns='my:'>x</other>")).status == 207
    assert alice("COPY", "/file", Destination=f"{alice.root}/sub/deep").status == 204
    (found,) = parsed(alice("PROPFIND", "/sub/deep")).values()
    assert [name for name in found["200"] if name.startswith("{my:}")] == [COLOUR]
    assert alice("COPY", "/sub", Destination=f"{alice.root}/flat", Depth="0").status == 201
    assert colours(alice, "/flat") == {}


def test_a_new_content_keeps_them_and_what_is_new_begins_without(served, alice):
    paint(alice, "/file")
    assert alice("PUT", "/file", b"new").status == 204
    assert colour(alice, "/file") == "red"
    for method, path, body in (
        ("PUT", "/file", b"new"),
        ("LOCK", "/file", LOCKINFO),
        ("MKCOL", "/file", None),
        ("COPY", "/sub/deep", None),
        ("MOVE", "/sub/deep", None),
    ):
        paint(alice, "/file")
        assert alice("DELETE", "/file").status == 204
        headers = {"Destination": f"{alice.root}/file"} if method in ("COPY", "MOVE") else {}
        reply = alice(method, path, body, **headers)
        assert reply.status == 201, method
        if method == "LOCK":
            alice.unlock("/file", reply.headers["lock-token"].strip("<>"))
        assert colour(alice, "/file") is None, method


def test_what_another_program_has_removed_leaves_nothing_to_what_is_new(served, alice):
    file = served.data / alice.root.rpartition("/")[2] / "file"
    for method, body in (("PUT", b"x"), ("MKCOL", None), ("LOCK", LOCKINFO)):
        paint(alice, "/file")
        file.unlink() if file.is_file() else file.rmdir()
        assert alice(method, "/file", body).status == 201
        assert colour(alice, "/file") is None, method
        served.store.run_sync(lambda tx: locks.remove_of(tx, "user:alice"))
        if file.is_dir():
            file.rmdir()
        file.write_bytes(b"x")


def test_a_removal_that_fails_in_parts_leaves_those_of_what_is_left(tmp_path):
    def wrap(local):
        return Refusing(local, "remove", {"tree/sub/stays"}, PermissionDenied("no"))

    with Served(tmp_path, wrap=wrap) as served:
        (served.data / "tree" / "sub").mkdir(parents=True)
        alice = owner(served)
        for name in ("sub/stays", "sub/goes", "goes"):
            (served.data / "tree" / name).write_bytes(b"x")
        for path in ("/tree", "/tree/sub", "/tree/sub/stays", "/tree/sub/goes", "/tree/goes"):
            paint(alice, path)
        assert alice("DELETE", "/tree").status == 207
        left = served.store.read_sync(lambda tx: table.below(tx, "storage", StoragePath()))
        assert set(map(str, left)) == {"tree", "tree/sub", "tree/sub/stays"}


def left_by_a_crash(served: Served, alice: Client, name: str) -> Move:
    """Return the intent of a move of `sub`, with a painted folder in it, to `name`: renamed, and not written down."""
    folder = StoragePath.parse(alice.root.rpartition("/")[2])
    old, new = folder.child(b"sub"), folder.child(name.encode())
    paint(alice, "/sub/deep")
    identity = served.local.stat(old).identity
    served.store.run_sync(lambda tx: moves_table.add(tx, "storage", old, new, identity))
    served.local.rename(old, new, overwrite=False)
    (left,) = served.store.read_sync(moves_table.unfinished)
    return left


def test_a_crash_in_the_middle_of_a_move_loses_none(served, alice):
    left_by_a_crash(served, alice, "new")
    served.moves.replay(served.storages)
    assert colour(alice, "/new/deep") == "red"
    assert served.store.read_sync(moves_table.unfinished) == []


def test_a_move_that_two_settle_is_settled_once(served, alice):
    """As two workers do that start together; the second would take what was moved for something replaced."""
    left = left_by_a_crash(served, alice, "twice")
    for _ in range(2):
        served.moves._settle(left, served.local)
    assert colour(alice, "/twice/deep") == "red"


def test_a_move_writes_its_intent_for_properties_and_for_folders(served, alice):
    """What the process would leave when it dies within the rename; below a folder something may begin meanwhile."""
    seen: list[int] = []

    class Looking(Refusing):
        def rename(self, source, target, *, overwrite):
            seen.append(len(served.store.read_sync(moves_table.unfinished)))
            self._inner.rename(source, target, overwrite=overwrite)

    storage = served.storages["storage"]
    looking = type(storage)(storage.name, Looking(storage.backend, "", set(), Unavailable("")), storage.pool)
    folder = alice.root.rpartition("/")[2]
    served.moves.move(place(looking, f"{folder}/file"), place(looking, f"{folder}/plain"), overwrite=False)
    paint(alice, "/plain")
    served.moves.move(place(looking, f"{folder}/plain"), place(looking, f"{folder}/painted"), overwrite=False)
    served.moves.move(place(looking, f"{folder}/sub"), place(looking, f"{folder}/moved"), overwrite=False)
    assert seen == [0, 1, 1]
    assert served.store.read_sync(moves_table.unfinished) == []


@pytest.fixture
def counted(served: Served) -> Iterator[list[str]]:
    """Every question to the database about properties and locks."""
    asked: list[str] = []

    def note(_connection, _cursor, statement, *_more) -> None:
        if "FROM properties" in statement or "FROM locks" in statement:
            asked.append(statement)

    engine = served.store._engine
    event.listen(engine, "before_cursor_execute", note)
    yield asked
    event.remove(engine, "before_cursor_execute", note)


def test_a_listing_costs_nothing_where_there_are_none(served, alice, counted):
    folder = served.data / alice.root.rpartition("/")[2]
    for number in range(2500):
        (folder / f"f{number}").touch()
    live = prop("{DAV:}getetag", "{DAV:}getcontentlength", "{http://owncloud.org/ns}fileid")
    assert len(parsed(alice("PROPFIND", "/", live, Depth="1"))) == 2503
    assert counted == []
    assert len(parsed(alice("PROPFIND", "/", Depth="1"))) == 2503
    assert len(counted) == 2  # whether there are locks, and properties; and nothing for the entries
    paint(alice, "/f7")
    counted.clear()
    assert colours(alice) == {"f7": "red"}
    assert 11 <= len(counted) <= 15  # one for each batch


def test_a_listing_of_many_that_all_have_some_is_whole(served, alice):
    folder = served.data / alice.root.rpartition("/")[2]
    names = [f"f{number}" for number in range(350)]
    for name in names:
        (folder / name).touch()
    root = StoragePath.parse(folder.name)

    def fill(tx) -> None:
        for name in names:
            table.put(tx, "storage", root.child(name.encode()), {COLOUR: f"<c:colour xmlns:c='my:'>{name}</c:colour>"})

    served.store.run_sync(fill)
    assert colours(alice) == {name: name for name in names}


def test_make_way_asks_the_storage_only_where_something_is_left(served, alice):
    asked = []

    class Looking(Refusing):
        def stat(self, path):
            asked.append(path)
            return self._inner.stat(path)

    storage = served.storages["storage"]
    looking = type(storage)(storage.name, Looking(storage.backend, "", set(), Unavailable("")), storage.pool)
    folder = alice.root.rpartition("/")[2]
    Belongings(served.store).make_way(place(looking, f"{folder}/file"))
    assert asked == []
    paint(alice, "/file")
    Belongings(served.store).make_way(place(looking, f"{folder}/file"))
    assert len(asked) == 1
    assert colour(alice, "/file") == "red"
