#include "cli/process_tree.h"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace daemoneye::cli {
namespace {

constexpr std::size_t max_depth = 512;

class Drawer {
 public:
  explicit Drawer(const std::vector<event::ProcessInfo>& processes) : processes_(processes) {
    for (std::size_t i = 0; i < processes.size(); ++i) by_key_.emplace(processes[i].key, i);
    children_.resize(processes.size());
    for (std::size_t i = 0; i < processes.size(); ++i) {
      const auto parent = parent_of(i);
      if (parent)
        children_[*parent].push_back(i);
      else
        roots_.push_back(i);
    }
    const auto by_pid = [&](std::size_t a, std::size_t b) { return processes_[a].key < processes_[b].key; };
    for (auto& list : children_) std::ranges::sort(list, by_pid);
    std::ranges::sort(roots_, by_pid);
  }

  std::vector<TreeRow> run() {
    drawn_.assign(processes_.size(), false);
    for (const auto root : roots_) draw(root, 0, "", "");
    // What is left is only reachable from itself.
    for (std::size_t i = 0; i < processes_.size(); ++i) {
      if (!drawn_[i]) draw(i, 0, "", "");
    }
    return std::move(rows_);
  }

 private:
  [[nodiscard]] std::optional<std::size_t> parent_of(std::size_t i) const {
    if (!processes_[i].parent_key) return std::nullopt;
    const auto found = by_key_.find(*processes_[i].parent_key);
    if (found == by_key_.end() || found->second == i) return std::nullopt;
    return found->second;
  }

  void draw(std::size_t i, std::size_t depth, const std::string& own, const std::string& below) {
    drawn_[i] = true;
    rows_.push_back({i, depth, own});
    if (depth >= max_depth) return;
    std::vector<std::size_t> next;
    for (const auto child : children_[i]) {
      if (!drawn_[child]) next.push_back(child);
    }
    for (std::size_t n = 0; n < next.size(); ++n) {
      const bool last = n + 1 == next.size();
      draw(next[n], depth + 1, below + (last ? "└─ " : "├─ "), below + (last ? "   " : "│  "));
    }
  }

  const std::vector<event::ProcessInfo>& processes_;
  std::unordered_map<event::ProcessKey, std::size_t> by_key_;
  std::vector<std::vector<std::size_t>> children_;
  std::vector<std::size_t> roots_;
  std::vector<bool> drawn_;
  std::vector<TreeRow> rows_;
};

}  // namespace

std::vector<TreeRow> draw_tree(const std::vector<event::ProcessInfo>& processes) { return Drawer(processes).run(); }

}  // namespace daemoneye::cli
