"""What the tests have in common: waiting, running functions, an operator, a browser."""
