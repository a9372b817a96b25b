#include "sql/group_spec.h"

#include <limits>

#include "base/text.h"

namespace daemoneye::sql {
namespace {

// Numbers end with a space; a value is `a` (argument), `i` and a number, or `t`, its length and its bytes.
void put(std::string& out, std::int64_t number) { out += std::to_string(number) + ' '; }

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  std::int64_t number() {
    const auto end = text_.find(' ');
    const auto value = base::parse_integer<std::int64_t>(text_.substr(0, end));
    if (end == std::string_view::npos || !value) {
      ok_ = false;
      return 0;
    }
    text_.remove_prefix(end + 1);
    return *value;
  }
  std::size_t count(std::size_t most) {
    const auto value = number();
    if (value < 0 || static_cast<std::uint64_t>(value) > most) ok_ = false;
    return ok_ ? static_cast<std::size_t>(value) : 0;
  }
  std::vector<event::Column> columns() {
    std::vector<event::Column> list;
    for (auto left = count(event::column_count); left > 0 && ok_; --left) list.push_back(column());
    return list;
  }
  event::Column column() { return static_cast<event::Column>(count(event::column_count - 1)); }
  std::optional<event::Value> value() {
    const char kind = text_.empty() ? '?' : text_.front();
    if (!text_.empty()) text_.remove_prefix(1);
    if (kind == 'i') return event::Value(number());
    if (kind == 't') {
      const auto size = count(text_.size());
      if (!ok_ || size > text_.size()) {
        ok_ = false;
        return std::nullopt;
      }
      event::Value made = std::string(text_.substr(0, size));
      text_.remove_prefix(size);
      return made;
    }
    if (kind != 'a') ok_ = false;
    return std::nullopt;
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return text_.empty(); }

 private:
  std::string_view text_;
  bool ok_ = true;
};

}  // namespace

bool has_few_values(event::Column column) {
  switch (column) {
    case event::Column::process_key:
    case event::Column::parent_key:
    case event::Column::pid:
    case event::Column::ppid:
    case event::Column::command_line:
    case event::Column::arguments:
    case event::Column::parent_command_line:
    case event::Column::memory_usage: return false;
    default: return true;
  }
}

std::string encode(const GroupSpec& spec) {
  std::string out;
  put(out, spec.whole ? 1 : 0);
  for (const auto* const list : {&spec.by, &spec.extremes}) {
    put(out, static_cast<std::int64_t>(list->size()));
    for (const auto column : *list) put(out, static_cast<std::int64_t>(column));
  }
  put(out, static_cast<std::int64_t>(spec.conditions.size()));
  for (const auto& condition : spec.conditions) {
    put(out, static_cast<std::int64_t>(condition.column));
    put(out, static_cast<std::int64_t>(condition.op));
    put(out, condition.negated ? 1 : 0);
    put(out, static_cast<std::int64_t>(condition.values.size()));
    for (const auto& value : condition.values) {
      if (!value) {
        out += 'a';
      } else if (const auto* const text = std::get_if<std::string>(&*value)) {
        out += 't';
        put(out, static_cast<std::int64_t>(text->size()));
        out += *text;
      } else {
        out += 'i';
        put(out, std::get<std::int64_t>(*value));
      }
    }
  }
  return out;
}

Result<GroupSpec> decode_group_spec(std::string_view text) {
  Reader in(text);
  GroupSpec spec;
  spec.whole = in.count(1) == 1;
  spec.by = in.columns();
  spec.extremes = in.columns();
  for (auto left = in.count(predicate::max_conditions); left > 0 && in.ok(); --left) {
    GroupCondition condition;
    condition.column = in.column();
    condition.op =
        static_cast<predicate::Operator>(in.count(static_cast<std::size_t>(predicate::Operator::is_not_null)));
    condition.negated = in.count(1) == 1;
    for (auto values = in.count(predicate::max_in_values); values > 0 && in.ok(); --values)
      condition.values.push_back(in.value());
    spec.conditions.push_back(std::move(condition));
  }
  if (!in.ok() || !in.at_end()) return fail(Errc::internal, "a grouped reading that cannot be understood");
  return spec;
}

}  // namespace daemoneye::sql
