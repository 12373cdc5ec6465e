"""The promises as functions: what must hold of a cluster, whatever happens to it.

Each function looks at one object (a node, a place, a task, a step of one) within a ``State``
and yields a ``Breach`` for everything that is not as docs/promises.md says, named by its
number there and explained with names and values. They are pure, and the same whether a
simulation, a property test or ``clusterctl verify`` asks.

``everything(state)`` looks at all objects. ``after(state, steps)`` looks at what a transaction
could have broken; to use it, feed a ``State`` with each write and keep what ``put`` and
``drop`` return:

    done = [state.put(task), state.drop(other)]
    breaches = list(after(state, done))

To add an invariant: a function in the module of its number, a line in ``check``, its row in
docs/promises.md and in ``PROMISES``, and a case in the tests that breaks it.
"""

from cluster.invariants.breach import PROMISES, Breach
from cluster.invariants.check import after, everything
from cluster.invariants.gates import Gates
from cluster.invariants.state import Name, Place, State, Step

__all__ = ["PROMISES", "Breach", "Gates", "Name", "Place", "State", "Step", "after", "everything"]
