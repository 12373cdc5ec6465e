"""The connection to a Docker daemon: blocking calls in bounded threads, errors as ours.

The Docker SDK blocks, so each call runs in one of a few threads, and each stream (events,
logs, a pull) in one of its own. Every call has a time-out of its own at the socket: a hung
daemon costs its callers that long, never a thread for ever.

What comes back is Docker's own JSON. An answer of 400..499 is an ``EngineRefusalError``, for
``agent.runtime.dockerd`` to make sense of; of 500 or more a ``RuntimeFailedError``; no answer
is a ``RuntimeUnavailableError``.
"""

import asyncio
import contextlib
import http.client
import json
import math
import socket
import threading
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import docker
import docker.auth
import docker.errors
import docker.utils
import requests
import urllib3.exceptions

from agent.runtime import refusals
from agent.runtime.interface import RuntimeFailedError, RuntimeUnavailableError
from agent.runtime.unix_socket import UnixSocketAdapter
from cluster.errors import ClusterError

T = TypeVar("T")
Json = dict[str, Any]

API_WANTED = (1, 41)  # that of Docker 20.10, the oldest supported: nothing newer is used
QUICK_THREADS = 4  # looking, signalling: milliseconds each
SLOW_THREADS = 6  # create, start, remove: the daemon itself gains nothing beyond about four
STREAM_ITEMS_MAX = 256  # read ahead of the consumer


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for an answer before the daemon counts as not answering.

    Attributes:
        connect_seconds: a local socket connects at once unless the daemon hangs.
        quick_seconds: for looking; hundreds of times what a busy daemon needs.
        slow_seconds: for steps; a start may wait for a slow disk and a large volume to fill.
    """

    connect_seconds: float = 5.0
    quick_seconds: float = 15.0
    slow_seconds: float = 120.0


class EngineRefusalError(ClusterError):
    """The daemon refused a request; *status* is HTTP's, the message the daemon's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Client(docker.APIClient):
    """The SDK's low-level client, with per-call time-outs and plain JSON."""

    def __init__(self, base_url: str, patience: Patience) -> None:
        super().__init__(
            base_url=base_url,
            version="{}.{}".format(*API_WANTED),
            timeout=math.ceil(patience.connect_seconds),
            max_pool_size=QUICK_THREADS + SLOW_THREADS,
        )
        if base_url.startswith("unix://"):
            adapter = UnixSocketAdapter(
                base_url.replace("unix://", "http+unix://"),
                math.ceil(patience.connect_seconds),
                max_pool_size=QUICK_THREADS + SLOW_THREADS,
            )
            self.mount("http+docker://", adapter)
        self._patience = patience
        self._path = ""
        try:
            self._path = f"/v{negotiate(self.get_json('/version'))}"
        except BaseException:
            self.close()
            raise

    def get_json(self, path: str, *words: str, **params: Any) -> Any:
        response = self._send(
            "GET", path, words, params=params, timeout=self._patience.quick_seconds
        )
        return response.json()

    def post_json(self, path: str, *words: str, body: Json | None = None, **params: Any) -> Any:
        response = self._send(
            "POST", path, words, params=params, body=body, timeout=self._patience.slow_seconds
        )
        return response.json() if response.content else None

    def delete_path(self, path: str, *words: str, **params: Any) -> None:
        self._send("DELETE", path, words, params=params, timeout=self._patience.slow_seconds)

    def open_stream(
        self,
        method: str,
        path: str,
        *words: str,
        headers: dict[str, str] | None = None,
        silence_seconds_max: float | None = None,
        **params: Any,
    ) -> requests.Response:
        """Begin a request whose answer is read bit by bit.

        A silence of *silence_seconds_max* ends it; None waits for ever once it has begun.
        """
        response = self._send(
            method,
            path,
            words,
            params=params,
            headers=headers,
            timeout=silence_seconds_max or self._patience.quick_seconds,
            stream=True,
        )
        if (connection := _socket_of(response)) is not None:
            connection.settimeout(silence_seconds_max)
        return response

    def registry_header(self, image: str) -> dict[str, str]:
        """Return what the host's Docker configuration knows to log in with for *image*."""
        repository, _ = docker.utils.parse_repository_tag(image)
        registry, _ = docker.auth.resolve_repository_name(repository)
        header = docker.auth.get_config_header(self, registry)
        return {"X-Registry-Auth": header.decode()} if header else {}

    def _send(
        self,
        method: str,
        path: str,
        words: tuple[str, ...],
        *,
        params: Json,
        timeout: float | None,
        body: Json | None = None,
        headers: dict[str, str] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        quoted = [urllib.parse.quote(word, safe="/:@") for word in words]
        response = self.request(
            method,
            self.base_url + self._path + path.format(*quoted),
            params=params,
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json", **(headers or {})},
            timeout=(self._patience.connect_seconds, timeout),
            stream=stream,
        )
        if response.status_code >= http.HTTPStatus.BAD_REQUEST:
            raise refusal(response.status_code, response.text)
        return response


def _socket_of(response: requests.Response) -> socket.socket | None:
    """Return what the answer comes through; the libraries between keep it to themselves."""
    raw: Any = response.raw
    try:
        connection = raw._fp.fp.raw._sock  # noqa: SLF001 - there is no public way
    except AttributeError:
        return None  # the answer has ended
    return connection if isinstance(connection, socket.socket) else None


def refusal(status: int, text: str) -> ClusterError:
    """Return the error for an answer of *status* whose body is *text*."""
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        message = text
    message = " ".join(message.split()) or f"HTTP status {status}"
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return RuntimeFailedError(message)
    return EngineRefusalError(status, message)


@contextlib.contextmanager
def _errors_as_ours() -> Iterator[None]:
    try:
        yield
    except ClusterError:
        raise
    except (
        docker.errors.DockerException,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        OSError,
    ) as error:
        raise RuntimeUnavailableError(f"Docker does not answer: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """Return what lies at the bottom of the libraries' layers of errors, in a few words."""
    innermost = error
    while (deeper := innermost.__cause__ or innermost.__context__) is not None:
        innermost = deeper
    if isinstance(innermost, TimeoutError):
        return "it takes too long"
    if isinstance(innermost, OSError) and innermost.strerror:
        return innermost.strerror
    return " ".join(str(innermost).split())


class Engine:
    """One daemon; connects when first used, and anew after ``reset``."""

    def __init__(self, base_url: str, patience: Patience) -> None:
        self._base_url = base_url
        self._patience = patience
        self._quick = ThreadPoolExecutor(QUICK_THREADS, thread_name_prefix="docker-quick")
        self._slow = ThreadPoolExecutor(SLOW_THREADS, thread_name_prefix="docker-slow")
        self._lock = threading.Lock()
        self._client: Client | None = None

    async def look(self, call: Callable[[Client], T]) -> T:
        """Run *call*, which takes milliseconds."""
        return await self._run(self._quick, call)

    async def act(self, call: Callable[[Client], T]) -> T:
        """Run *call*, which may take a while.

        A failure whose text shows that it is hopeless is a ``CannotRunError``.
        """
        try:
            return await self._run(self._slow, call)
        except RuntimeFailedError as error:
            raise refusals.failed(error) from error

    async def act_if_possible(self, call: Callable[[Client], object]) -> None:
        """Run *call* on something that may be gone, or be as asked already."""
        with contextlib.suppress(EngineRefusalError):
            await self._run(self._slow, call)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        begin: Callable[[Client], requests.Response],
        read: Callable[[requests.Response], Iterator[T]],
    ) -> AsyncIterator[AsyncIterator[T]]:
        """Enter when the answer that *begin* asks for has begun; iterate what *read* finds in it.

        The reading thread is never more than ``STREAM_ITEMS_MAX`` items ahead. Leaving breaks
        the connection, which ends the thread.
        """
        pump = _Pump(asyncio.get_running_loop(), lambda: begin(self._connected()), read)
        pump.start()
        try:
            await pump.begun()
            yield pump.items()
        finally:
            pump.stop()

    def reset(self) -> None:
        """Forget the connection; after a restart the daemon may speak another version."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def close(self) -> None:
        """Let go without waiting for calls that are under way."""
        self._quick.shutdown(wait=False, cancel_futures=True)
        self._slow.shutdown(wait=False, cancel_futures=True)
        self.reset()

    async def _run(self, pool: ThreadPoolExecutor, call: Callable[[Client], T]) -> T:
        def work() -> T:
            with _errors_as_ours():
                return call(self._connected())

        return await asyncio.get_running_loop().run_in_executor(pool, work)

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                with _errors_as_ours():
                    self._client = Client(self._base_url, self._patience)
            return self._client


def negotiate(version: Json) -> str:
    """Return the API version to speak with a daemon that says *version* of itself.

    Raises:
        RuntimeUnavailableError: it is too old.
    """
    newest = _api(version["ApiVersion"])
    oldest = _api(version.get("MinAPIVersion") or "1.12")
    if newest < API_WANTED:
        raise RuntimeUnavailableError(
            f"Docker {version.get('Version', '?')} is too old: 20.10 or newer is needed"
        )
    return "{}.{}".format(*max(API_WANTED, oldest))


def _api(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


_BEGUN = object()  # the first item of a stream


def json_lines(response: requests.Response) -> Iterator[Json]:
    """Yield each line of a stream as the JSON that it is."""
    for line in response.iter_lines(chunk_size=None):
        if line.strip():
            yield json.loads(line)


class _End:
    """The last item of a stream."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Pump:
    """Reads a stream in a thread and hands its items to the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        begin: Callable[[], requests.Response],
        read: Callable[[requests.Response], Iterator[Any]],
    ) -> None:
        self._loop = loop
        self._begin = begin
        self._read = read
        self._queue: asyncio.Queue[Any] = asyncio.Queue()  # bounded by the slots
        self._slots = threading.Semaphore(STREAM_ITEMS_MAX)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._response: requests.Response | None = None

    def start(self) -> None:
        threading.Thread(target=self._work, name="docker-stream", daemon=True).start()

    async def begun(self) -> None:
        first = await self._queue.get()
        if isinstance(first, _End) and first.error is not None:
            raise first.error

    async def items(self) -> AsyncIterator[Any]:
        while True:
            item = await self._queue.get()
            self._slots.release()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def stop(self) -> None:
        self._stopped.set()
        self._slots.release()
        with self._lock:
            connection = _socket_of(self._response) if self._response is not None else None
            if connection is not None:
                with contextlib.suppress(OSError):  # it has ended by itself
                    connection.shutdown(socket.SHUT_RDWR)

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            with _errors_as_ours():
                self._pump()
        except BaseException as caught:  # noqa: BLE001 - whatever it is goes to the consumer
            error = caught
        self._put(_End(error))

    def _pump(self) -> None:
        response = self._begin()
        with self._lock:
            self._response = response
        try:
            if self._stopped.is_set() or not self._put(_BEGUN):
                return
            for item in self._read(response):
                self._slots.acquire()
                if self._stopped.is_set() or not self._put(item):
                    return
        finally:
            with self._lock:
                self._response = None
            response.close()

    def _put(self, item: Any) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
        except RuntimeError:  # the loop has ended before us
            return False
        return True
