"""Whose request it is (RFC 6750, section 2.1)."""

from fastapi import Security
from fastapi.security import HTTPBearer
from starlette.requests import Request

from gateway.keys import Keys
from gateway.problems import Problem

BEARER = Security(HTTPBearer(auto_error=False, description="a key of `python -m gateway.keys make`"))
"""For ``/docs``: the route wants a key."""


def holder_of(request: Request, keys: Keys) -> str:
    """Whose key the request carries. Looked at before a byte of the body.

    Raises:
        Problem: Unauthorized: no key, two, or one that is unknown or revoked.
    """
    given = request.headers.getlist("authorization")
    scheme, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    holder = keys.holder(key.strip()) if scheme.lower() == "bearer" else None
    if holder is None:
        detail = "send one header 'Authorization: Bearer KEY' with a key that is in force"
        raise Problem("Unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
    return holder
