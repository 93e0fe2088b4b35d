"""Tuning a program on a device: what to measure next, measuring it, and what it proves."""
