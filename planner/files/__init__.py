"""The files of programs: their kinds and their contents."""
