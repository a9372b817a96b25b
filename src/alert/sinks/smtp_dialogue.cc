#include "alert/sinks/smtp_dialogue.h"

#include "base/text.h"

namespace daemoneye::alert {
namespace {

constexpr int too_large = 552;

// The three digits that a line of an answer begins with; 0: none.
int code_of(std::string_view line) {
  if (line.size() < 3) return 0;
  int code = 0;
  for (const char c : line.substr(0, 3)) {
    if (c < '0' || c > '9') return 0;
    code = code * 10 + (c - '0');
  }
  return code;
}

}  // namespace

void SmtpDialogue::command(std::string_view line) {
  constexpr std::string_view rcpt = "RCPT TO:";
  if (line.starts_with("MAIL FROM:")) {
    *this = {};
    stage_ = Stage::sender;
  } else if (line.starts_with(rcpt)) {
    stage_ = Stage::recipient;
    recipient_ = base::trim(line.substr(rcpt.size())).substr(0, max_kept_bytes);
  } else if (line.starts_with("DATA")) {
    stage_ = Stage::data;
  } else if (!line.empty() && line[0] >= 'A' && line[0] <= 'Z') {
    stage_ = Stage::other;  // QUIT, say, which is answered with a 2xx
  }
}

void SmtpDialogue::answer(std::string_view line) {
  const int code = code_of(line);
  if (stage_ == Stage::recipient && code >= 200 && code < 300) recipient_accepted_ = true;
  if (code < 400 || code > 599) return;
  refusal_ = code;
  refusal_at_ = stage_;
  last_refusal_ = line.substr(0, max_kept_bytes);
  if (stage_ != Stage::recipient) return;
  if (code < 500) recipient_for_now_ = true;
  if (refused_.size() < max_refused) refused_.push_back(recipient_ + ": " + last_refusal_);
}

bool SmtpDialogue::refused_for_good() const {
  if (refusal_ < 500) return false;
  switch (refusal_at_) {
    case Stage::other: return false;
    case Stage::sender: return refusal_ == too_large;
    case Stage::recipient: return !recipient_accepted_ && !recipient_for_now_;
    case Stage::data: return true;
  }
  return false;
}

}  // namespace daemoneye::alert
