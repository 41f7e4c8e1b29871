"""What a board tells of itself: parsers and readers, each given the root of the file system; what is not told is None.

They live here and not in `profiling`, which uses them too, because the agent records with them on the board.
"""
