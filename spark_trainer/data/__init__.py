"""What a video is (index), where its files lie (layout), and what a trainer reads (manifest, dataset)."""
