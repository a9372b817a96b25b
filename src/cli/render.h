// Rows to people and programs: an aligned table, JSON, JSON Lines, CSV.
#pragma once

#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "event/columns.h"
#include "event/completeness.h"

namespace daemoneye::cli {

enum class Format { table, json, jsonl, csv };

struct RenderOptions {
  Format format = Format::table;
  bool raw = false;  // times as integers
  bool colour = false;
  bool terminal = false;       // somebody sees it there: CSV, too, without control characters
  unsigned width = 0;          // of the terminal; 0: no terminal, lines may be of any length
  std::string null_text = "";  // in tables
};

struct OutputColumn {
  std::string name;
  bool is_time = false;  // integers become ISO 8601
  bool right = false;    // in tables to the right, though it is text
  bool whole = false;    // in tables the last to be cut, as times are: the beginning says nothing
};

using Row = std::vector<event::Value>;

// begin(), any number of row(), finish(): in this order. Nothing is thrown; a broken output is the stream's state.
class RowWriter {
 public:
  virtual ~RowWriter() = default;
  virtual void begin(std::vector<OutputColumn> columns) = 0;
  // False when the output takes no more.
  virtual bool row(const Row& row) = 0;
  // One more member of a JSON answer, `json` as it is; before finish(). Other formats have no place for it.
  virtual void add(std::string_view, std::string) {}
  // `error`: what ended the rows early, if anything. Only JSON holds completeness and error; the caller tells people.
  virtual void finish(const event::Completeness& completeness, const std::string& error) = 0;
};

std::unique_ptr<RowWriter> make_row_writer(const RenderOptions& options, std::ostream& out);

// Columns that are called alike get "_2", "_3", …: names are keys in JSON.
std::vector<OutputColumn> unique_names(std::vector<OutputColumn> columns);
// A value as text, not escaped; nothing for NULL.
std::optional<std::string> value_text(const event::Value& value, bool is_time, bool raw);
std::string value_json(const event::Value& value, bool is_time, bool raw);
// RFC 4180: quoted when it holds a comma, a quote or a line end. NULL is nothing at all, and the empty text is "".
std::string csv_field(const std::optional<std::string>& text);

// Terminal columns that a printable text takes.
std::size_t display_width(std::string_view text);
// The text, or its beginning and "…", in at most `width` terminal columns.
std::string shortened(std::string_view text, std::size_t width);

// "complete", or "degraded" and a line for each reason.
std::string completeness_text(const event::Completeness& completeness);

}  // namespace daemoneye::cli
