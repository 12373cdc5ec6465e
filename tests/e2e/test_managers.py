"""What breaks in the middle: managers and etcd. Containers never notice, and work goes on.

What happens to a leader that is killed or hangs is part of the storm in ``test_faults``.
"""

from tests.e2e.cluster import LabCluster
from tests.e2e.stacks import web
from tests.lab.host import Host
from tests.lab.waiting import wait_until

LEASE_SECONDS = 3.0
"""A manager that vanishes is replaced no sooner than about now; one that says goodbye is."""


def leader_of(cluster: LabCluster) -> Host:
    leader = wait_until(cluster.leading_host, "a manager leads", every_seconds=0.1)
    assert leader is not None
    return leader


def other_than(cluster: LabCluster, host: Host) -> Host:
    (other,) = (each for each in cluster.manager_hosts if each is not host)
    return other


def test_a_manager_that_is_stopped_hands_leadership_over_at_once(cluster: LabCluster) -> None:
    cluster.deploy("hand", web(4))
    before = cluster.starts("hand_web")
    leader = leader_of(cluster)
    heir = cluster.managers[other_than(cluster, leader).name]
    terms = heir.output().count("leads since")

    assert cluster.managers[leader.name].stop() == 0

    wait_until(
        lambda: heir.output().count("leads since") > terms,
        "the other manager leads long before the lease of the first would have ended",
        seconds=LEASE_SECONDS / 2,
    )
    cluster.ctl("service", "scale", "hand_web=5")
    assert before.items() <= cluster.starts("hand_web").items()


def test_a_host_that_dies_with_the_leading_manager_is_noticed(cluster: LabCluster) -> None:
    cluster.deploy("both", web(6))
    dead = cluster.docker_hosts[1]
    rest = {one for one in cluster.seen("both_web") if one.host != dead.name}

    cluster.managers[leader_of(cluster).name].kill()
    dead.crash()

    assert rest <= set(cluster.wait_running("both_web", 6))


def test_nothing_stops_while_no_manager_is_there(cluster: LabCluster) -> None:
    cluster.deploy("none", web(4))
    before = cluster.starts("none_web")
    lost = cluster.seen("none_web")[0]

    for manager in cluster.managers.values():
        manager.kill()
    cluster.container(lost).kill()
    refused = cluster.ctl("--timeout", "2s", "service", "ls", check=False)
    assert refused.returncode == 1
    assert "no manager answers" in refused.stderr
    del before[lost.id]
    assert cluster.starts("none_web") == before

    cluster.restore()
    cluster.wait_nodes(ready=3)
    cluster.ctl("service", "scale", "none_web=5")
    assert len(cluster.wait_running("none_web", 5)) == 5, "and the lost one has a successor"
    assert before.items() <= cluster.starts("none_web").items()


def test_all_runs_again_after_a_power_cut(cluster: LabCluster) -> None:
    cluster.deploy("power", web(6))

    for host in cluster.lab.hosts:
        host.crash()
    cluster.restore()

    cluster.wait_running("power_web", 6, seconds=60.0)
    cluster.ctl("service", "scale", "power_web=7")
    assert {one.slot for one in cluster.seen("power_web")} == set(range(1, 8))


def test_nothing_stops_while_etcd_is_away_and_all_goes_on_afterwards(cluster: LabCluster) -> None:
    cluster.deploy("store", web(4))
    before = cluster.starts("store_web")

    for member in cluster.etcd.values():
        member.kill()
    assert "store_web" in cluster.ctl("service", "ls").stdout, "what is known can be read"
    refused = cluster.ctl("--timeout", "4s", "service", "scale", "store_web=5", check=False)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) <= 2
    assert cluster.starts("store_web") == before

    cluster.start_etcd()
    wait_until(
        lambda: cluster.ctl("service", "scale", "store_web=6", check=False).returncode == 0,
        "a scale works again",
    )
    assert len(cluster.seen("store_web")) == 6
    assert before.items() <= cluster.starts("store_web").items()
    cluster.wait_nodes(ready=3)
