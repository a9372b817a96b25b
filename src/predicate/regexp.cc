#include <re2/re2.h>

#include "base/text.h"
#include "predicate/predicate.h"

namespace daemoneye::predicate {

struct Regexp::State {
  State(std::string_view pattern, const RE2::Options& options)
      : regexp(re2::StringPiece(pattern.data(), pattern.size()), options) {}
  RE2 regexp;
};

namespace {

bool is_ascii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  }
  return true;
}

}  // namespace

Regexp::Regexp(std::unique_ptr<State> state) : state_(std::move(state)) {}
Regexp::Regexp(Regexp&&) noexcept = default;
Regexp& Regexp::operator=(Regexp&&) noexcept = default;
Regexp::~Regexp() = default;

Result<Regexp> Regexp::compile(std::string_view pattern) {
  constexpr std::int64_t memory_bound = 2 * 1024 * 1024;  // of the program and its automaton's cache
  RE2::Options options;
  options.set_log_errors(false);
  options.set_dot_nl(true);
  options.set_max_mem(memory_bound);
  auto state = std::make_unique<State>(pattern, options);
  if (!state->regexp.ok()) {
    return fail(Errc::invalid_input, "not a regular expression: " + base::printable(state->regexp.error()));
  }
  return Regexp(std::move(state));
}

bool Regexp::matches(std::string_view text) const {
  if (is_ascii(text)) return RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), state_->regexp);
  return RE2::PartialMatch(base::to_valid_utf8(text), state_->regexp);
}

}  // namespace daemoneye::predicate
