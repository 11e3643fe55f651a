"""Reading video files: one decoder (PyAV), one clock, one way to show a frame.

source      a file, opened by a demuxer of a known list, and its packets on one clock
pictures    the frames of a file: from the start, at given times, on a grid
render      a decoded frame as a person sees it: upright, square pixels, SDR, RGB
sound       a sound track on the pictures' clock, as samples
"""
