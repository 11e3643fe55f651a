"""What a video is (index), where its files lie (layout), what a trainer reads (dataset, sample)."""
