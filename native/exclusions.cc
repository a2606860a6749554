// The exclusion list reader: one pass over the file, in fixed memory, with system calls only.
//
// The executable's name is held in memory and the patterns stream past it. A pattern is run as a nondeterministic automaton
// whose state is the set of positions in the name that the pattern's bytes so far can have led to. So neither a line
// nor the file needs to fit into anything, and no pattern takes more than its length times the name's.
//
// Where a line's pattern ends is known only at the end of the line, because of trailing blanks and ` = ROUTE`. Therefore
// at the end of each blank-separated word we note whether the pattern, had it ended there, would have matched; the notes of
// the last three words are enough to judge the line.

#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64  // else fstat fails in 32-bit processes for large files and large inode numbers
#endif
#undef _TIME_BITS  // struct stat is to be the kernel's

#include "exclusions.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

namespace {

// PATH_MAX of Linux; that of Solaris is 1024. Of a longer name only the last component is looked at.
const size_t kMaxName = 4096;
const size_t kChunk = 4096;

// ---- System calls. On Linux not through libc's open, read and close: programs define functions of these names, and
// other preloads wrap them with code that allocates.

#ifdef __linux__
int system_open(const char *path, int flags) { return static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags)); }
ssize_t system_read(int file, void *to, size_t size) { return syscall(SYS_read, file, to, size); }
void system_close(int file) { syscall(SYS_close, file); }
int system_fstat(int file, struct stat *status) {
#ifdef SYS_fstat64
  return static_cast<int>(syscall(SYS_fstat64, file, status));
#else
  return static_cast<int>(syscall(SYS_fstat, file, status));
#endif
}
off_t system_seek_data(int file, off_t from) {
#ifdef SYS__llseek
  long long reached = -1;
  const unsigned long long bits = static_cast<unsigned long long>(from);
  const unsigned long high = static_cast<unsigned long>(bits >> 32), low = static_cast<unsigned long>(bits & 0xFFFFFFFF);
  return syscall(SYS__llseek, file, high, low, &reached, SEEK_DATA) == 0 ? reached : -1;
#else
  return syscall(SYS_lseek, file, from, SEEK_DATA);
#endif
}
bool system_getcwd(char *to, size_t size) { return syscall(SYS_getcwd, to, size) > 0; }
#else
int system_open(const char *path, int flags) { return open(path, flags); }
ssize_t system_read(int file, void *to, size_t size) { return read(file, to, size); }
void system_close(int file) { close(file); }
int system_fstat(int file, struct stat *status) { return fstat(file, status); }
#ifdef SEEK_DATA
off_t system_seek_data(int file, off_t from) { return lseek(file, from, SEEK_DATA); }
#endif
bool system_getcwd(char *to, size_t size) { return getcwd(to, size) != nullptr; }
#endif

// ---- The name that patterns are compared with.

struct Name {
  const char *text;
  size_t length;
  size_t base;      // where the last component begins
  size_t ordinary;  // up to where all bytes are ordinary
  bool absolute;
};

// Neither special in a pattern, nor a blank, nor the end of a line.
bool is_ordinary(unsigned char byte) { return byte > ' ' && byte != '*' && byte != '?' && byte != '['; }

Name name_of(const char *text) {
  Name name = {text, strlen(text), 0, 0, text[0] == '/'};
  for (size_t i = 0; i < name.length; ++i)
    if (text[i] == '/') name.base = i + 1;
  if (name.length > kMaxName) {
    name = {text + name.base, name.length - name.base, 0, 0, false};
    if (name.length > kMaxName) name.length = 0;
  }
  while (name.ordinary < name.length && is_ordinary(static_cast<unsigned char>(name.text[name.ordinary]))) ++name.ordinary;
  return name;
}

// ---- A set of positions in the name, 0 to its length.

class Positions {
 public:
  bool empty() const { return low_ > high_; }
  bool contains(size_t at) const { return at >= low_ && at <= high_ && get(at); }
  bool any_below(size_t end) const { return low_ < end && !empty(); }

  void clear() {
    for (size_t i = low_ / 8; !empty() && i <= high_ / 8; ++i) bits_[i] = 0;
    set_range(1, 0);
  }
  void set_only(size_t at) {
    clear();
    set(at);
    set_range(at, at);
  }

  // Moves every position over the byte behind it if `accepts` does, and drops it otherwise.
  template <class Accepts>
  void advance(const Name &name, Accepts accepts) {
    size_t low = 1, high = 0;
    if (empty()) return;
    for (size_t at = high_ + 1; at-- > low_;) {
      if (!get(at)) continue;
      bits_[at / 8] = static_cast<unsigned char>(bits_[at / 8] & ~(1u << at % 8));
      if (at == name.length || !accepts(static_cast<unsigned char>(name.text[at]))) continue;
      set(at + 1);
      if (high == 0) high = at + 1;
      low = at + 1;
    }
    set_range(low, high);
  }

