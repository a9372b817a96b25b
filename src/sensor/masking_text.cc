#include "sensor/masking_text.h"

#include <algorithm>
#include <array>

#include "sensor/characters.h"
#include "sensor/masking_names.h"

namespace daemoneye::sensor {
namespace {

constexpr std::size_t npos = std::string_view::npos;
constexpr std::string_view kBlank = " \t\r\n";
constexpr std::string_view kQuotes = "\"'`";
// A user part of a URL without a password is a token when it is as long as tokens are.
constexpr std::size_t kTokenLength = 20;

constexpr std::array<std::string_view, 9> kAuthorizationSchemes = {
    "bearer", "basic", "digest", "token", "negotiate", "ntlm", "apikey", "hawk", "aws4-hmac-sha256"};

bool equals_ignoring_case(std::string_view text, std::string_view lower) {
  return std::ranges::equal(
      text, lower, [](char a, char b) { return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b; });
}

class TextMasker {
 public:
  explicit TextMasker(std::string_view in) : in_(in) {}

  // The masked text when it differs.
  bool run(std::string& out) {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '=' && name_begin_ < at_)
        assignment();
      else if (c == ':' && in_.substr(at_).starts_with("://"))
        url();
      else if (c == ':')
        member_or_header();
      else
        step();
    }
    if (copied_ == 0) return false;
    out_.append(in_.substr(copied_));
    if (out_ == in_) return false;
    out = std::move(out_);
    return true;
  }

 private:
  void step() {
    if (!is_name_character(in_[at_])) name_begin_ = at_ + 1;
    ++at_;
  }

  // Everything before `begin` stays, [begin, end) becomes the mask; goes on behind it.
  void mask(std::size_t begin, std::size_t end) {
    out_.append(in_.substr(copied_, begin - copied_));
    out_.append(kMask);
    copied_ = at_ = name_begin_ = end;
  }

  [[nodiscard]] std::string_view name() const { return in_.substr(name_begin_, at_ - name_begin_); }

  // The end of a quoted value that begins behind the quote at `quote`: a backslash keeps the next character in.
  [[nodiscard]] std::size_t end_of_quoted(std::size_t quote) const {
    for (auto i = quote + 1; i < in_.size(); ++i) {
      if (in_[i] == '\\')
        ++i;
      else if (in_[i] == in_[quote])
        return i;
    }
    return in_.size();
  }

  void assignment() {
    const bool in_query = name_begin_ > 0 && (in_[name_begin_ - 1] == '?' || in_[name_begin_ - 1] == '&');
    const bool secret = is_secret_name(name(), SecretWord::anywhere) ||
                        (in_query && (equals_ignoring_case(name(), "sig") || name().ends_with("ignature")));
    const auto begin = at_ + 1;
    if (!secret || begin >= in_.size()) return step();
    if (kQuotes.contains(in_[begin])) {
      const auto end = end_of_quoted(begin);
      return end > begin + 1 ? mask(begin + 1, end) : step();
    }
    // An assignment that is the whole argument ends with it. Otherwise it ends where a shell, a query or a connection
    // string goes on: nothing of what follows may hide behind a secret.
    auto end = in_.find_first_of(" \t\r\n;|&<>()\"'`,", begin);
    if (name_begin_ == 0 && in_.find_first_of(" \t\r\n;|`", begin) == npos) end = in_.size();
    end = std::min(end, in_.size());
    if (end > begin)
      mask(begin, end);
    else
      step();
  }

  void url() {
    constexpr std::size_t kSeparator = 3;
    const auto begin = at_ + kSeparator;
    const auto end = std::min(in_.find_first_of("/?# \t\r\n\"'`<>", begin), in_.size());
    auto sign = in_.substr(begin, end - begin).rfind('@');
    if (sign != npos) {
      sign += begin;
    } else {
      sign = slash_in_password(begin, end);
      if (sign == npos) {
        at_ = name_begin_ = begin;
        return;
      }
    }
    const auto colon = in_.substr(0, sign).find(':', begin);
    if (colon != npos) {
      if (sign > colon + 1) return mask(colon + 1, sign);
    } else if (sign - begin >= kTokenLength) {
      return mask(begin, sign);
    }
    at_ = name_begin_ = begin;
  }

