#include "cli/table.h"

#include <algorithm>
#include <ostream>

#include "base/text.h"

namespace daemoneye::cli {
namespace {

// Widths are taken from this many rows; later ones are printed as they come, so that memory stays bounded.
constexpr std::size_t measured_rows = 2000;
constexpr std::size_t measured_bytes = 4 * 1024 * 1024;
constexpr std::size_t gap = 2;
constexpr std::string_view ellipsis = "…";

// The next code point of valid UTF-8, and its bytes.
std::pair<char32_t, std::size_t> next_code_point(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = at(0);
  const std::size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (length == 1 || length > text.size()) return {lead, 1};
  char32_t point = lead & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) point = point << 6 | (at(i) & 0x3fU);
  return {point, length};
}

bool in_range(char32_t point, std::initializer_list<std::pair<char32_t, char32_t>> ranges) {
  return std::ranges::any_of(ranges, [&](const auto& range) { return point >= range.first && point <= range.second; });
}

std::size_t width_of(char32_t point) {
  if (in_range(
          point,
          {{0x300, 0x36f}, {0x200b, 0x200f}, {0x202a, 0x202e}, {0x2060, 0x2064}, {0x20d0, 0x20ff}, {0xfe00, 0xfe0f}})) {
    return 0;
  }
  return in_range(point, {{0x1100, 0x115f},
                          {0x2e80, 0xa4cf},
                          {0xac00, 0xd7a3},
                          {0xf900, 0xfaff},
                          {0xfe30, 0xfe6f},
                          {0xff00, 0xff60},
                          {0xffe0, 0xffe6},
                          {0x1f300, 0x1faff},
                          {0x20000, 0x3fffd}})
             ? 2
             : 1;
}

class TableWriter final : public RowWriter {
 public:
  TableWriter(const RenderOptions& options, std::ostream& out) : options_(options), out_(out) {}

  void begin(std::vector<OutputColumn> columns) override { columns_ = std::move(columns); }

  bool row(const Row& row) override {
    std::vector<std::string> cells;
    std::vector<bool> numbers;
    if (has_value_.empty()) has_value_.assign(columns_.size(), false);
    for (std::size_t i = 0; i < columns_.size() && i < row.size(); ++i) {
      const auto* text = std::get_if<std::string>(&row[i]);
      const bool null = std::holds_alternative<std::monostate>(row[i]);
      const bool time = columns_[i].is_time && !options_.raw;
      // Bytes that are no UTF-8 are shown as they are here, not replaced.
      cells.push_back(null   ? options_.null_text
                      : text ? base::printable(*text)
                             : value_text(row[i], columns_[i].is_time, options_.raw).value_or(""));
      numbers.push_back(null || columns_[i].right || (text == nullptr && !time));
      if (!null && i < has_value_.size()) has_value_[i] = true;
    }
    if (measured_) {
      print(cells);
    } else {
      for (const auto& cell : cells) held_bytes_ += cell.size();
      if (all_numbers_.empty()) all_numbers_.assign(columns_.size(), true);
      for (std::size_t i = 0; i < numbers.size(); ++i) all_numbers_[i] = all_numbers_[i] && numbers[i];
      held_.push_back(std::move(cells));
      if (held_.size() >= measured_rows || held_bytes_ >= measured_bytes) release();
    }
    return out_.good();
  }

  void finish(const event::Completeness&, const std::string&) override {
    if (!measured_) release();
  }

 private:
  void release() {
    measured_ = true;
    std::vector<std::size_t> headers;
    for (const auto& column : columns_) headers.push_back(display_width(base::printable(column.name)));
    widths_ = headers;
    for (const auto& cells : held_) {
      for (std::size_t i = 0; i < cells.size(); ++i) widths_[i] = std::max(widths_[i], display_width(cells[i]));
    }
    std::vector<bool> whole;
    for (const auto& column : columns_) whole.push_back(column.whole || (column.is_time && !options_.raw));
    if (options_.width > 0) widths_ = fit_columns(std::move(widths_), headers, options_.width, whole);
    if (all_numbers_.empty() || held_.empty()) all_numbers_.assign(columns_.size(), false);
    for (std::size_t i = 0; i < has_value_.size(); ++i) all_numbers_[i] = all_numbers_[i] && has_value_[i];
    print_header();
    for (const auto& cells : held_) print(cells);
    held_.clear();
  }

