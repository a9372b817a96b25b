#include "store/tail_search.h"

#include <algorithm>

#include "base/bytes.h"
#include "predicate/substring.h"
#include "store/block_format.h"

namespace daemoneye::store {
namespace {

using event::Column;
using predicate::Operator;

// Whose texts lie in the encoding as they are.
bool is_verbatim(Column column) {
  return encoding_of(column) == Encoding::text && column != Column::executable_hash && column != Column::arguments;
}

bool holds(std::string_view bytes, std::string_view wanted, bool any_case, bool nul_is_space) {
  return wanted.empty() || wanted.find('\0') != std::string_view::npos ||
         predicate::Substring(wanted, any_case, nul_is_space).find(bytes) != std::string_view::npos;
}

// A process key as an event has its own: the boot id, the pid, the ticks.
bool holds_key(std::string_view bytes, std::string_view text) {
  const auto key = event::parse_process_key(text);
  if (!key) return false;  // no process has it
  std::string encoded;
  base::ByteWriter out(encoded);
  out.raw({reinterpret_cast<const char*>(key->boot.data()), key->boot.size()});
  out.varint(key->pid);
  out.varint(key->start_ticks);
  return bytes.find(encoded) != std::string_view::npos;
}

// Small pids have so few bytes that they are found everywhere; large ones are not.
bool holds_pid(std::string_view bytes, std::int64_t pid) {
  if (pid < 0) return false;
  std::string encoded;
  base::ByteWriter out(encoded);
  out.varint(static_cast<std::uint64_t>(pid));
  return bytes.find(encoded) != std::string_view::npos;
}

bool may_equal(std::string_view bytes, Column column, const event::Value& value) {
  if (const auto* const number = std::get_if<std::int64_t>(&value)) {
    return (column != Column::pid && column != Column::ppid) || holds_pid(bytes, *number);
  }
  const auto* const text = std::get_if<std::string>(&value);
  if (text == nullptr) return true;
  if (column == Column::process_key) return holds_key(bytes, *text);
  if (column == Column::command_line) return holds(bytes, *text, false, true);
  return !is_verbatim(column) || holds(bytes, *text, false, false);
}

}  // namespace

bool may_match(std::string_view canonical, const predicate::Predicate& predicate) {
  const auto& conditions = predicate.conditions();
  for (std::size_t i = 0; i < conditions.size(); ++i) {
    const auto& condition = conditions[i];
    if (condition.negated) continue;
    if (condition.op == Operator::equal || condition.op == Operator::in) {
      const bool possible = std::ranges::any_of(
          condition.values, [&](const event::Value& value) { return may_equal(canonical, condition.column, value); });
      if (!possible) return false;
    } else if (const auto& literal = predicate.literal(i);
               literal && (is_verbatim(condition.column) || condition.column == Column::command_line)) {
      if (!holds(canonical, literal->text, literal->any_case, condition.column == Column::command_line)) return false;
    }
  }
  return true;
}

}  // namespace daemoneye::store
