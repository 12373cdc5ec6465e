"""Placing tasks on hosts that exist on paper: ``clusterctl simulate``. No cluster is asked.

    CSV -> tables (rows with their lines) -> packing (the scheduler itself) -> report, picture

Only ``packing`` imports the scheduler, and with it numpy, when the command is run.
"""
