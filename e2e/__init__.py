"""Real programs on a whole system that memproxy-sol was installed on, globally (`make e2e`)."""
