"""From the bytes of a program to the planned program."""
