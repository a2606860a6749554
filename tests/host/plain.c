/* A shared object that has nothing to do with memory allocation. */
int plain_answer(void) { return 42; }
