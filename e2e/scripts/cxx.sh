cat > xlat.cc <<'EOF'
#include <algorithm>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>
struct Node { std::string key; std::unique_ptr<Node> left, right; };
static void put(std::unique_ptr<Node> &at, std::string key) {
  if (!at) at = std::make_unique<Node>(Node{std::move(key), nullptr, nullptr});
  else { auto &next = key < at->key ? at->left : at->right; put(next, std::move(key)); }
}
static size_t depth(const std::unique_ptr<Node> &at) { return at ? 1 + std::max(depth(at->left), depth(at->right)) : 0; }
static size_t work(unsigned seed) {
  std::unordered_map<std::string, std::vector<int>> index;
  for (unsigned i = 0; i < 60000; ++i) index[std::to_string((seed = seed * 1103515245 + 12345) % 5000)].push_back(i);
  size_t sum = 0;
  for (auto &entry : index) { std::sort(entry.second.rbegin(), entry.second.rend()); sum += entry.second[0] * entry.first.size(); }
  return sum;
}
int main() {
  std::unique_ptr<Node> root;
  for (unsigned i = 0, x = 1; i < 50000; ++i) put(root, std::to_string(x = x * 69069 + 1));
  std::cout << depth(root) << '\n';
  std::vector<std::future<size_t>> all;
  for (unsigned i = 0; i < 8; ++i) all.push_back(std::async(std::launch::async, work, i));
  for (auto &one : all) std::cout << one.get() << ' ';
  std::cout << '\n';
  int caught = 0;
  for (int i = 0; i < 5000; ++i) try { std::vector<int>().at(static_cast<size_t>(i)); } catch (const std::out_of_range &) { ++caught; }
  std::ostringstream text;
  for (int i = 0; i < 3000; ++i) text << "word" << i << (i % 7 ? ' ' : '\n');
  const std::string all_text = text.str();
  const std::regex pattern("word([0-9])\\1+\\b");
  std::cout << caught << ' ' << std::distance(std::sregex_iterator(all_text.begin(), all_text.end(), pattern), std::sregex_iterator()) << '\n';
  std::multimap<size_t, std::string> m;
  for (std::istringstream words(all_text); words >> std::ws && !words.eof();) { std::string w; words >> w; m.emplace(w.size(), w); }
  std::cout << m.size() << ' ' << m.begin()->second << std::endl;
}
EOF
for bits in 64 32; do
    say compile$bits g++ -std=c++17 -O2 -m$bits -pthread xlat.cc -o xlat$bits
    say object$bits bash -c "objdump -d xlat$bits | sha256sum"
    say run$bits ./xlat$bits
done
say errors bash -c 'echo "int main() { return undeclared + std::vector<int>(3); }" | g++ -x c++ - -o none'
