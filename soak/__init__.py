"""Soak: real programs for minutes on end under libmemproxy and each allocator, compared with the same without."""
