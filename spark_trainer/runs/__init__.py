"""Which training runs there are, what came out of each, and what sets two of them apart.

Reads what run folders hold and nothing else, so it works while a run goes on, after one was
killed, and on folders that were copied here.
"""