  // Moves a position that is the only one over the ordinary bytes at `data` that the name has as well; returns how many.
  size_t advance_alone(const Name &name, const unsigned char *data, size_t size) {
    if (low_ != high_) return 0;
    if (low_ >= name.ordinary) return 0;
    const char *text = name.text + low_;
    if (size > name.ordinary - low_) size = name.ordinary - low_;
    size_t count = 0;
    while (count < size && data[count] == static_cast<unsigned char>(text[count])) ++count;
    if (count > 0) set_only(low_ + count);
    return count;
  }

  // Adds what can be reached over any number of bytes other than '/'. All members lie in one component of the name, since the
  // pattern has had as many slashes for each of them.
  void spread(const Name &name) {
    if (empty()) return;
    size_t at = low_;
    for (set(at); at < name.length && name.text[at] != '/'; set(at)) ++at;
    high_ = at;
  }

 private:
  bool get(size_t at) const { return bits_[at / 8] >> at % 8 & 1; }
  void set(size_t at) { bits_[at / 8] = static_cast<unsigned char>(bits_[at / 8] | 1u << at % 8); }
  void set_range(size_t low, size_t high) {
    low_ = low;
    high_ = high;
  }

  // All members lie in [low_, high_], and low_ is one; outside of it all bits are zero. Empty: low_ > high_.
  size_t low_ = 1, high_ = 0;
  unsigned char bits_[kMaxName / 8 + 1] = {};
};

// ---- A bracket expression, member by member.

class Bracket {
 public:
  void open() { *this = Bracket(); }

  // Takes the next byte; true if it closes the expression.
  bool take(unsigned char byte) {
    if (at_start_ && !negated_ && byte == '!') {
      negated_ = true;
      return false;
    }
    if (byte == ']' && !at_start_) {
      if (has_first_) add(first_, first_);
      if (has_dash_) add('-', '-');
      return true;
    }
    at_start_ = false;
    if (has_dash_) {
      add(first_, byte);
      has_first_ = has_dash_ = false;
    } else if (has_first_ && byte == '-') {
      has_dash_ = true;
    } else {
      if (has_first_) add(first_, first_);
      first_ = byte;
      has_first_ = true;
    }
    return false;
  }

  bool accepts(unsigned char byte) const { return byte != '/' && (members_[byte / 8] >> byte % 8 & 1) != negated_; }

 private:
  void add(unsigned first, unsigned last) {
    for (; first <= last; ++first) members_[first / 8] = static_cast<unsigned char>(members_[first / 8] | 1u << first % 8);
  }

  bool at_start_ = true, negated_ = false;
  bool has_first_ = false, has_dash_ = false;  // a member, and a '-' behind it, that may be the start of a range
  unsigned char first_ = 0;
  unsigned char members_[32] = {};
};

// ---- A pattern, byte by byte.

class Pattern {
 public:
  explicit Pattern(const Name &name) : name_(name) {}

  // Whether a pattern that begins with this byte can match at all: most lines of a list end here.
  bool may_start(unsigned char byte) const {
    if (byte == '/') return name_.absolute;
    return !is_ordinary(byte) || (name_.base < name_.length && byte == static_cast<unsigned char>(name_.text[name_.base]));
  }

  void start(unsigned char byte) {
    in_bracket_ = false;
    last_ = 0;
    if (byte != '/')
      here_.set_only(name_.base);  // a '/' further on finds none in the name, so it never matches
    else if (name_.absolute)
      here_.set_only(0);
    else
      here_.clear();
  }

  void take(unsigned char byte) {
    const bool again = byte == last_;
    last_ = byte;
    if (in_bracket_) {
      if (byte == '/') {
        in_bracket_ = false;  // as in the shell, the '[' was no bracket then
      } else if (bracket_.take(byte)) {
        in_bracket_ = false;
        here_ = before_bracket_;
        const Bracket &bracket = bracket_;
        here_.advance(name_, [&bracket](unsigned char c) { return bracket.accepts(c); });
        return;
      }
    } else if (byte == '[' && !here_.empty()) {
      // Both readings are followed until a ']' or its absence tells which is right: here_ takes '[' for itself.
      in_bracket_ = true;
      bracket_.open();
      before_bracket_ = here_;
    }
    if (byte == '*') {
      if (!again) here_.spread(name_);
    } else if (byte == '?') {
      here_.advance(name_, [](unsigned char c) { return c != '/'; });
    } else {
      here_.advance(name_, [byte](unsigned char c) { return c == byte; });
    }
  }

