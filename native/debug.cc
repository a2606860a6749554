// Composing the line in a buffer of its own and writing it at once, so that it stays one line among other processes' output.

#include "debug.h"

#include <stddef.h>

#include "memproxy.h"
#include "platform.h"
#include "record.h"

namespace {

struct Line {
  char text[1024];
  size_t length;

  __attribute__((noinline)) void add(const char *words) {
    while (*words != '\0' && length < sizeof text - 1) text[length++] = *words++;
  }

  // Paths may hold any byte; what a terminal would act upon is shown as a question mark.
  void add_path(const char *path) {
    for (; *path != '\0' && length < sizeof text - 1; ++path) {
      const unsigned char c = static_cast<unsigned char>(*path);
      text[length++] = c < 0x20 || c == 0x7f ? '?' : *path;
    }
  }

  void add_number(unsigned number) {
    char digits[12];
    size_t at = sizeof digits;
    digits[--at] = '\0';
    do digits[--at] = static_cast<char>('0' + number % 10);
    while ((number /= 10) != 0);
    add(digits + at);
  }
};

}  // namespace

void debug_tell(const char *executable, const char *list) {
  Line line;
  line.length = 0;
  line.add("memproxy: ");
  line.add_path(executable == nullptr || *executable == '\0' ? "(program of unknown name)" : executable);
  line.add(": route ");
  line.add(route_name(static_cast<Route>(own_record.route)));
  line.add(", served by ");
  const char *allocator = record_allocator();
  line.add_path(allocator == nullptr ? "(unknown)" : allocator);
  line.add(": ");
  switch (own_record.reason) {
    case MEMPROXY_REASON_LIST:
      line.add("line ");
      line.add_number(own_record.line);
      line.add(" of ");
      line.add(list);
      break;
    case MEMPROXY_REASON_DEFAULT:
      line.add("no line of ");
      line.add(list);
      line.add(" matches");
      break;
    case MEMPROXY_REASON_ENVIRONMENT: line.add("MEMPROXY_ROUTE says so"); break;
    case MEMPROXY_REASON_NO_ALLOCATOR: line.add("no custom allocator is loaded"); break;
    case MEMPROXY_REASON_NOT_OWNER: line.add("malloc of this process is defined ahead of libmemproxy.so"); break;
    case MEMPROXY_REASON_SANITIZER: line.add("the program is built with a sanitizer, which has a malloc of its own"); break;
    default: line.add(record_reason()); break;
  }
  line.text[line.length++] = '\n';
  platform_complain(line.text, line.length);
}
