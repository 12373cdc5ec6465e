"""The journal: what was decided and seen, why, and on whose request; for a while.

| module   | what it is for                                                    |
| -------- | ----------------------------------------------------------------- |
| entries  | an entry as it is stored: one key for all that one commit did      |
| moments  | (pure) what a change of an object is called                        |
| writer   | makes the entry that a transaction carries along                   |
| pruning  | (pure, and a loop of the leader's) keeps it within its bounds      |

One rule: an entry is written in the transaction whose changes it explains, so neither stands
without the other, and the journal costs a key more in a transaction, never a transaction more.
It holds names, states and sentences, never a spec: so no secret's bytes (I16).
"""
