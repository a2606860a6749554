"""memproxy-sol: give every process of a machine another memory allocator, with exceptions."""

__version__ = "0.1.0"
