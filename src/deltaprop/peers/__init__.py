"""A training step of a net by deltaprop and by what else there is, timed in turns.

`case` says what is computed, `by_hand`, `by_torch`, `by_jax` and `scikit` compute it, `rivals`
lists them; `answers` checks them, `rounds` times them, `peak` measures what a CPU can do at most,
`machine` says which machine it was, `allowance` how long may be compiled; `figures` puts all that
together and `picture` draws it.
"""
