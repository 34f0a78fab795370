"""Helpers shared by the tests: waiting, running functions, an operator, a browser."""
