#include "sql/regexp.h"

#include "base/text.h"

namespace daemoneye::sql {
namespace {

Result<predicate::Regexp> compile_bounded(std::string_view pattern) {
  if (pattern.size() > max_regexp_bytes) {
    return fail(Errc::limit_exceeded,
                "a regular expression has at most " + std::to_string(max_regexp_bytes) + " bytes");
  }
  return predicate::Regexp::compile(pattern);
}

}  // namespace

Result<void> check_regexp(std::string_view pattern) {
  DE_CHECK(compile_bounded(pattern));
  return {};
}

std::string quote_for_message(std::string_view text) { return "'" + base::printable(text.substr(0, 48)) + "'"; }

Result<bool> RegexpCache::matches(std::string_view pattern, std::string_view text) {
  if (entries_.empty() || entries_.front().pattern != pattern) {
    const auto found = by_pattern_.find(pattern);
    if (found == by_pattern_.end()) {
      DE_TRY(auto compiled, compile_bounded(pattern));
      if (entries_.size() >= capacity) {
        by_pattern_.erase(entries_.back().pattern);
        entries_.pop_back();
      }
      entries_.push_front({std::string(pattern), std::move(compiled)});
      by_pattern_.emplace(entries_.front().pattern, entries_.begin());
    } else {
      entries_.splice(entries_.begin(), entries_, found->second);
    }
  }
  return entries_.front().compiled.matches(text);
}

}  // namespace daemoneye::sql
