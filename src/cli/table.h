// The table form: aligned columns, control characters made visible, lines that fit the terminal.
#pragma once

#include <iosfwd>
#include <memory>
#include <vector>

#include "cli/render.h"

namespace daemoneye::cli {

std::unique_ptr<RowWriter> make_table_writer(const RenderOptions& options, std::ostream& out);

// Takes from the widest columns until all fit into `width` with two blanks between them; no column below its header's
// width or 8, whichever is less. Those that are to stay whole are taken from when the others have no more to give.
std::vector<std::size_t> fit_columns(std::vector<std::size_t> widths, const std::vector<std::size_t>& headers,
                                     std::size_t width, const std::vector<bool>& whole = {});

}  // namespace daemoneye::cli
