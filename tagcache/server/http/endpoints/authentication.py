"""Endpoints for tokens and credentials."""

from __future__ import annotations

from collections.abc import Callable

from tagcache.config.settings import DEFAULT_PASSWORD
from tagcache.server.auth.credentials import Credentials
from tagcache.server.http.application import is_loopback
from tagcache.server.http.fields import ANYTHING, TEXT, Field
from tagcache.server.http.messages import (
    Call,
    EventualResponse,
    Response,
    failure,
    json_response,
    too_many_failures,
)
from tagcache.server.http.routes import Access, route
from tagcache.server.http.schema import BOOLEAN, INTEGER, STRING, obj

_EXPOSED = failure(
    409, "exposed", "a port is open to other machines, so the default password is not allowed"
)
_DONE = obj(("error",), success=BOOLEAN, error=STRING)
_LOGIN = (
    Field("username", TEXT, "the user", required=True),
    Field("password", TEXT, "the password", required=True),
)


class Authentication:
    """Endpoints for credentials.

    ``exposed`` returns whether the default password would be usable from other machines;
    ``requires_auth`` returns whether the API requires credentials.
    """

    def __init__(
        self,
        credentials: Credentials,
        exposed: Callable[[], bool],
        requires_auth: Callable[[], bool],
    ) -> None:
        self._credentials = credentials
        self._exposed = exposed
        self._requires_auth = requires_auth

    @route(
        "POST",
        "/auth/login",
        obj(expires_in=INTEGER, token=STRING),
        body=_LOGIN,
        access=Access.OPEN,
        statuses=(401, 429),
    )
    def login(self, call: Call) -> EventualResponse:
        """Exchange credentials for a token."""
        peer = call.request.peer

        def conclude(right: bool) -> Response:
            if right:
                token = self._credentials.issue_token()
                return json_response(
                    {"expires_in": self._credentials.token_lifetime, "token": token}
                )
            pause = self._credentials.throttle.pause(peer)
            return too_many_failures(pause) if pause else failure(401, "invalid_credentials")

        username, password = call.body["username"], call.body["password"]
        checked = self._credentials.verify(username.encode(), password.encode(), peer)
        return checked.addCallback(conclude)

    @route(
        "POST",
        "/auth/rotate",
        obj(ok=BOOLEAN, username=STRING, password=STRING),
        statuses=(409,),
    )
    def rotate(self, call: Call) -> EventualResponse:
        """Set new random credentials; all tokens become invalid."""
        return self._credentials.rotate().addCallback(
            lambda pair: json_response({"ok": True, "username": pair[0], "password": pair[1]})
        )

    @route(
        "POST",
        "/auth/change_password",
        _DONE,
        body=(Field("new_password", ANYTHING, "the new password, not empty"),),
        statuses=(409,),
    )
    def change_password(self, call: Call) -> EventualResponse:
        """Set the password; all tokens become invalid."""
        password = call.body.get("new_password")
        if not isinstance(password, str) or not password:
            return json_response({"error": "new_password is required", "success": False})
        if password == DEFAULT_PASSWORD and self._exposed():
            return _EXPOSED
        changed = self._credentials.change_password(password)
        return changed.addCallback(lambda _: json_response({"success": True}))

    @route("POST", "/auth/reset", _DONE, statuses=(403, 409))
    def reset(self, call: Call) -> EventualResponse:
        """Restore the default credentials; only from the server's own machine."""
        if not is_loopback(call.request.peer):
            return failure(403, "forbidden", "only from the server's own machine")
        if self._exposed():
            return _EXPOSED
        self._credentials.reset()
        return json_response({"success": True})

    @route("GET", "/auth/setup_required", obj(setup_required=BOOLEAN), access=Access.OPEN)
    def setup_required(self, call: Call) -> EventualResponse:
        """Whether the password is the default one."""
        return json_response({"setup_required": self._credentials.is_default()})

    @route("GET", "/auth/required", obj(auth_required=BOOLEAN), access=Access.OPEN)
    def auth_required(self, call: Call) -> EventualResponse:
        """Whether the API requires credentials."""
        return json_response({"auth_required": self._requires_auth()})
