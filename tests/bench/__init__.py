"""Benchmarks: how long a cluster takes, beside the machine's own limit in the same run.

``python -m tests.bench.cluster`` runs them in the lab and never fails on a time. Each case is
a function of a ``Rig`` (a cluster, somebody who watches it, Docker daemons to compare with) that
yields a ``report.Result``; to add one, write it and list it in ``cluster.CASES``.
"""
