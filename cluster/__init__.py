"""The vocabulary that manager, scheduler, agent and client share; imports none of them."""

__version__ = "0.1.0"
