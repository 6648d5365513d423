"""The composition root and the command line: the only place that names concrete classes."""

__version__ = "0.1.0"
