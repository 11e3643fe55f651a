"""What a build tells its user: messages, failures, the summary at its end; the report."""
