#include "cli/render.h"

#include <charconv>
#include <cmath>
#include <ostream>
#include <set>

#include "base/text.h"
#include "cli/table.h"

namespace daemoneye::cli {
namespace {

std::string real_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  char buffer[64];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  std::string text(buffer, end);
  // A real that is whole stays recognisable as a real, as in SQLite.
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

class JsonWriter final : public RowWriter {
 public:
  JsonWriter(bool raw, std::ostream& out) : raw_(raw), out_(out) {}

  void begin(std::vector<OutputColumn> columns) override {
    columns_ = unique_names(std::move(columns));
    out_ << "{\"columns\":[";
    for (std::size_t i = 0; i < columns_.size(); ++i) out_ << (i == 0 ? "" : ",") << base::json_quote(columns_[i].name);
    out_ << "],\"rows\":[";
  }
  bool row(const Row& row) override {
    out_ << (first_ ? "\n" : ",\n") << row_json(row, columns_, raw_);
    first_ = false;
    return out_.good();
  }
  void finish(const event::Completeness& completeness, const std::string& error) override {
    out_ << (first_ ? "]" : "\n]") << ",\"completeness\":" << event::to_json(completeness, raw_);
    if (!error.empty()) out_ << ",\"error\":" << base::json_quote(error);
    for (const auto& [name, json] : more_) out_ << ',' << base::json_quote(name) << ':' << json;
    out_ << "}\n";
  }
  void add(std::string_view name, std::string json) override { more_.emplace_back(name, std::move(json)); }

  static std::string row_json(const Row& row, const std::vector<OutputColumn>& columns, bool raw) {
    std::string line = "{";
    for (std::size_t i = 0; i < row.size() && i < columns.size(); ++i) {
      if (i > 0) line += ',';
      line += base::json_quote(columns[i].name) + ':' + value_json(row[i], columns[i].is_time, raw);
    }
    return line + '}';
  }

 private:
  bool raw_;
  std::ostream& out_;
  std::vector<OutputColumn> columns_;
  bool first_ = true;
  std::vector<std::pair<std::string, std::string>> more_;
};

class JsonLinesWriter final : public RowWriter {
 public:
  JsonLinesWriter(bool raw, std::ostream& out) : raw_(raw), out_(out) {}
  void begin(std::vector<OutputColumn> columns) override { columns_ = unique_names(std::move(columns)); }
  bool row(const Row& row) override {
    out_ << JsonWriter::row_json(row, columns_, raw_) << '\n';
    return out_.good();
  }
  void finish(const event::Completeness&, const std::string&) override {}

 private:
  bool raw_;
  std::ostream& out_;
  std::vector<OutputColumn> columns_;
};

class CsvWriter final : public RowWriter {
 public:
  CsvWriter(const RenderOptions& options, std::ostream& out)
      : raw_(options.raw), terminal_(options.terminal), out_(out) {}
  void begin(std::vector<OutputColumn> columns) override {
    columns_ = std::move(columns);
    for (std::size_t i = 0; i < columns_.size(); ++i) out_ << (i == 0 ? "" : ",") << csv_field(columns_[i].name);
    out_ << "\r\n";
  }
  bool row(const Row& row) override {
    for (std::size_t i = 0; i < row.size() && i < columns_.size(); ++i) {
      auto text = value_text(row[i], columns_[i].is_time, raw_);
      if (text) text = terminal_ ? base::printable(*text) : base::to_valid_utf8(*text);
      out_ << (i == 0 ? "" : ",") << csv_field(text);
    }
    out_ << "\r\n";
    return out_.good();
  }
  void finish(const event::Completeness&, const std::string&) override {}

 private:
  bool raw_, terminal_;
  std::ostream& out_;
  std::vector<OutputColumn> columns_;
};

}  // namespace

std::vector<OutputColumn> unique_names(std::vector<OutputColumn> columns) {
  std::set<std::string> taken;
  for (const auto& column : columns) taken.insert(column.name);
  std::set<std::string> used;
  for (auto& column : columns) {
    if (used.insert(column.name).second) continue;
    for (int n = 2;; ++n) {
      const std::string name = column.name + '_' + std::to_string(n);
      if (taken.insert(name).second) {
        used.insert(name);
        column.name = name;
        break;
      }
    }
  }
  return columns;
}

std::optional<std::string> value_text(const event::Value& value, bool is_time, bool raw) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    return is_time && !raw ? base::to_iso(Timestamp{*integer}) : std::to_string(*integer);
  }
  if (const auto* real = std::get_if<double>(&value)) return real_text(*real);
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  return std::nullopt;
}

std::string value_json(const event::Value& value, bool is_time, bool raw) {
  const auto text = value_text(value, is_time, raw);
  if (!text) return "null";
  const auto* real = std::get_if<double>(&value);
  const bool number =
      std::holds_alternative<std::int64_t>(value) ? !is_time || raw : real != nullptr && std::isfinite(*real);
  return number ? *text : base::json_quote(*text);
}

std::string csv_field(const std::optional<std::string>& text) {
  if (!text) return {};
  if (!text->empty() && text->find_first_of(",\"\r\n") == std::string::npos) return *text;
  std::string quoted = "\"";
  for (const char c : *text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string completeness_text(const event::Completeness& completeness) {
  if (completeness.complete()) return "completeness: complete\n";
  std::string text = "completeness: degraded\n";
  for (const auto& reason : completeness.reasons) {
    text += "  " + base::printable(reason.reason);
    if (reason.count) text += ", " + std::to_string(*reason.count);
    if (reason.from) text += ", from " + base::to_iso(*reason.from);
    if (reason.to) text += ", to " + base::to_iso(*reason.to);
    text += '\n';
  }
  return text;
}

std::unique_ptr<RowWriter> make_row_writer(const RenderOptions& options, std::ostream& out) {
  switch (options.format) {
    case Format::table: return make_table_writer(options, out);
    case Format::json: return std::make_unique<JsonWriter>(options.raw, out);
    case Format::jsonl: return std::make_unique<JsonLinesWriter>(options.raw, out);
    case Format::csv: return std::make_unique<CsvWriter>(options, out);
  }
  return nullptr;
}

}  // namespace daemoneye::cli
