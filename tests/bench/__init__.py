"""The benchmark: what this software does, what people would use instead, and the limit.

Everything is compared within one run on one machine, in turns, so that the ratios hold where the
numbers do not: the servers have one core to themselves, and the load and all that stands in for the
cloud have the other. `make bench` runs it all, `make bench QUICK=1` a short form of it.
"""
