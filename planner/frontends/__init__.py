"""Readers: each turns one kind of program into a ``LayoutGraph``."""
