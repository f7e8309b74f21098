"""Each kernel beside what its machine can do at most, both measured in the same run.

`clock` times calls, `limits` measures the machine, `calls` makes the calls of a kernel, `figures`
puts them together.
"""
