"""Forecasts: what would come of a request, found by doing it where nothing is stored.

| module  | what it is for                                                              |
| ------- | --------------------------------------------------------------------------- |
| desk    | a copy of the view, and the Control API over it: requests as they are       |
| future  | runs the leader's own reconcilers on the copy, with agents that do well     |
| outcome | (pure) what differs between before and after: specs, and each task's place  |

One rule: nothing is told twice. The request is decided by the code that decides real ones, and
what follows by the reconcilers that the leader runs; so a forecast cannot say other than what is
done at the same revision (I14), as long as all goes well and nothing else happens.
"""
