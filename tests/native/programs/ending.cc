// Everything that runs behind the end of main, or of a thread, asks for memory and gives back what was made before: exit
// handlers, destructors of statics and of thread-local objects, keys' destructors, .fini_array, while a thread goes on.
// Its last word comes from behind them all.
#include <pthread.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

static char *kept[64];
static pthread_key_t key;
static int keys_destroyed;
static volatile int running;

static void work() {
  for (int i = 0; i < 64; ++i) {
    if (kept[i] != nullptr && kept[i][99] != static_cast<char>(i)) _exit(9);
    kept[i] = static_cast<char *>(std::realloc(kept[i], 100u + 13u * static_cast<unsigned>(i)));
    if (kept[i] == nullptr) _exit(8);
    std::memset(kept[i], i, 100);
    delete new std::string(200, 'n');
  }
}

struct Worker {
  std::vector<std::string> names{10, std::string(100, 'w')};
  ~Worker() {
    names.push_back(std::string(1000, 'v'));
    work();
  }
};
static Worker at_end;

struct PerThread {
  std::string *text = new std::string(100, 'p');
  ~PerThread() {
    delete text;
    std::free(std::malloc(333));
  }
};
static thread_local PerThread per_thread;

// Three times over, as long as the system goes on calling it.
static void destroy(void *value) {
  char *block = static_cast<char *>(value);
  const char round = block[0];
  std::free(block);
  __atomic_add_fetch(&keys_destroyed, 1, __ATOMIC_RELAXED);
  if (round == 3) return;
  block = static_cast<char *>(std::calloc(1, 500));
  block[0] = static_cast<char>(round + 1);
  pthread_setspecific(key, block);
}

static void *short_lived(void *) {
  char *block = static_cast<char *>(std::malloc(50));
  block[0] = 1;
  pthread_setspecific(key, block);
  return per_thread.text->c_str()[0] == 'p' ? nullptr : block;
}

static void *restless(void *) {
  for (;;) {
    char *block = static_cast<char *>(std::malloc(300));
    std::memset(block, 'r', 300);
    std::free(block);
    running = 1;
  }
}

static void at_exit() { work(); }

__attribute__((destructor)) static void last() {
  work();
  for (char *&block : kept) {
    std::free(block);
    block = nullptr;
  }
  (void)!write(1, "last\n", 5);
}

int main() {
  pthread_t thread;
  void *result;
  pthread_key_create(&key, destroy);
  std::atexit(at_exit);
  for (int i = 0; i < 20; ++i)
    if (pthread_create(&thread, nullptr, short_lived, nullptr) != 0 || pthread_join(thread, &result) != 0 || result != nullptr)
      return 2;
  if (keys_destroyed != 60) return 3;
  work();
  if (pthread_create(&thread, nullptr, restless, nullptr) != 0) return 2;
  while (!running) usleep(100);
  return 0;
}
