"""Etcd lost as a whole, and restored from a backup, as docs/operations.md says."""

import shutil

from tests.e2e.cluster import PEER_PORT, LabCluster
from tests.e2e.stacks import web
from tests.lab.waiting import wait_until


def restore_backup(cluster: LabCluster, snapshot: str) -> None:
    """Lose all that etcd has, and have it begin from *snapshot*."""
    for host in cluster.etcd_hosts:
        cluster.etcd[host.name].kill()
        shutil.rmtree(cluster.etcd_data(host))
    for host in cluster.etcd_hosts:
        cluster.etcdctl(
            *("snapshot", "restore", snapshot, "--name", host.name),
            *("--data-dir", str(cluster.etcd_data(host))),
            *("--initial-cluster", cluster.etcd_members),
            *("--initial-advertise-peer-urls", f"http://{host.address}:{PEER_PORT}"),
        )
    cluster.start_etcd()


def test_a_backup_takes_the_cluster_back_and_keeps_what_it_knows_running(
    cluster: LabCluster,
) -> None:
    cluster.deploy("kept", web(3))
    before = cluster.starts("kept_web")
    snapshot = str(cluster.operator.folder / "backup.db")
    cluster.etcdctl("snapshot", "save", snapshot, host=cluster.operator)

    cluster.ctl("service", "scale", "kept_web=5")
    cluster.deploy("later", web(2))
    # What others keep in this etcd makes it go back by more than managers write until they look.
    put = f"etcdctl --endpoints={cluster.etcd_endpoints} put /others/key"
    cluster.operator.run(
        ["sh", "-c", f"for i in $(seq 40); do {put} $i; done"], environment={"ETCDCTL_API": "3"}
    )
    restore_backup(cluster, snapshot)

    wait_until(lambda: cluster.starts() == before, "only what the backup knows runs", seconds=60.0)
    assert cluster.ctl("stack", "ls", "-q").stdout.split() == ["kept"]
    cluster.wait_nodes(ready=3)
    cluster.ctl("service", "scale", "kept_web=4")
    assert before.items() <= cluster.starts("kept_web").items()
    assert len(cluster.seen("kept_web")) == 4