  // user:pa/ss@host: what follows the colon is no port, and an '@' comes later in the same word.
  std::size_t slash_in_password(std::size_t begin, std::size_t end) {
    const auto colon = in_.substr(0, end).find(':', begin);
    if (colon == npos || colon + 1 == end) return npos;
    const auto port = in_.substr(colon + 1, end - colon - 1);
    if (std::ranges::all_of(port, [](char c) { return c >= '0' && c <= '9'; })) return npos;
    if (word_end_ < end) {  // looked for once a word, so that many URLs in one stay linear
      word_end_ = std::min(in_.find_first_of(" \t\r\n\"'`<>", end), in_.size());
      last_sign_ = in_.substr(0, word_end_).rfind('@');
    }
    return last_sign_ != npos && last_sign_ > end ? last_sign_ : npos;
  }

  // "token": "…" and Name: …
  void member_or_header() {
    auto name_end = at_;
    auto name_start = name_begin_;
    if (name_end > 0 && name_start == name_end && (in_[name_end - 1] == '"' || in_[name_end - 1] == '\'')) {
      name_end = at_ - 1;
      name_start = quoted_name_begin(name_end);
    }
    auto key = in_.substr(name_start, name_end - name_start);
    if (name_start == 0 && key.starts_with("-H")) key.remove_prefix(2);  // curl -HName:value
    while (!key.empty() && key.front() == '-') key.remove_prefix(1);
    const bool header = is_secret_header(key);
    if (key.empty() || (!header && !is_secret_name(key, SecretWord::last))) return step();
    auto begin = at_ + 1;
    while (begin < in_.size() && in_[begin] == ' ') ++begin;
    if (begin >= in_.size()) return step();
    if (in_[begin] == '"' || in_[begin] == '\'') {
      const auto end = end_of_quoted(begin);
      return end > begin + 1 ? mask(begin + 1, end) : step();
    }
    // openssl's pass:SECRET; an image's name as in vault/secret:latest is none of ours.
    const bool pass_source = name_start == 0 && equals_ignoring_case(key, "pass");
    if (!header && !pass_source && begin == at_ + 1) return step();
    if (header) begin = behind_scheme(begin);
    // A header goes on to the end of its line or quotation, other values to the end of the word.
    auto end = in_.find_first_of(header ? "\r\n\"'" : " \t\r\n\"',;}", begin);
    if (pass_source) end = npos;
    end = std::min(end, in_.size());
    if (end > begin)
      mask(begin, end);
    else
      step();
  }

  [[nodiscard]] std::size_t quoted_name_begin(std::size_t end) const {
    constexpr std::size_t kMaxName = 128;
    auto begin = end;
    while (begin > copied_ && end - begin < kMaxName && is_name_character(in_[begin - 1])) --begin;
    return begin;
  }

  // "Bearer " and its kind stay readable.
  [[nodiscard]] std::size_t behind_scheme(std::size_t begin) const {
    const auto blank = in_.find_first_of(kBlank, begin);
    if (blank == npos) return begin;
    const auto scheme = in_.substr(begin, blank - begin);
    for (const auto known : kAuthorizationSchemes) {
      if (!equals_ignoring_case(scheme, known)) continue;
      const auto value = in_.find_first_not_of(' ', blank);
      return value == npos ? in_.size() : value;
    }
    return begin;
  }

  std::string_view in_;
  std::string out_;
  std::size_t at_ = 0, copied_ = 0;
  std::size_t name_begin_ = 0;  // of the run of name characters that ends at `at_`
  std::size_t word_end_ = 0, last_sign_ = npos;
};

}  // namespace

bool mask_text(std::string& text) {
  static constexpr Characters announcing{"=:"};
  if (!announcing.any_in(text)) return false;
  return TextMasker(text).run(text);
}

}  // namespace daemoneye::sensor
