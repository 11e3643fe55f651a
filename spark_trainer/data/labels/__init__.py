"""What people say of their videos in files of theirs: found, read, matched, and kept for the jobs.

rows        rows of tables: CSV, JSON, JSON lines, Parquet, Arrow, the hub
beside      a file for each video, named like it
contents    what a row or a file says of a video, for each kind of label
matching    which video is meant
given       which videos have labels, as the graph knows it: a digest of each
kept        the labels as jobs read them, which no edit changes
"""
