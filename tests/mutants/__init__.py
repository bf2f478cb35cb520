"""Small faults put into the source, one at a time: the tests must notice.

`python -m mutants --sample 200` (`make mutants`).
"""
