"""Which variants of a program to measure next, and how well predictions hold."""
