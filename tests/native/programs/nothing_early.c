// For programs that need early_main.c alone.
int early_object_check(void) { return 0; }
