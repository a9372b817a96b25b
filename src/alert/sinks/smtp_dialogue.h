// What an SMTP server said to which part of a mail. libcurl speaks; this listens, to know what a refusal is about.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace daemoneye::alert {

class SmtpDialogue {
 public:
  // One command as it is sent, without the mail itself.
  void command(std::string_view line);
  // One line of an answer.
  void answer(std::string_view line);

  // A 5xx to this mail itself: trying again unchanged cannot help. Refusals of a greeting, of a login or of the sender
  // are for the operator to mend, and the alert waits for that.
  [[nodiscard]] bool refused_for_good() const;
  // Recipients that were refused, with the answer: "<a@b.example>: 550 no such user". Raw; at most max_refused.
  [[nodiscard]] const std::vector<std::string>& refused_recipients() const { return refused_; }
  // The last refusal, raw and bounded; empty when there was none.
  [[nodiscard]] const std::string& last_refusal() const { return last_refusal_; }

  static constexpr std::size_t max_refused = 10, max_kept_bytes = 200;

 private:
  enum class Stage { other, sender, recipient, data };
  Stage stage_ = Stage::other;
  std::string recipient_, last_refusal_;
  std::vector<std::string> refused_;
  bool recipient_accepted_ = false, recipient_for_now_ = false;  // one was accepted; one was refused with a 4xx
  int refusal_ = 0;                                              // code of the last refusal, in refusal_at_
  Stage refusal_at_ = Stage::other;
};

}  // namespace daemoneye::alert
