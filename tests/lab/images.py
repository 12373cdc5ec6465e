"""The images that the lab's Docker daemons have, and the data folder that holds them ready.

Loading them into each host would take longer than booting it, so it is done once, and each
host gets a copy of that folder. The copy to start from is kept under ``build/``, named after
all that it was made of.
"""

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from scripts.lib.image import Image, archive, find_busybox
from scripts.lib.steps import TREE

APP = "shoal-test/app"
"""``shoal-test/app:1`` and ``:2``; what they do is told by the script below."""

APP_SCRIPT = """#!/bin/sh
# PID 1 of the test image. It ends at once, with 0, when asked to (TERM or INT).
#   PORT=8080       serve HTTP there: / tells the host name and the version
#   EXIT_AFTER=3    end by itself after so many seconds ...
#   EXIT_CODE=1     ... with this exit code
#   DEAF=1          ignore TERM, as badly made programs do
stopped() { echo "stopping"; exit 0; }
trap stopped TERM INT
[ -z "$DEAF" ] || trap '' TERM
version=$(cat /etc/app-version)
echo "app $version starts on $(hostname)"
if [ -n "$PORT" ]; then
    mkdir -p /tmp/www
    echo "$(hostname) $version" >/tmp/www/index.html
    httpd -p "$PORT" -h /tmp/www || exit 3
fi
if [ -n "$EXIT_AFTER" ]; then
    sleep "$EXIT_AFTER" &
    wait $!
    echo "ending with ${EXIT_CODE:-0}"
    exit "${EXIT_CODE:-0}"
fi
while :; do
    sleep 3600 &
    wait $!
done
"""

HEALTH_SCRIPT = """#!/bin/sh
# For a health check: healthy, until someone makes /tmp/sick.
[ ! -e /tmp/sick ]
"""

IMAGES = tuple(
    Image(
        tag=f"{APP}:{version}",
        command=["/bin/app"],
        files={
            "/bin/app": APP_SCRIPT,
            "/bin/healthy": HEALTH_SCRIPT,
            "/etc/app-version": f"{version}\n",
        },
    )
    for version in (1, 2)
)


def template(fill: Callable[[bytes, Path], None]) -> Path:
    """Return the data folder to copy; the first time, *fill* makes it from an image archive.

    Safe to call from several test runs at once: the first makes it, the others wait.
    """
    images = archive(IMAGES, find_busybox())
    version = subprocess.run(["dockerd", "--version"], check=True, capture_output=True).stdout
    digest = hashlib.sha256(images + version).hexdigest()[:16]
    folder = TREE / "build" / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    ready = folder / f"template-{digest}"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            for old in folder.glob("template-*"):
                shutil.rmtree(old)
            unfinished = folder / f"template-{digest}.part"
            fill(images, unfinished)
            unfinished.rename(ready)
    return ready