  // Takes, of ordinary bytes, as many as can be taken at once; returns how many.
  size_t take_ordinary(const unsigned char *data, size_t size) {
    const size_t count = in_bracket_ ? 0 : here_.advance_alone(name_, data, size);
    if (count > 0) last_ = data[count - 1];
    return count;
  }

  // Whether nothing that may follow can make the pattern match.
  bool dead() const { return here_.empty() && !in_bracket_; }

  // Whether the pattern matches if it ends here.
  bool matches() const { return last_ == '/' ? here_.any_below(name_.length) : here_.contains(name_.length); }

 private:
  const Name &name_;
  Positions here_, before_bracket_;
  Bracket bracket_;
  bool in_bracket_ = false;
  unsigned char last_ = 0;
};

// ---- Lines.

class Lines {
 public:
  explicit Lines(const Name &name) : pattern_(name) {}

  // Takes the next bytes of the file; true if a line that ends among them decides.
  bool take(const unsigned char *data, size_t size) {
    for (size_t i = 0; i < size; ++i) {
      if (state_ == kRest) {
        const void *end = memchr(data + i, '\n', size - i);
        if (end == nullptr) return false;
        i = static_cast<size_t>(static_cast<const unsigned char *>(end) - data);
      }
      const unsigned char byte = data[i];
      if (byte == '\n') {
        if (end()) return true;
        if (number_ != ~0u) ++number_;
        state_ = kBlank;
      } else if (state_ == kBlank) {
        start(byte);
      } else {
        const size_t count = state_ == kWord ? take_ordinary(data + i, size - i) : 0;
        if (count > 0) {
          i += count - 1;
          continue;
        }
        take(byte);
      }
    }
    return false;
  }

  // Ends the line at hand; true if it decides.
  bool end() {
    if (state_ == kWord) end_word();
    if (state_ == kBlank || state_ == kRest) return false;
    if (words_ > 1 && last_.is_equals) return false;
    if (words_ > 1 && second_.is_equals) return third_.matches && route_from_name(word_, word_length_, &route_);
    route_ = Route::kSystem;
    return last_.matches;
  }

  bool is_empty() const { return state_ == kBlank; }
  Route route() const { return route_; }
  unsigned number() const { return number_; }

 private:
  struct Word {
    bool is_equals;  // it is "="
    bool matches;    // the pattern, if it ended with this word, would match
  };

  static bool is_blank(unsigned char byte) { return byte == ' ' || byte == '\t' || byte == '\r'; }

  void start(unsigned char byte) {
    if (is_blank(byte)) return;
    if (byte == '#' || byte == ';' || !pattern_.may_start(byte)) {
      state_ = kRest;
      return;
    }
    last_ = second_ = third_ = Word();
    state_ = kGap;
    words_ = 0;
    pattern_.start(byte);
    take(byte);
  }

  void take(unsigned char byte) {
    if (byte == '\0') {
      state_ = kRest;  // a line with a null byte is ignored: whoever wrote it meant something else (UTF-16, say)
      return;
    }
    if (is_blank(byte)) {
      if (state_ == kWord) end_word();
    } else {
      if (state_ == kGap) start_word();
      remember(byte);
    }
    pattern_.take(byte);
    if (pattern_.dead() && !last_.matches && !second_.matches && !third_.matches) state_ = kRest;
  }

  // Most lines that are not skipped are plain names and paths: this does nothing that take(byte) would not, but faster.
  size_t take_ordinary(const unsigned char *data, size_t size) {
    const size_t count = pattern_.take_ordinary(data, size);
    for (size_t i = 0; i < count && word_length_ <= sizeof word_; ++i) remember(data[i]);
    return count;
  }

  void remember(unsigned char byte) {
    if (word_length_ < sizeof word_) word_[word_length_] = static_cast<char>(byte);
    if (word_length_ <= sizeof word_) ++word_length_;
  }

  void start_word() {
    third_ = second_;
    second_ = last_;
    last_ = Word();
    word_length_ = 0;
    if (words_ < 2) ++words_;
    state_ = kWord;
  }

  void end_word() {
    last_.is_equals = word_length_ == 1 && word_[0] == '=';
    last_.matches = pattern_.matches();
    state_ = kGap;
  }

  Pattern pattern_;
  enum { kBlank, kWord, kGap, kRest } state_ = kBlank;  // only blanks so far; in a word; behind one; the rest is of no interest
  Word last_ = Word(), second_ = Word(), third_ = Word();
  unsigned words_ = 0;  // 2 stands for more as well
  char word_[8];  // the word at hand, as far as it fits: no route's name is longer
  size_t word_length_ = 0;
  unsigned number_ = 1;
  Route route_ = Route::kSystem;
};

