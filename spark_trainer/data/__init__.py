"""The videos (index), the paths of their files (layout), what a trainer reads (dataset, sample)."""
