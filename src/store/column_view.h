// A column of many rows at once: what lies decoded in a block, or is laid out the same way for a batch of the tail.
#pragma once

#include <cstddef>
#include <cstdint>

namespace daemoneye::store {

struct IntegerColumn {
  const std::int64_t* values = nullptr;   // by row, 0 where NULL; null: the column has no integers
  const std::uint8_t* present = nullptr;  // by row, 0: NULL, 1: a value; null: all have one
  [[nodiscard]] bool has_value(std::size_t row) const { return present == nullptr || present[row] != 0; }
};

struct RealColumn {
  const double* values = nullptr;
  const std::uint8_t* present = nullptr;
  [[nodiscard]] bool has_value(std::size_t row) const { return present == nullptr || present[row] != 0; }
};

inline constexpr std::uint32_t null_entry = 0xffffffff;

// Texts are numbered, and what the numbers stand for is asked for apart. Equal texts may have several numbers.
struct TextColumn {
  const std::uint32_t* entries = nullptr;  // by row: the number, or null_entry for NULL; null: the column has no texts
  std::size_t count = 0;                   // every number is below it
};

struct IntegerBounds {
  std::int64_t min = 0, max = 0;
};

}  // namespace daemoneye::store
