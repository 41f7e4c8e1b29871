"""The live page as an ASGI application: log-in, the page, its stream of changes, and what an operator decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, get_args
from urllib.parse import parse_qs

import msgspec
from msgspec import Meta
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from coordinator.enrolment import admin_token, http, views
from coordinator.enrolment.desk import Desk
from coordinator.enrolment.pace import Pace
from coordinator.web import texts
from coordinator.web.device import device_page
from coordinator.web.guard import Guard
from coordinator.web.metrics import MetricsRoute
from coordinator.web.parts import WHO, Order, PageParts
from coordinator.web.sessions import Session, new_token, same
from edge_agent.wire.errors import EnrolmentError

MOST_BODY_BYTES = 4 * 1024
MOST_FIELDS = 8
LOGIN_BURST, LOGIN_PER_S = 5.0, 1 / 12
"""Log-ins from one address that fail: so many at once, then one every twelve seconds."""
LANGUAGE = "rankfleet-language"
YEAR_S = 365 * 86400
CSRF_HEADER = "x-csrf-token"
ANONYMOUS, FORBIDDEN, TOO_MANY = 401, 403, 429


class Rejection(msgspec.Struct, frozen=True):
    """Why a board is refused; it is told."""

    reason: Annotated[str, Meta(max_length=1000)] = ""


def application(parts: PageParts) -> Starlette:
    """The live page."""
    page, log_in, changes = _Page(parts), _LogIn(parts), _Changes(parts)
    routes = [
        Route("/", page.index),
        Route("/api/events", page.events),
        Route("/api/devices/{name}", page.device),
        Route("/login", log_in.show),
        Route("/login", log_in.enter, methods=["POST"]),
        Route("/logout", log_in.leave, methods=["POST"]),
        Route("/api/requests/{id}/{decision}", changes.decide, methods=["POST"]),
        Route("/api/rounds/{order}", changes.order, methods=["POST"]),
        Route("/metrics", MetricsRoute(parts).show),
        Mount("/static", StaticFiles(directory=texts.STATIC)),
    ]
    guard = Middleware(Guard, hosts=parts.hosts)
    return Starlette(routes=routes, middleware=[guard], exception_handlers=http.HANDLERS)


class _Routes:
    """What all routes need to know of whoever asks."""

    def __init__(self, parts: PageParts) -> None:
        self._parts = parts

    def _session(self, request: Request) -> Session | None:
        return self._parts.sessions.find(request.cookies.get(self._parts.cookie))

    def _known(self, request: Request) -> Session:
        session = self._session(request)
        if session is None:
            raise EnrolmentError("log in first", ANONYMOUS)
        return session

    def _language(self, request: Request) -> str:
        asked, kept = request.query_params.get("language"), request.cookies.get(LANGUAGE)
        chosen = asked if asked in texts.LANGUAGES else kept
        return texts.language_for(chosen, request.headers.get("accept-language", ""))

    def _document(self, request: Request, name: str, status: int = 200, **values: str) -> Response:
        language = self._language(request)
        other = next(one for one in texts.LANGUAGES if one != language)
        body = texts.render(name, language, fleet=self._parts.fleet, other=other, **values)
        answer = HTMLResponse(body, status, headers={"content-language": language, "vary": "accept-language, cookie"})
        if request.query_params.get("language") in texts.LANGUAGES:
            self._set(answer, LANGUAGE, language, YEAR_S)
        return answer

    def _set(self, answer: Response, name: str, value: str, age_s: int | None = None) -> None:
        answer.set_cookie(
            name, value, max_age=age_s, path="/", secure=self._parts.is_secure, httponly=True, samesite="strict"
        )


class _Page(_Routes):
    """What is shown."""

    async def index(self, request: Request) -> Response:
        session = self._session(request)
        if session is None:
            return RedirectResponse("/login", 303)
        return self._document(request, "index.html", csrf=session.csrf)

    async def events(self, request: Request) -> Response:
        self._known(request)
        stream = self._parts.feed.follow(lambda: self._session(request) is not None)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def device(self, request: Request) -> Response:
        self._known(request)
        found = await run_in_threadpool(device_page, self._parts.run_dir, request.path_params["name"])
        return http.json(found)


class _LogIn(_Routes):
    """An admin token becomes a session. The form has a token of its own too, so that no other site logs anybody in."""

    def __init__(self, parts: PageParts) -> None:
        super().__init__(parts)
        self._pace = Pace(LOGIN_BURST, LOGIN_PER_S)

    @property
    def _cookie(self) -> str:
        return f"{self._parts.cookie}-login"

    async def show(self, request: Request) -> Response:
        if self._session(request) is not None:
            return RedirectResponse("/", 303)
        return self._form(request, "login.no_problem")

    async def enter(self, request: Request) -> Response:
        fields = await _fields(request)
        address = http.address_of(request)
        wait_s = self._pace.wait_s(address, time.monotonic())
        if wait_s:
            answer = self._form(request, "login.too_often", TOO_MANY)
            answer.headers["retry-after"] = str(wait_s)
            return answer
        if not same(_one(fields, "csrf"), request.cookies.get(self._cookie)):
            return self._form(request, "login.again", FORBIDDEN)
        token = _one(fields, "token").strip()
        if not await run_in_threadpool(self._parts.is_admin, token):
            http.LOGGER.warning("a log-in with a wrong token from %s", address)
            return self._form(request, "login.wrong", ANONYMOUS)
        self._pace.forget(address)
        entered = RedirectResponse("/", 303)
        self._set(entered, self._parts.cookie, self._parts.sessions.begin(admin_token.digest(token)))
        entered.delete_cookie(self._cookie)
        return entered

    async def leave(self, request: Request) -> Response:
        session = self._known(request)
        fields = await _fields(request)
        if not same(_one(fields, "csrf"), session.csrf):
            raise EnrolmentError("this log-out does not come from the page: load it again", FORBIDDEN)
        self._parts.sessions.end(request.cookies.get(self._parts.cookie))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(self._parts.cookie)
        return answer

    def _form(self, request: Request, problem: str, status: int = 200) -> Response:
        token = request.cookies.get(self._cookie) or new_token()
        text = texts.strings(self._language(request))[problem]
        answer = self._document(request, "login.html", status, csrf=token, problem=text)
        self._set(answer, self._cookie, token)
        return answer


class _Changes(_Routes):
    """What an operator decides. Each asks for the session's token first."""

    async def decide(self, request: Request) -> Response:
        self._check(request)
        number, decision = request.path_params["id"], request.path_params["decision"]
        if decision == "approve":
            return await self._do(lambda desk, now: views.request_view(desk.approve(number, now)))
        if decision != "reject":
            raise EnrolmentError("a request is approved or rejected", 404)
        asked = await http.read(request, Rejection, MOST_BODY_BYTES)
        reason = asked.reason.strip() or "refused by an administrator"
        return await self._do(lambda desk, now: views.request_view(desk.reject(number, reason, now)))

    async def order(self, request: Request) -> Response:
        self._check(request)
        order: Any = request.path_params["order"]
        if order not in get_args(Order):
            raise EnrolmentError(f"the rounds take {', '.join(get_args(Order))}", 404)
        await run_in_threadpool(self._parts.order, order)
        return http.json({"order": order})

    def _check(self, request: Request) -> None:
        if not same(request.headers.get(CSRF_HEADER), self._known(request).csrf):
            raise EnrolmentError("this does not come from the page: load it again", FORBIDDEN)

    async def _do(self, act: Callable[[Desk, datetime], Any]) -> Response:
        def work() -> Any:
            with self._parts.desk() as desk:
                return act(replace(desk, who=WHO), self._parts.now())

        return http.json(await run_in_threadpool(work))


async def _fields(request: Request) -> dict[str, list[str]]:
    """A form, URL-encoded."""
    body = await http.body_of(request, MOST_BODY_BYTES)
    try:
        return parse_qs(body.decode(errors="replace"), max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise EnrolmentError(f"expected a form of at most {MOST_FIELDS} fields: {error}") from error


def _one(fields: dict[str, list[str]], name: str) -> str:
    return fields.get(name, [""])[0]
