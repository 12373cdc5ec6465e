"""Several hosts on one machine, for tests: network namespaces with a dockerd in each.

    with Lab(hosts=3, controls=1) as lab:
        h1, h2, h3 = lab.docker_hosts
        h1.docker.containers.run("shoal-test/app:1", detach=True)
        h1.spawn("agent", [sys.executable, "-m", "agent", ...], cwd=TREE)
        h1.crash()
        h1.boot()

Needs root. Hosts ``h1`` ... are at 198.18.0.11 and up, controls ``m1`` ... at 198.18.0.2 and
up, and ``lab.run`` runs commands at 198.18.0.1. They reach each other and nothing else.
"""

from tests.lab.docker_host import DockerHost
from tests.lab.host import Host
from tests.lab.images import APP
from tests.lab.lab import Lab
from tests.lab.process import Process
from tests.lab.waiting import wait_until

__all__ = ["APP", "DockerHost", "Host", "Lab", "Process", "wait_until"]
