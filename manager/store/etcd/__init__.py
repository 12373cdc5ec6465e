"""The store on etcd: a thin client of our own (docs/decisions/0001-own-etcd-client.md)."""

from manager.store.etcd.endpoint import TlsFiles
from manager.store.etcd.members import MemberStatus
from manager.store.etcd.store import EtcdStore

__all__ = ["EtcdStore", "MemberStatus", "TlsFiles"]
