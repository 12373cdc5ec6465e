"""The SDK's transport over a unix socket, with one leak closed.

The SDK's own forgets to close a socket whose connect fails, and a daemon that is away is an
everyday matter for an agent.
"""

import socket
from typing import Any

from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(self.timeout)
            link.connect(self.unix_socket)
        except BaseException:
            link.close()
            raise
        self.sock = link


class _Pool(UnixHTTPConnectionPool):
    timeout: Any  # whatever the adapter was given
    socket_path: str
    base_url: str

    def _new_conn(self) -> Any:
        return _Connection(self.base_url, self.socket_path, self.timeout)


class UnixSocketAdapter(UnixHTTPAdapter):
    """Keeps a pool of connections to one socket."""

    def get_connection(self, url: str | bytes, proxies: Any = None) -> _Pool:
        del proxies  # there are none on the way to a unix socket
        key: Any = url
        with self.pools.lock:
            pool: _Pool | None = self.pools.get(key)
            if pool is None:
                pool = _Pool(key, self.socket_path, self.timeout, maxsize=self.max_pool_size)
                self.pools[key] = pool
        return pool
