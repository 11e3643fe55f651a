"""The kinds of model that can be trained: what the families of a kind do alike.

    base                what every family says and does
    vision_language     families that write text about images; chat.py: those with a chat template
    diffusion           families that make videos

The other files hold what kinds are made of: batches, readers, loading, padding, export.
"""