  void print_header() {
    std::vector<std::string> names;
    for (const auto& column : columns_) names.push_back(base::printable(column.name));
    if (options_.colour) out_ << "\x1b[1m";
    print(names);
    if (options_.colour) out_ << "\x1b[0m";
    std::string rule;
    for (std::size_t i = 0; i < widths_.size(); ++i) {
      rule += (i > 0 ? std::string(gap, ' ') : "") + std::string(widths_[i], '-');
    }
    out_ << rule << '\n';
  }

  void print(const std::vector<std::string>& cells) {
    std::string line;
    std::size_t blanks = 0;  // owed, and not printed at the end of a line
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const bool last = i + 1 == cells.size();
      const std::string cell = options_.width > 0 ? shortened(cells[i], widths_[i]) : cells[i];
      const std::size_t used = display_width(cell);
      const std::size_t padding = widths_[i] > used ? widths_[i] - used : 0;
      if (all_numbers_[i]) blanks += padding;
      if (!cell.empty()) {
        line.append(blanks, ' ');
        blanks = 0;
      }
      line += cell;
      if (!last) blanks += gap + (all_numbers_[i] ? 0 : padding);
    }
    out_ << line << '\n';
  }

  RenderOptions options_;
  std::ostream& out_;
  std::vector<OutputColumn> columns_;
  std::vector<bool> all_numbers_, has_value_;
  std::vector<std::vector<std::string>> held_;
  std::size_t held_bytes_ = 0;
  bool measured_ = false;
  std::vector<std::size_t> widths_;
};

}  // namespace

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) {
    const auto [point, length] = next_code_point(text);
    width += width_of(point);
    text.remove_prefix(length);
  }
  return width;
}

std::string shortened(std::string_view text, std::size_t width) {
  if (display_width(text) <= width) return std::string(text);
  std::string out;
  std::size_t used = 0;
  while (!text.empty()) {
    const auto [point, length] = next_code_point(text);
    if (used + width_of(point) + 1 > width) break;
    used += width_of(point);
    out += text.substr(0, length);
    text.remove_prefix(length);
  }
  if (width > 0) out += ellipsis;
  return out;
}

std::vector<std::size_t> fit_columns(std::vector<std::size_t> widths, const std::vector<std::size_t>& headers,
                                     std::size_t width, const std::vector<bool>& whole) {
  if (widths.empty()) return widths;
  constexpr std::size_t least = 8;
  const auto floor_of = [&](std::size_t i) { return std::min(least, std::max<std::size_t>(headers[i], 1)); };
  std::size_t total = gap * (widths.size() - 1);
  for (auto& w : widths) {
    w = std::min(w, std::max<std::size_t>(width, 1));
    total += w;
  }
  for (const bool cut_all : {false, true}) {
    while (total > width) {
      std::size_t widest = widths.size();
      for (std::size_t i = 0; i < widths.size(); ++i) {
        if (!cut_all && i < whole.size() && whole[i]) continue;
        if (widths[i] > floor_of(i) && (widest == widths.size() || widths[i] > widths[widest])) widest = i;
      }
      if (widest == widths.size()) break;  // at last: too many columns for this terminal, they wrap
      --widths[widest];
      --total;
    }
  }
  return widths;
}

std::unique_ptr<RowWriter> make_table_writer(const RenderOptions& options, std::ostream& out) {
  return std::make_unique<TableWriter>(options, out);
}

}  // namespace daemoneye::cli
