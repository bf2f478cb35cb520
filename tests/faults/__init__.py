"""What must survive kill -9, full disks, little memory, forks and many threads.

`python -m faults` (`make faults`) prints a count per kind; docs/testing.md lists them.
"""
