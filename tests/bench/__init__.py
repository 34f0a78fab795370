"""The benchmark: this software compared with its alternatives and with the limit of the platform.

All candidates are measured alternately, within one run and on one machine, so that the ratios are
comparable even between machines. The servers have a core to themselves; the load generator and the
servers that replace the cloud use the other. `make bench` runs all sections, `make bench QUICK=1` a
short version.
"""
