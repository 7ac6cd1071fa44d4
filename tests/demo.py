"""`make demo`: the whole story between two gateways on localhost, each step with the command that did it.

With ONCE=1 it ends after the story, with a status other than 0 if a step failed; else both sites stay up.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from sites import Site

ROOT = Path(__file__).resolve().parent.parent
BOLD, DIM, GREEN, RED, PLAIN = (
    ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() else [""] * 5
)


class StepFailed(Exception):
    """A step of the story did not end as it has to."""


def say(text: str) -> None:
    print(f"\n{BOLD}{text}{PLAIN}", flush=True)


def run(*command: str, stdin: str | None = None, shown: str | None = None) -> str:
    """Print and run a command, print what it says, and return that; raises StepFailed on a non-zero status."""
    print(f"{DIM}$ {shown or shlex.join(command)}{PLAIN}", flush=True)
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=ROOT, timeout=120)
    output = done.stdout + done.stderr
    print("\n".join(f"  {line}" for line in output.splitlines()), flush=True)
    if done.returncode != 0:
        raise StepFailed(f"`{command[0]}` ended with status {done.returncode}")
    return done.stdout


def expect(true: bool, what: str) -> None:
    if not true:
        raise StepFailed(what)
    print(f"  {GREEN}✓ {what}{PLAIN}", flush=True)


class Story:
    """Alice's site has the files, Bob's has nothing; `step` is the heading of what is going on."""

    def __init__(self, directory: Path) -> None:
        self.step = ""
        self.alice = Site(directory / "alice", has_ssh=True)
        self.bob = Site(directory / "bob")
        self.passwords = {"alice": secrets.token_urlsafe(9), "bob": secrets.token_urlsafe(9)}
        self.key = directory / "id_ed25519"
        self.netrc = directory / "bob.netrc"
        self.netrc.touch(mode=0o600)
        self.netrc.write_text(f"machine localhost login bob password {self.passwords['bob']}\n")

    def begin(self, step: str) -> None:
        self.step = step
        say(step)

    def gateway(self, site: Site, *arguments: str, stdin: str | None = None) -> str:
        shown = shlex.join(["ocm-gateway", "--config", str(site.config), *arguments])
        return run(*site.command, *arguments, stdin=stdin, shown=shown)

    def curl(self, *arguments: str) -> str:
        return run("curl", "--silent", "--show-error", *arguments)

    def curl_as_bob(self, *arguments: str) -> str:
        return self.curl("--fail", "--netrc-file", str(self.netrc), *arguments)

    def tell(self) -> None:
        self.start()
        share = self.share()
        received = self.accept(share)
        self.exchange(share)
        self.work(received)
        sftp = self.work_by_sftp(received)
        self.revoke(share, received, sftp)

    def start(self) -> None:
        folder = self.alice.data / "run42"
        folder.mkdir()
        (folder / "README.txt").write_text("Beam test, run 42.\n")
        (folder / "counts.csv").write_text("channel,count\n1,1042\n2,997\n")
        self.begin("1. Two sites start: alice's in front of a directory with files, bob's in front of an empty one.")
        for name, site in (("alice", self.alice), ("bob", self.bob)):
            site.start()
            print(f"  {name}@{site.server}  in front of {site.data}")
            self.gateway(site, "user", "add", name, "--password-file", "-", stdin=self.passwords[name])
        self.begin("2. Discovery: what bob's server tells every other server.")
        document = json.loads(self.curl(f"{self.bob.url}/.well-known/ocm"))
        expect("http-sig" in document["capabilities"], "bob's server signs, and says where its keys are")

    def share(self) -> str:
        self.begin(
            "3. Bob adds the key that he uses with ssh, and alice shares a folder with him, by WebDAV and by SSH."
        )
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bob", "-f", str(self.key))
        self.gateway(self.bob, "user", "key", "add", "bob", "--key-file", f"{self.key}.pub")
        bob, rights = f"bob@{self.bob.server}", ("--permissions", "read,write", "--protocols", "webdav,ssh")
        arguments = ("share", "create", "/home/run42", "--as", "alice", "--with", bob, *rights)
        share = json.loads(self.gateway(self.alice, *arguments, "--json"))
        expect(share["state"] == "sent", "bob's server has taken the Share Creation Notification")
        return str(share["id"])

    def accept(self, share: str) -> dict[str, str]:
        self.begin("4. Bob sees it. The notification was signed, and bob's server has verified that.")
        listed = json.loads(self.gateway(self.bob, "received", "list", "--as", "bob", "--json"))
        (received,) = [each for each in listed if each["provider_id"] == share]
        self.gateway(self.bob, "received", "show", received["id"], "--as", "bob")
        expect(received["evidence"] == "rfc9421", "the sender is proved by its HTTP Message Signature (RFC 9421)")
        self.begin("5. Bob accepts, and alice's server hears of it.")
        self.gateway(self.bob, "received", "accept", received["id"], "--as", "bob")
        shown = json.loads(self.gateway(self.alice, "share", "show", share, "--as", "alice", "--json"))
        expect(shown["state"] == "accepted", "alice's side shows the Share as accepted")
        return dict(received)

    def exchange(self, share: str) -> None:
        self.begin("6. To read, bob's server has exchanged the secret for an access token of five minutes.")
        lines = run("grep", "token issued", str(self.alice.log))
        expect(share in lines, "alice's server has issued a token for this Share")

    def work(self, received: dict[str, str]) -> None:
        folder = f"{self.bob.url}/dav/files/bob/received/{received['name']}"
        self.begin("7. Bob lists the folder, in his own tree at his own server.")
        listing = self.curl_as_bob("--request", "PROPFIND", "--header", "Depth: 1", f"{folder}/")
        expect("README.txt" in listing and "counts.csv" in listing, "both files are there")
        self.begin("8. Bob reads a file.")
        expect("Beam test" in self.curl_as_bob(f"{folder}/README.txt"), "it is alice's file")
        self.begin("9. Bob writes a file back.")
        self.curl_as_bob("--request", "PUT", "--data-binary", "channel 2 looks low\n", f"{folder}/remarks.txt")
        text = run("cat", str(self.alice.data / "run42" / "remarks.txt"))
        expect(text == "channel 2 looks low\n", "it lies in alice's directory, as an ordinary file")

    def work_by_sftp(self, received: dict[str, str]) -> list[str]:
        """Return the command that logs bob in, with his own key and no account at alice's site."""
        self.begin("10. The same Share by SFTP: bob's own key opens it at alice's server, and nothing else there.")
        login, _, place = received["ssh"].removesuffix("/").partition("@")
        host, _, port = place.rpartition(":")
        known = self.key.with_name("known_hosts")
        self.gateway(self.alice, "keys", "list")  # from which alice tells bob how he knows her server
        keys = self.alice.json("keys", "list")
        known.write_text("".join(f"[{host}]:{port} {key['key']}\n" for key in keys if "sshfp" in key))
        sftp = ["sftp", "-q", "-i", str(self.key), "-o", f"UserKnownHostsFile={known}", "-P", port]
        sftp = [*sftp, "-b", "-", f"{login}@{host}"]
        got = self.key.with_name("remarks.txt")
        run(*sftp, stdin=f"ls -l\nget remarks.txt {got}\nput {self.bob.config} settings.yaml\n")
        expect(got.read_text() == "channel 2 looks low\n", "what he wrote by WebDAV he reads by SFTP")
        written = (self.alice.data / "run42" / "settings.yaml").read_bytes()
        expect(written == self.bob.config.read_bytes(), "what he writes by SFTP lies in alice's directory too")
        return sftp

    def revoke(self, share: str, received: dict[str, str], sftp: list[str]) -> None:
        self.begin("11. Alice revokes the Share.")
        self.gateway(self.alice, "share", "revoke", share, "--as", "alice")
        time.sleep(1)
        self.begin("12. Bob is refused, at both doors.")
        url = f"{self.bob.url}/dav/files/bob/received/{received['name']}/README.txt"
        answer = self.curl("--netrc-file", str(self.netrc), "--output", "/dev/null", "--write-out", "%{http_code}", url)
        expect(answer in ("403", "404"), f"his own server answers {answer}")
        done = subprocess.run(sftp, input="ls\n", capture_output=True, text=True, timeout=60)
        expect(done.returncode == 255, "alice's SSH door does not know his key any more")
        shown = json.loads(self.gateway(self.bob, "received", "show", received["id"], "--as", "bob", "--json"))
        expect(shown["state"] == "revoked", "bob's side shows the Share as revoked")

    def stay(self) -> None:
        say("Both sites stay up until you press Ctrl-C. Try them:")
        for name, site in (("alice", self.alice), ("bob", self.bob)):
            print(f"  {name}: {site.url}/dav/files/{name}/   password {self.passwords[name]}")
            print(f"         ocm-gateway --config {site.config} share list")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            signal.pause()

    def stop(self) -> None:
        self.alice.stop()
        self.bob.stop()


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the demo as Ctrl-C does
    with tempfile.TemporaryDirectory(prefix="ocm-demo-") as directory:
        story = Story(Path(directory))
        try:
            story.tell()
            print(f"\n{GREEN}{BOLD}All twelve steps went as they should.{PLAIN}", flush=True)
            if not os.environ.get("ONCE"):
                story.stay()
        except Exception as error:
            print(f"\n{RED}{BOLD}This step failed: {story.step}{PLAIN}\n  {error}\nThe gateways' logs:", flush=True)
            for site in (story.alice, story.bob):
                if site.log.exists():
                    print(site.log.read_text())
            return 1
        finally:
            story.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
