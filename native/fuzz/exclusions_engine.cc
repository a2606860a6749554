// Fuzz target: the matching engine of exclusions.cc, fed whole, byte by byte and in random chunks, against the reference.
#include "../exclusions.cc"

#include <memory>
#include <random>

#include "exclusions_reference.h"

// A chunk of up to eight bytes lies in a block of its size, so that a read beyond it is seen.
static const size_t kLongest = 8;
static std::unique_ptr<unsigned char[]> blocks[kLongest + 1];

template <class NextSize>
static Answer feed(const std::string &executable, const std::string &list, NextSize next_size) {
  const Name name = name_of(executable.c_str());
  Lines lines(name);
  for (size_t at = list.compare(0, 3, "\xEF\xBB\xBF") == 0 ? 3 : 0; at < list.size();) {
    const size_t size = std::min<size_t>(next_size(), list.size() - at);
    const unsigned char *chunk = reinterpret_cast<const unsigned char *>(list.data()) + at;
    if (size <= kLongest) {
      if (blocks[size] == nullptr) blocks[size].reset(new unsigned char[size]);
      chunk = static_cast<unsigned char *>(memcpy(blocks[size].get(), chunk, size));
    }
    if (lines.take(chunk, size)) return {true, lines.route(), lines.number()};
    at += size;
  }
  if (lines.is_empty() || !lines.end()) return {false, Route::kSystem, 0};
  return {true, lines.route(), lines.number()};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const Input input(data, size);
  if (input.name.size() > kMaxName) return -1;
  const Answer whole = feed(input.name, input.list, [] { return SIZE_MAX; });
  demand(feed(input.name, input.list, [] { return 1; }) == whole, "another answer byte by byte");
  std::minstd_rand random(static_cast<unsigned>(std::hash<std::string>()(input.list)));
  demand(feed(input.name, input.list, [&random] { return 1 + random() % kLongest; }) == whole, "another answer in chunks");
  const std::string name = input.name[0] == '/' ? input.name : input.name.substr(input.name.rfind('/') + 1);
  demand(reference(input.list, name) == whole, "another answer than the reference");
  return 0;
}
