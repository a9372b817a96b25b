// Searching long texts in pieces, with a look at whether to go on after each.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "predicate/predicate.h"

namespace daemoneye::sql {

using predicate::ShouldStop;

// Bytes, or comparisons, between two looks.
inline constexpr std::size_t search_piece = std::size_t{1} << 20;

// Where `wanted`, which is not empty, begins at or after `from`; npos: nowhere. Nothing when it was to stop.
std::optional<std::size_t> find_text(std::string_view text, std::string_view wanted, std::size_t from,
                                     const ShouldStop& stop);
// As SQLite's trim(): characters of `set`, in its order, are taken from the ends.
std::optional<std::string_view> trim_text(std::string_view text, std::string_view set, bool left, bool right,
                                          const ShouldStop& stop);

}  // namespace daemoneye::sql
