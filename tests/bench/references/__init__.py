"""The alternatives to compare with, each served by functions-framework, as this software is."""
