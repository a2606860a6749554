/* The smallest program: what its start takes is what every start takes. */
int main(void) { return 0; }
