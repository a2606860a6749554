int halfway_check(void);
int main(void) { return halfway_check(); }
