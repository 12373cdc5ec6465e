"""Compose files that several tests deploy."""


def web(replicas: int, deploy: str = "") -> str:
    """Return a stack of one service, ``web``; *deploy* is more of its ``deploy`` section."""
    return f"""
services:
  web:
    image: shoal-test/app:1
    deploy: {{replicas: {replicas}{", " * bool(deploy)}{deploy}}}
"""
