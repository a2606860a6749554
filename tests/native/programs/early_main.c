int early_object_check(void);
int main(void) { return early_object_check() == 0 ? 0 : 4; }
