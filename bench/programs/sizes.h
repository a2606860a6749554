/* The sizes that the loops ask for: 98 % from 1 to 99 bytes, small ones more often; the rest up to 8 KiB. */
#ifndef SIZES_H
#define SIZES_H

enum { kSizes = 1024 };

static inline void fill_sizes(unsigned short sizes[kSizes]) {
  unsigned state = 12345;
  for (int i = 0; i < kSizes; ++i) {
    state = state * 1103515245u + 12345u;
    const unsigned first = state >> 16 & 0x7fff;
    state = state * 1103515245u + 12345u;
    const unsigned second = state >> 16 & 0x7fff;
    const unsigned low = first < second ? first : second;
    sizes[i] = (unsigned short)(i % 50 == 49 ? 100 + first % 8093 : 1 + low % 99);
  }
}

#endif
