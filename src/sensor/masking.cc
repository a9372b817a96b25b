#include "sensor/masking.h"

#include <optional>

#include "sensor/characters.h"
#include "sensor/masking_names.h"
#include "sensor/masking_text.h"

namespace daemoneye::sensor {
namespace {

constexpr std::size_t npos = std::string_view::npos;
constexpr Characters kBlank{" \t\r\n"};
// Without one of these an argument is neither a command line nor holds a pattern of mask_text().
constexpr Characters kOfTexts{"=: \t\r\n"};
constexpr Characters kEndsWord{" \t\r\n;|&()<>`"};
constexpr std::size_t kShortestLongOption = 4;  // "-pass": a longer word behind one dash is one option, not letters

// Options and their values, one word after the other.
class OptionMasker {
 public:
  explicit OptionMasker(std::string_view program) : tool_(find_tool(program)) {}

  // Whether next() would leave `word` as it is; then this has been next() for it.
  bool pass(std::string_view word) {
    if (expected_ != Carries::nothing || word.starts_with('-')) return false;
    // sudo mysql …, docker exec db mysql …: from here on it is that tool's command line.
    if (const auto* tool = find_tool(word)) {
      tool_ = tool;
      after_login_ = false;
      return true;
    }
    if (word == "login") after_login_ = true;
    if (tool_ != nullptr && !keyword_of(*tool_).empty() && word == keyword_of(*tool_)) expected_ = Carries::secret;
    return true;
  }

  // Masks `word`; true when it changed.
  bool next(std::string& word) {
    const auto expected = expected_;
    expected_ = Carries::nothing;
    // Another long option shows that the one before it took no value.
    if (expected != Carries::nothing && !word.starts_with("--")) return value(word, 0, expected);
    if (pass(word) || word.size() < 2) return false;
    if (long_option(word)) return changed_;
    return short_option(word);
  }

 private:
  // [begin, end of word) is what an option carries.
  static bool value(std::string& word, std::size_t begin, Carries carries, char separator) {
    if (carries == Carries::user_and_secret) {
      const auto at = word.find(separator, begin);
      if (at == npos) return false;
      begin = at + 1;
    }
    if (begin >= word.size() || std::string_view(word).substr(begin) == kMask) return false;
    word.replace(begin, npos, kMask);
    return true;
  }
  bool value(std::string& word, std::size_t begin, Carries carries) const {
    return value(word, begin, carries, tool_ != nullptr ? user_separator(*tool_) : ':');
  }

  // --name, --name=value, -name, -name=value. True when it was one; changed_ says what came of it.
  bool long_option(std::string& word) {
    changed_ = false;
    const std::string_view view = word;
    const auto dashes = view.starts_with("--") ? std::size_t{2} : std::size_t{1};
    const auto equals = view.find('=');
    const auto name = view.substr(dashes, equals == npos ? npos : equals - dashes);
    if (!is_name(name) || (dashes == 1 && name.size() < kShortestLongOption)) return false;
    auto carries = Carries::nothing;
    if (is_secret_name(name, equals == npos ? SecretWord::last : SecretWord::anywhere))
      carries = Carries::secret;
    else if (dashes == 2 && (name == "user" || name == "proxy-user") && tool_ != nullptr &&
             carried_by(*tool_, 'U', false) == Carries::user_and_secret) {
      carries = Carries::user_and_secret;
    }
    if (carries == Carries::nothing) return dashes == 2;
    if (equals == npos)
      expected_ = carries;
    else
      changed_ = value(word, equals + 1, carries);
    return true;
  }

  bool short_option(std::string& word) {
    if (tool_ == nullptr) return false;
    const auto flags = flag_letters(*tool_);
    std::size_t at = 1;
    while (at + 1 < word.size() && flags.contains(word[at])) ++at;
    const auto carries = carried_by(*tool_, word[at], after_login_);
    if (carries == Carries::nothing) return false;
    if (at + 1 < word.size()) {
      return value(word, at + 1, carries == Carries::attached_secret ? Carries::secret : carries);
    }
    if (carries != Carries::attached_secret) expected_ = carries;
    return false;
  }

  const Tool* tool_;
  Carries expected_ = Carries::nothing;  // of the next word
  bool after_login_ = false;
  bool changed_ = false;
};

// The end of the shell word at `begin`: quoted parts belong to it.
std::size_t end_of_word(std::string_view text, std::size_t begin) {
  char quote = 0;
  auto at = begin;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (kEndsWord.contains(c)) {
      break;
    }
  }
  return at;
}

// An argument of several words may be a command line: sh -c '…', ssh host '…', watch '…'.
bool mask_command_line(std::string& text) {
  if (!kBlank.any_in(text)) return false;
  OptionMasker options({});
  std::string out, word;
  bool changed = false;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = end_of_word(text, at);
    if (end == at) {
      out += text[at++];
      continue;
    }
    word.assign(text, at, end - at);
    changed |= options.next(word);
    out += word;
    at = end;
  }
  if (changed) text = std::move(out);
  return changed;
}

// What one pattern leaves can be another's: `TOKEN=(--password "a b"` is one assignment only without the blank.
bool mask_in_text(std::string& text) {
  constexpr int kMaxRounds = 8;
  int round = 0;
  while (round < kMaxRounds) {
    const bool by_pattern = mask_text(text);
    const bool by_option = mask_command_line(text);
    if (!by_pattern && !by_option) break;
    ++round;
  }
  return round > 0;
}

}  // namespace

bool mask_arguments(std::string_view name, std::string& nul_separated) {
  OptionMasker options(name);
  std::string out, argument;
  std::size_t copied = 0;  // of `in`, to `out`: all is copied only when something is masked
  const std::string_view in = nul_separated;
  const bool has_texts = kOfTexts.any_in(in);
  for (std::size_t at = 0; at < in.size();) {
    const auto end = std::min(in.find('\0', at), in.size());
    const auto word = in.substr(at, end - at);
    // The program's own name is not one of its options.
    const bool passed = at == 0 || options.pass(word);
    if (!passed || has_texts) {
      argument = word;
      bool changed = !passed && options.next(argument);
      if (has_texts) changed |= mask_in_text(argument);
      if (changed) {
        out.append(in, copied, at - copied);
        out += argument;
        copied = end;
      }
    }
    at = end + 1;
  }
  if (copied == 0) return false;
  out.append(in, copied);
  nul_separated = std::move(out);
  return true;
}

}  // namespace daemoneye::sensor
