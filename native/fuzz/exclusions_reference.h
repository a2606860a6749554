// The exclusion list by docs/exclusions.md, written for clarity and not for speed: what the fuzz targets hold exclusions.cc to.
#ifndef MEMPROXY_FUZZ_EXCLUSIONS_REFERENCE_H
#define MEMPROXY_FUZZ_EXCLUSIONS_REFERENCE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <bitset>
#include <string>
#include <vector>

#include "../route_name.h"

struct Answer {
  bool found;
  Route route;
  unsigned line;
  bool operator==(const Answer &other) const {
    return found == other.found && (!found || (route == other.route && line == other.line));
  }
};

inline std::vector<std::string> split(const std::string &text, char at) {
  std::vector<std::string> parts(1);
  for (char c : text)
    if (c == at)
      parts.emplace_back();
    else
      parts.back() += c;
  return parts;
}

inline bool component_matches(const std::string &pattern, const std::string &name) {
  std::vector<char> reached(name.size() + 1);  // whether the pattern so far matches that much of the name
  reached[0] = 1;
  for (size_t at = 0; at < pattern.size(); ++at) {
    std::bitset<256> accepted;
    if (pattern[at] == '*') {
      for (size_t i = 0; i < name.size(); ++i) reached[i + 1] = reached[i + 1] || reached[i];
      continue;
    }
    const size_t first = pattern.compare(at, 2, "[!") == 0 ? at + 2 : at + 1;
    const size_t close = pattern[at] == '[' && first < pattern.size() ? pattern.find(']', first + 1) : std::string::npos;
    if (close != std::string::npos) {
      for (size_t i = first; i < close; ++i)
        if (i + 2 < close && pattern[i + 1] == '-') {
          for (int c = static_cast<uint8_t>(pattern[i]); c <= static_cast<uint8_t>(pattern[i + 2]); ++c) accepted.set(c);
          i += 2;
        } else {
          accepted.set(static_cast<uint8_t>(pattern[i]));
        }
      if (first == at + 2) accepted.flip();
      at = close;
    } else if (pattern[at] == '?') {
      accepted.set();
    } else {
      accepted.set(static_cast<uint8_t>(pattern[at]));
    }
    for (size_t i = name.size(); i > 0; --i) reached[i] = reached[i - 1] && accepted[static_cast<uint8_t>(name[i - 1])];
    reached[0] = 0;
  }
  return reached[name.size()];
}

inline bool pattern_matches(const std::string &pattern, const std::string &name) {
  if (pattern.find('/') == std::string::npos) return component_matches(pattern, name.substr(name.rfind('/') + 1));
  if (pattern[0] != '/' || name[0] != '/') return false;
  std::vector<std::string> wanted = split(pattern, '/'), given = split(name, '/');
  if (pattern.back() == '/') {
    // Everything below: at least one byte behind the directory's slash.
    wanted.pop_back();
    size_t below = 0;
    for (size_t i = wanted.size(); i < given.size(); ++i) below += given[i].size() + (i > wanted.size());
    if (below == 0) return false;
    given.resize(wanted.size());
  }
  if (wanted.size() != given.size()) return false;
  for (size_t i = 0; i < wanted.size(); ++i)
    if (!component_matches(wanted[i], given[i])) return false;
  return true;
}

// `name`: absolute, or the last component only.
inline Answer reference(std::string list, const std::string &name) {
  const char blanks[] = " \t\r";
  if (list.compare(0, 3, "\xEF\xBB\xBF") == 0) list.erase(0, 3);
  unsigned number = 0;
  for (std::string line : split(list, '\n')) {
    ++number;
    line.erase(0, line.find_first_not_of(blanks));
    line.erase(line.find_last_not_of(blanks) + 1);
    if (line.empty() || line[0] == '#' || line[0] == ';' || line.find('\0') != std::string::npos) continue;
    std::vector<std::string> words;
    std::vector<size_t> ends;
    for (size_t at = 0; at < line.size();) {
      const size_t end = std::min(line.find_first_of(blanks, at), line.size());
      words.push_back(line.substr(at, end - at));
      ends.push_back(end);
      at = std::min(line.find_first_not_of(blanks, end), line.size());
    }
    const size_t count = words.size();
    Route route = Route::kSystem;
    if (count > 1 && words[count - 1] == "=") continue;
    if (count > 1 && words[count - 2] == "=") {
      if (count == 2) continue;
      if (words[count - 1] == "custom")
        route = Route::kCustom;
      else if (words[count - 1] != "system")
        continue;
      line.erase(ends[count - 3]);
    }
    if (pattern_matches(line, name)) return {true, route, number};
  }
  return {false, Route::kSystem, 0};
}

// A fuzzer's input: the executable's name, a null byte, the list.
struct Input {
  std::string name, list;
  Input(const uint8_t *data, size_t size) {
    const std::string all(reinterpret_cast<const char *>(data), size);
    const size_t end = all.find('\0');
    name = all.substr(0, end);
    if (end != std::string::npos) list = all.substr(end + 1);
  }
};

inline void demand(bool holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "exclusions: %s\n", what);
  abort();
}

#endif
