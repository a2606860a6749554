// An ordinary piece of C++, to be compiled: templates of the standard library, and little else.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

struct Entry {
  std::string name;
  std::vector<int> values;
};

std::map<std::string, std::shared_ptr<Entry>> collect(const std::vector<Entry> &entries) {
  std::map<std::string, std::shared_ptr<Entry>> found;
  for (const Entry &entry : entries) {
    auto &place = found[entry.name];
    if (!place) place = std::make_shared<Entry>();
    place->values.insert(place->values.end(), entry.values.begin(), entry.values.end());
  }
  for (auto &item : found) std::sort(item.second->values.begin(), item.second->values.end());
  return found;
}
