"""Clients and servers of all namespaces as tasks of one event loop: one clock, one log of truth."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any, Protocol

from .namespaces import Namespace
from .truth import Attempt, Result, Side, Truth

Responder = Callable[[bytes], bytes | None]


class Place(Protocol):
    """Anything that can be one end of a connection: a pod, a node, the outside."""

    @property
    def netns(self) -> Namespace:
        """The namespace its sockets are opened in."""

    def side(self, address: str, port: int) -> Side:
        """Describe it as one end of a connection."""


class Listener:
    """A server socket and the tasks that serve it, until closed."""

    def __init__(self, sock: socket.socket) -> None:
        self.port: int = sock.getsockname()[1]
        self._sock = sock
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task that ends with the listener."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Stop serving at once; may be called without a running loop."""
        for task in tuple(self._tasks):
            if not task.get_loop().is_closed():
                task.cancel()
        self._sock.close()


class Traffic:
    """Opens connections between places and tells the truth about them."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth

    async def listen(self, place: Place, port: int, respond: Responder, ip: str = "") -> Listener:
        """Accept TCP connections; each is read once, answered once and closed."""
        sock = _open(place.netns, ip, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((ip, port))
        sock.listen(128)
        listener = Listener(sock)
        listener.spawn(self._accept(listener, sock, place, respond))
        return listener

    async def listen_udp(self, place: Place, port: int, respond: Responder, ip: str = "") -> Listener:
        """Answer UDP requests."""
        sock = _open(place.netns, ip, socket.SOCK_DGRAM)
        sock.bind((ip, port))
        listener = Listener(sock)
        listener.spawn(self._receive(sock, place, respond))
        return listener

    async def connect(
        self,
        source: Place,
        ip: str,
        port: int,
        *,
        name: str | None = None,
        request: bytes = b"hello\n",
        within: float = 1.5,
        bind: str | None = None,
    ) -> Attempt:
        """Try one TCP connection, with a small request and its answer when it is accepted."""
        loop = asyncio.get_running_loop()
        sock, local = _bound(source.netns, ip, port, socket.SOCK_STREAM, bind)
        started = time.time()
        try:
            result = await _within(within, loop.sock_connect(sock, (ip, port)))
            accepted = None
            if result == "answered":
                await _within(within, _exchange(sock, request))
                accepted = await self.truth.acceptance("tcp", local, started)
        finally:
            sock.close()
        return self._attempt(started, source, local, (name, ip, port), "tcp", result, accepted)

    async def request(
        self,
        source: Place,
        ip: str,
        port: int,
        payload: bytes,
        *,
        name: str | None = None,
        within: float = 1.5,
        bind: str | None = None,
        query: str | None = None,
    ) -> tuple[Attempt, bytes]:
        """Send one UDP request from a port of its own and wait for the answer, which is empty when none came."""
        loop = asyncio.get_running_loop()
        sock, local = _bound(source.netns, ip, port, socket.SOCK_DGRAM, bind)
        started = time.time()
        answer = b""

        async def ask() -> None:
            nonlocal answer
            await loop.sock_sendall(sock, payload)
            answer = await loop.sock_recv(sock, 65535)

        try:
            sock.connect((ip, port))
            result = await _within(within, ask())
            accepted = await self.truth.acceptance("udp", local, started) if result == "answered" else None
        finally:
            sock.close()
        return self._attempt(started, source, local, (name, ip, port), "udp", result, accepted, query), answer

    def _attempt(
        self,
        started: float,
        source: Place,
        local: tuple[str, int],
        dialled: tuple[str | None, str, int],
        protocol: str,
        result: Result,
        accepted: tuple[str, Side] | None,
        query: str | None = None,
    ) -> Attempt:
        seen, by = accepted or (None, None)
        return self.truth.add(
            Attempt(
                started,
                source.side(*local),
                *dialled,
                protocol,
                result,
                by,
                seen if seen != local[0] else None,
                query,
            )
        )

    async def _accept(self, listener: Listener, sock: socket.socket, place: Place, respond: Responder) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, peer = await loop.sock_accept(sock)
            self.truth.accept("tcp", peer[:2], place.side(*connection.getsockname()[:2]))
            listener.spawn(_answer(connection, respond))

    async def _receive(self, sock: socket.socket, place: Place, respond: Responder) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # An ICMP error about an earlier answer surfaces here; it concerns that client only.
            with contextlib.suppress(ConnectionError):
                data, peer = await loop.sock_recvfrom(sock, 65535)
                address = sock.getsockname()[0]
                if ip_address(address).is_unspecified:
                    address = _route(place.netns, peer[0], peer[1])
                self.truth.accept("udp", peer[:2], place.side(address, sock.getsockname()[1]))
                if answer := respond(data):
                    await loop.sock_sendto(sock, answer, peer)


async def _answer(connection: socket.socket, respond: Responder) -> None:
    loop = asyncio.get_running_loop()

    async def talk() -> None:
        data = await loop.sock_recv(connection, 65535)
        if data and (answer := respond(data)):
            await loop.sock_sendall(connection, answer)

    try:
        await _within(2.0, talk())
    finally:
        connection.close()


async def _exchange(sock: socket.socket, request: bytes) -> None:
    loop = asyncio.get_running_loop()
    if request:
        await loop.sock_sendall(sock, request)
        while await loop.sock_recv(sock, 65535):
            pass


async def _within(seconds: float, work: Coroutine[Any, Any, None]) -> Result:
    try:
        async with asyncio.timeout(seconds):
            await work
    except (ConnectionRefusedError, ConnectionResetError):
        return "refused"
    except OSError:
        return "timeout"
    return "answered"


def _open(netns: Namespace, ip: str, kind: int) -> socket.socket:
    with netns.inside():
        sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, kind)
    sock.setblocking(False)
    if ":" in ip:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _bound(netns: Namespace, ip: str, port: int, kind: int, bind: str | None) -> tuple[socket.socket, tuple[str, int]]:
    """Open a client's socket whose address and port are known before the first packet leaves."""
    sock = _open(netns, ip, kind)
    try:
        sock.bind((bind or _route(netns, ip, port), 0))
    except BaseException:
        sock.close()
        raise
    address, number = sock.getsockname()[:2]
    return sock, (address, number)


def _route(netns: Namespace, ip: str, port: int) -> str:
    """Give the address that the kernel would send from."""
    with _open(netns, ip, socket.SOCK_DGRAM) as probe:
        probe.connect((ip, port or 9))
        address: str = probe.getsockname()[0]
        return address
