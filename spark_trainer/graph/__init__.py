"""What the rules ask about a build: what is there, what each result reads, where it will lie.

Nothing here knows Snakemake, and nothing is heavy: whoever plans, explains or removes asks it too.
"""