// ---- The file.

// Not on the stack: the first request for memory may come on a small one, a signal's or a coroutine's.
unsigned char chunk[kChunk];
char completed[kMaxName + 1];

// One read, repeated if a signal interrupts it.
ssize_t read_some(int file, void *to, size_t size) {
  ssize_t got;
  do got = system_read(file, to, size);
  while (got < 0 && errno == EINTR);
  return got;
}

// Fills `to` from `file`; less than `size` only at the end of the file or for an error.
size_t read_fully(int file, unsigned char *to, size_t size) {
  size_t have = 0;
  while (have < size) {
    const ssize_t got = read_some(file, to + have, size - have);
    if (got <= 0) break;
    have += static_cast<size_t>(got);
  }
  return have;
}

// If the file, which stands at `at`, has a hole there, passes over it; returns how much that was, at most `left`.
off_t skip_hole(int file, off_t at, off_t left) {
#ifdef SEEK_DATA
  const off_t data = system_seek_data(file, at);
  if (data < 0) return errno == ENXIO ? left : 0;  // nothing but a hole; or a file system that cannot tell
  return data - at < left ? data - at : left;
#else
  (void)file, (void)at, (void)left;
  return 0;
#endif
}

bool scan(int file, Lines *lines) {
  struct stat status;
  if (system_fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) return false;
  // No more than the file has now: one that grows as fast as we read is no reason to go on for ever.
  for (off_t left = status.st_size, total = left; left > 0;) {
    const size_t wanted = left < static_cast<off_t>(kChunk) ? static_cast<size_t>(left) : kChunk;
    const size_t got = read_fully(file, chunk, wanted);
    const size_t skip = left == total && got >= 3 && memcmp(chunk, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    if (lines->take(chunk + skip, got - skip)) return true;
    if (got < wanted) return false;  // cut off while we read it, and the last line with it
    left -= static_cast<off_t>(got);
    // A hole reads as null bytes, and the line at hand, which has one, is ignored whole.
    if (chunk[got - 1] == '\0' && left > 0) left -= skip_hole(file, total - left, left);
  }
  if (lines->is_empty()) return false;
  // The last line has no end: it counts if the file ends here, and not if it is growing at this moment, and the line with it.
  const ssize_t more = read_some(file, chunk, 1);
  return (more == 0 || (more == 1 && chunk[0] == '\n')) && lines->end();
}

__attribute__((noinline)) bool look_up(const char *list, const char *executable, Route *route, unsigned *line) {
  const Name name = name_of(executable);
  Lines lines(name);
  int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
#ifdef O_CLOEXEC
  flags |= O_CLOEXEC;
#endif
#ifdef O_LARGEFILE
  flags |= O_LARGEFILE;
#endif
  const int file = system_open(list, flags);
  if (file < 0) return false;
  const bool found = scan(file, &lines);
  system_close(file);
  if (!found) return false;
  if (route != nullptr) *route = lines.route();
  if (line != nullptr) *line = lines.number();
  return true;
}

// Completes a relative name by the working directory, which at the start of a process is still the one that it was executed in.
// A name that cannot be completed is taken as it is: then only lines without '/' can match.
bool look_up_relative(const char *list, const char *executable, Route *route, unsigned *line) {
  char *const path = completed;
  if (!system_getcwd(path, sizeof completed) || path[0] != '/') return look_up(list, executable, route, line);
  size_t length = strlen(path);
  const char *rest = executable;
  while (rest[0] == '.' && (rest[1] == '/' || (rest[1] == '.' && rest[2] == '/'))) {
    if (rest[1] == '.')
      while (length > 0 && path[--length] != '/') continue;
    rest += rest[1] == '.' ? 3 : 2;
    while (*rest == '/') ++rest;
  }
  if (length == 1 && path[0] == '/') length = 0;
  const size_t rest_length = strlen(rest);
  if (length + 1 + rest_length > kMaxName) return look_up(list, executable, route, line);
  path[length] = '/';
  memcpy(path + length + 1, rest, rest_length + 1);
  return look_up(list, path, route, line);
}

}  // namespace

bool exclusions_lookup(const char *list, const char *executable, Route *route, unsigned *line) {
  const int saved = errno;
  if (executable == nullptr) executable = "";
  const bool found = executable[0] == '/' || executable[0] == '\0' ? look_up(list, executable, route, line)
                                                                   : look_up_relative(list, executable, route, line);
  errno = saved;
  return found;
}
