// Runs a fuzz target on a packed corpus, for compilers without libFuzzer: one input a line, bytes escaped as in a URL.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <fstream>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern "C" __attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  std::ifstream corpus(argv[1]);
  if (!corpus) return 2;
  if (LLVMFuzzerInitialize != nullptr) LLVMFuzzerInitialize(&argc, &argv);
  unsigned count = 0;
  for (std::string line; std::getline(corpus, line); ++count) {
    std::string input;
    for (size_t i = 0; i < line.size(); ++i)
      if (line[i] == '%') {
        input += static_cast<char>(strtol(line.substr(i + 1, 2).c_str(), nullptr, 16));
        i += 2;
      } else {
        input += line[i];
      }
    const std::string exact(input);  // without room behind it, so that a read beyond its end is seen
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t *>(exact.data()), exact.size());
  }
  printf("%u inputs\n", count);
  return 0;
}
