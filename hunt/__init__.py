"""Hunt: every call of a change that alters the file system, cut short or failed, and what is left afterwards judged."""
