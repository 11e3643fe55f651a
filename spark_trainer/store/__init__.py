"""What one asks of a store that is there: where something comes from, and that it goes."""
