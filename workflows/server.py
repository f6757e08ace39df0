"""A TorchServe as its clients see it: addresses from ``config.properties``, tokens from ``key_file.json``."""

import json
import re
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import httpx

from workflows import jvm
from workflows.command_line import Fault
from workflows.token import Token, TokenAuth, TokenKind, refused_token

CONFIG_FILE = "config.properties"
KEY_FILE = "key_file.json"

ADDRESS = re.compile(r"https?://[\w-]{1,63}(\.[\w-]{1,63})*:(?P<port>[0-9]{1,5})", re.ASCII | re.IGNORECASE)
"""What TorchServe takes, and no more: no IPv6 address, no path, not even a slash at the end. Without a port each of its
addresses has another default."""
LAST_PORT = 65534
"""That TorchServe takes in an address."""
TORN_READS = 20
"""TorchServe writes its key file in place: one that is read meanwhile is empty or cut, for less than a millisecond."""


class ServerError(Fault):
    """The server did not do what it was asked."""


class ServerDown(ServerError):
    """Nothing answers at the address."""

    exit_code = 2


class ForeignServer(ServerDown):
    """Another program listens where the server should; it was sent nothing."""


class WrongToken(ServerError):
    """The server does not take our token, nor the key that renews it."""

    exit_code = 3


@dataclass(frozen=True)
class Server:
    """One TorchServe.

    Args:
        folder: its working directory, where it keeps its key file.
        inference, management, metrics: addresses, ``http://host:port``.
        store: the model and workflow store.
    """

    folder: Path
    inference: str
    management: str
    metrics: str
    store: Path

    @classmethod
    def of_folder(cls, folder: Path) -> "Server":
        """The server whose configuration lies in ``folder``.

        Raises:
            ServerError: no configuration there, or one that lacks an address or the model store.
        """
        settings = read_settings(folder)
        for name in ("inference_address", "management_address", "metrics_address", "model_store"):
            if not settings.get(name):
                raise ServerError(f"{folder / CONFIG_FILE} has no {name}: take the line from the project's own file")
            address = ADDRESS.fullmatch(settings[name])
            if name.endswith("_address") and not (address and 1 <= int(address["port"]) <= LAST_PORT):
                raise ServerError(
                    f"{folder / CONFIG_FILE}: {name}={settings[name]} is no address as TorchServe reads it: "
                    f"http://HOST:PORT, a name or an IPv4 address, a port from 1 to {LAST_PORT}, and nothing after it"
                )
        inference, management, metrics = (settings[f"{api}_address"] for api in ("inference", "management", "metrics"))
        return cls(folder, inference, management, metrics, folder / settings["model_store"])

    def call(self, method: str, url: str, kind: TokenKind, timeout: float = 120.0, **request: Any) -> httpx.Response:
        """One HTTP call with the token of its kind, which is renewed where it has expired.

        Raises:
            ServerDown: nothing answers, or not within ``timeout`` seconds; ForeignServer where another program listens.
            WrongToken: the token is refused, and so are those that replace it.
        """
        try:
            # trust_env: a proxy named in the environment must not see films that go to loopback.
            with httpx.Client(timeout=timeout, trust_env=False, auth=self.auth(kind)) as client:
                response = client.request(method, url, **request)
        except httpx.TimeoutException as fault:
            raise ServerDown(f"{url} did not answer within {timeout:g} s") from fault
        except httpx.TransportError as fault:
            raise ServerDown(
                f"nothing answers at {fault.request.url} ({fault}); start the server with 'make serve'"
            ) from fault
        if refused_token(response):
            raise WrongToken(f"{url} refuses the {kind} token in {self.folder / KEY_FILE}: is it this server's?")
        return response

    def auth(self, kind: TokenKind) -> TokenAuth:
        """Of requests to this server; keeps a token in memory."""
        return TokenAuth(kind, self.token, f"{self.management}/token?type={kind}", self.require_ours)

    def alive(self) -> bool:
        """Whether the inference address answers; true before any model is there."""
        try:
            self.ping()
        except ServerError:
            return False
        return True

    def ping(self) -> None:
        """Returns where the inference address answers, before any model is there, too.

        Raises:
            ServerError: it does not, and why.
        """
        url = f"{self.inference}/ping"
        self.require_ours(url)  # a JVM that does not listen yet may not have written its key file either
        response = self.call("GET", url, "inference", timeout=5.0)
        if not response.is_success:
            raise ServerError(f"{url} answers HTTP {response.status_code}: {response.text.strip()[:300]}")

    def require_ours(self, url: str) -> None:
        """Nothing secret may be sent over a connection to ``url`` before this has returned: it looks who listens there.

        It takes milliseconds, and is asked once a connection is there, not before: what has the port then is what the
        connection reaches.

        Raises:
            ForeignServer: another program listens there.
            ServerDown: nothing listens there.
        """
        parts = httpx.URL(url)
        host, port = parts.host, parts.port or {"http": 80, "https": 443}[parts.scheme]
        if self._listens(host, port):
            return
        owner = jvm.owner(host, port)
        if owner is None:
            raise ServerDown(f"nothing answers at {url}; start the server with 'make serve'")
        if self._listens(host, port):  # it has begun to between the two looks
            return
        raise ForeignServer(
            f"on {host}, port {port}, listens {jvm.described(owner)}, not the TorchServe of {self.folder.resolve()}: "
            f"it was sent no token; end it, or give {CONFIG_FILE} another port, then 'make serve'"
        )

    def _listens(self, host: str, port: int) -> bool:
        return any(jvm.listens(process, host, port) for process in jvm.of_folder(self.folder))

    def token(self, kind: TokenKind | Literal["API"]) -> Token:
        """What the key file holds now.

        Raises:
            ServerDown: no key file.
            WrongToken: there is one, without that key or not ours to read.
        """
        path = self.folder / KEY_FILE
        for left in reversed(range(TORN_READS)):
            try:
                entry = json.loads(path.read_text())[kind]
                expires = entry.get("expiration time")
                return Token(str(entry["key"]), datetime.fromisoformat(expires).astimezone() if expires else None)
            except FileNotFoundError:
                raise ServerDown(f"{path} is not there: the server is not up; start it with 'make serve'") from None
            except (ValueError, KeyError, TypeError, AttributeError, OSError) as fault:
                if not left:
                    said = f"{path} holds no {kind} key ({fault!r}); 'make stop serve' makes a new file"
                    raise WrongToken(said) from fault
                time.sleep(0.001)
        raise AssertionError("unreachable")


def read_settings(folder: Path) -> dict[str, str]:
    """``config.properties`` as TorchServe reads it, the last of two equal names.

    Raises:
        ServerError: it is not there, or cannot be read.
    """
    path = folder / CONFIG_FILE
    try:
        text = path.read_text("latin-1")  # java.util.Properties
    except FileNotFoundError:
        raise ServerError(f"{path} is not there: run this in the project's folder, or name it with --server") from None
    except OSError as fault:
        raise ServerError(f"{path} cannot be read: {fault.strerror}") from None
    lines = (line.partition("=") for line in text.splitlines() if not line.lstrip().startswith(("#", "!")))
    return {key.strip(): value.strip() for key, equals, value in lines if equals}
