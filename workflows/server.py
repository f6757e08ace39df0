"""A TorchServe as its clients see it: addresses from ``config.properties``, tokens from ``key_file.json``."""

import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import httpx

CONFIG_FILE = "config.properties"
KEY_FILE = "key_file.json"

TokenKind = Literal["inference", "management"]

TORN_READS = 20
"""TorchServe writes its key file in place: one that is read meanwhile is empty or cut, for less than a millisecond."""


class ServerError(Exception):
    """The server did not do what it was asked; ``exit_code`` is the command line's."""

    exit_code = 1


class ServerDown(ServerError):
    """Nothing answers at the address."""

    exit_code = 2


class WrongToken(ServerError):
    """The server does not take our token, nor the key that renews it."""

    exit_code = 3


@dataclass(frozen=True)
class Token:
    """A key of ``key_file.json`` and when it expires; the API key, which renews the others, never does."""

    key: str
    expires: datetime | None


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
            ServerError: no configuration there.
        """
        path = folder / CONFIG_FILE
        if not path.exists():
            raise ServerError(f"{path} is not there: run this in the project's folder, or name it with --server")
        lines = (line.partition("=") for line in path.read_text().splitlines() if not line.startswith("#"))
        settings = {key.strip(): value.strip() for key, _, value in lines}
        inference, management, metrics = (settings[f"{api}_address"] for api in ("inference", "management", "metrics"))
        return cls(folder, inference, management, metrics, folder / settings["model_store"])

    def call(self, method: str, url: str, kind: TokenKind, timeout: float = 120.0, **request: Any) -> httpx.Response:
        """One HTTP call with the token of its kind, which is renewed once where it has expired.

        Raises:
            ServerDown: nothing answers, or not within ``timeout`` seconds.
            WrongToken: the token is refused, and so is the one that replaces it.
        """
        response = self._send(method, url, self.token(kind).key, timeout, request)
        if refused_token(response):
            self._renew(kind)
            response = self._send(method, url, self.token(kind).key, timeout, request)
        if refused_token(response):
            raise WrongToken(f"{url} refuses the {kind} token in {self.folder / KEY_FILE}: is it this server's?")
        return response

    def alive(self) -> bool:
        """Whether the inference address answers; true before any model is there."""
        try:
            return self.call("GET", f"{self.inference}/ping", "inference", timeout=5.0).is_success
        except ServerError:
            return False

    def token(self, kind: Literal["inference", "management", "API"]) -> Token:
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
                return Token(str(entry["key"]), datetime.fromisoformat(expires) if expires else None)
            except FileNotFoundError:
                raise ServerDown(f"{path} is not there: the server is not up; start it with 'make serve'") from None
            except (ValueError, KeyError, TypeError, PermissionError) as fault:
                if not left:
                    said = f"{path} holds no {kind} key ({fault!r}); 'make stop serve' makes a new file"
                    raise WrongToken(said) from fault
                time.sleep(0.001)
        raise AssertionError("unreachable")

    def renewal_url(self, kind: TokenKind) -> str:
        """Asked for with the API key, TorchServe answers nothing here; it writes the new token to its key file."""
        return f"{self.management}/token?type={kind}"

    def _renew(self, kind: TokenKind) -> None:
        self._send("GET", self.renewal_url(kind), self.token("API").key, 10.0, {})

    def _send(self, method: str, url: str, key: str, timeout: float, request: dict[str, Any]) -> httpx.Response:
        try:
            headers = {"Authorization": f"Bearer {key}", **request.get("headers", {})}
            rest = {name: value for name, value in request.items() if name != "headers"}
            # trust_env: a proxy named in the environment must not see films that go to loopback.
            return httpx.request(method, url, headers=headers, timeout=timeout, trust_env=False, **rest)
        except httpx.TimeoutException as fault:
            raise ServerDown(f"{url} did not answer within {timeout:g} s") from fault
        except httpx.TransportError as fault:
            raise ServerDown(f"nothing answers at {url} ({fault}); start the server with 'make serve'") from fault


def refused_token(response: httpx.Response) -> bool:
    """TorchServe says 400, not 401, to a missing, wrong or expired token."""
    return response.status_code == 400 and "InvalidKeyException" in response.text
