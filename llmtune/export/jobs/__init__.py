"""Scripts that run in processes of their own, isolated (`python -I`), without importing llmtune.

Each takes one argument, the path of a JSON file, and ends when its standard input closes (its parent is gone).
"""
