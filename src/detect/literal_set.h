// Many literals looked for in a text at once: Vectorscan, behind what of it is used.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

struct hs_database;
struct hs_scratch;

namespace daemoneye::detect {

// What one thread searches with. Grows to what the sets it is fitted to need.
class SearchSpace {
 public:
  SearchSpace() = default;
  SearchSpace(const SearchSpace&) = delete;
  SearchSpace& operator=(const SearchSpace&) = delete;
  ~SearchSpace();

 private:
  friend class LiteralSet;
  hs_scratch* scratch_ = nullptr;
};

// Immutable and thread-safe once made.
class LiteralSet {
 public:
  struct Literal {
    std::string text;       // not empty
    bool any_case = false;  // ASCII letters match either case
    bool at_begin = false;  // of the text only
  };
  // unavailable when this processor cannot run Vectorscan.
  static Result<LiteralSet> compile(const std::vector<Literal>& literals);

  [[nodiscard]] Result<void> fit(SearchSpace& space) const;
  // Adds the places, in the list given to compile(), of those that are in `text`; each once.
  [[nodiscard]] Result<void> find(std::string_view text, SearchSpace& space, std::vector<std::uint32_t>& found) const;
  [[nodiscard]] std::size_t bytes() const;  // of memory

  LiteralSet(LiteralSet&&) noexcept = default;
  LiteralSet& operator=(LiteralSet&&) noexcept = default;
  ~LiteralSet() = default;

 private:
  struct Free {
    void operator()(hs_database* database) const;
  };
  explicit LiteralSet(hs_database* database) : database_(database) {}
  std::unique_ptr<hs_database, Free> database_;
  std::vector<std::uint32_t> begin_sizes_;  // by literal: its size when it must be at the begin, else 0
};

}  // namespace daemoneye::detect
