// One malloc and one free a round, with 256 blocks alive: the sizes of an allocator's daily life, 98 % of them under 100 bytes.
// Usage: pairs ROUNDS. With -DWITH_NEW the same by operator new and (sized) delete.
#include <cstdio>
#include <cstdlib>

#include "sizes.h"

#ifdef WITH_NEW
#include <new>
#define TAKE(size) ::operator new(size)
#define GIVE(block, size) ::operator delete(block, size)
#else
#define TAKE(size) malloc(size)
#define GIVE(block, size) free(block)
#endif

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  const unsigned long rounds = strtoul(argv[1], nullptr, 10);
  static unsigned short sizes[kSizes];
  static char *alive[256];
  fill_sizes(sizes);
  unsigned sum = 0;
  for (unsigned long i = 0; i < rounds; ++i) {
    char *&slot = alive[i % 256];
    if (slot != nullptr) {
      sum += static_cast<unsigned char>(*slot);
      GIVE(slot, sizes[(i - 256) % kSizes]);
    }
    slot = static_cast<char *>(TAKE(sizes[i % kSizes]));
    *slot = static_cast<char>(i);
  }
  return printf("%u\n", sum) < 0;
}
