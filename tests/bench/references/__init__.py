"""What the functions are compared with, each served by functions-framework like ours."""
