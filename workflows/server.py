"""A TorchServe as its clients see it: addresses from ``config.properties``, tokens from ``key_file.json``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

CONFIG_FILE = "config.properties"
KEY_FILE = "key_file.json"

TokenKind = Literal["inference", "management"]


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
        response = self._send(method, url, self._key(kind), timeout, request)
        if _refused_token(response):
            self._renew(kind)
            response = self._send(method, url, self._key(kind), timeout, request)
        if _refused_token(response):
            raise WrongToken(f"{url} refuses the {kind} token in {self.folder / KEY_FILE}: is it this server's?")
        return response

    def alive(self) -> bool:
        """Whether the inference address answers; true before any model is there."""
        try:
            return self.call("GET", f"{self.inference}/ping", "inference", timeout=5.0).is_success
        except ServerError:
            return False

    def _key(self, kind: Literal["inference", "management", "API"]) -> str:
        path = self.folder / KEY_FILE
        try:
            return str(json.loads(path.read_text())[kind]["key"])
        except FileNotFoundError:
            raise ServerDown(f"{path} is not there: the server is not up; start it with 'make serve'") from None
        except (ValueError, KeyError) as fault:
            raise WrongToken(f"{path} holds no {kind} key ({fault!r}); 'make stop serve' makes a new file") from fault

    def _renew(self, kind: TokenKind) -> None:
        """TorchServe answers nothing here; it writes the new token to its key file."""
        self._send("GET", f"{self.management}/token?type={kind}", self._key("API"), 10.0, {})

    def _send(self, method: str, url: str, key: str, timeout: float, request: dict[str, Any]) -> httpx.Response:
        try:
            headers = {"Authorization": f"Bearer {key}", **request.pop("headers", {})}
            return httpx.request(method, url, headers=headers, timeout=timeout, **request)
        except httpx.TimeoutException as fault:
            raise ServerDown(f"{url} did not answer within {timeout:g} s") from fault
        except httpx.TransportError as fault:
            raise ServerDown(f"nothing answers at {url} ({fault}); start the server with 'make serve'") from fault


def _refused_token(response: httpx.Response) -> bool:
    """TorchServe says 400, not 401, to a missing, wrong or expired token."""
    return response.status_code == 400 and "InvalidKeyException" in response.text
