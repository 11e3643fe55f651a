"""Results go to a hub: `upload` knows what goes, and what speaks against it, `push` sends it."""
