"""Code that `python -m schema.generate` wrote: do not edit."""
