"""Services: the right number of tasks, each of the right version, each in a place of its own.

| module     | decides                                                            |
| ---------- | ------------------------------------------------------------------ |
| places     | which places there are, and who is in each                         |
| rollout    | what a rollout aims at, whether it goes well, what follows if not  |
| turns      | whose turn it is: what is made, and which old tasks go             |
| moves      | tasks that go to another node, and when they may                   |
| tasks      | single tasks: made, let to start, stopped, replaced after an end   |
| plan       | joins them: facts in, changes out                                  |
| sightings  | for how long tasks have run, by the leader's own clock             |
| reconciler | the shell around ``plan``                                          |
"""

from manager.reconcilers.services.facts import Facts, Sighting
from manager.reconcilers.services.places import Place, survey
from manager.reconcilers.services.plan import plan
from manager.reconcilers.services.reconciler import ServiceReconciler
from manager.reconcilers.services.sightings import Sightings
from manager.reconcilers.services.tasks import discard

__all__ = [
    "Facts",
    "Place",
    "ServiceReconciler",
    "Sighting",
    "Sightings",
    "discard",
    "plan",
    "survey",
]
