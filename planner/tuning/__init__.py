"""The variants of a program to measure next, and the accuracy of predictions."""
