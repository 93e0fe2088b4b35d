"""Writers: each puts a layout plan back into one kind of program."""
