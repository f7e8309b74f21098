"""A training step of a net by deltaprop and by what else there is, timed in turns.

`case` says what is computed, `by_hand`, `frameworks` and `scikit` compute it, `rivals` lists them;
`answers` checks them, `rounds` times them, `peak` measures what the machine can do at most,
`machine` says which machine it was, `figures` puts all that together and `picture` draws it.
"""
