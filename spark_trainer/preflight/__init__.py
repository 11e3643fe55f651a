"""What is looked for before the first job: what a build needs, and `validate`."""
