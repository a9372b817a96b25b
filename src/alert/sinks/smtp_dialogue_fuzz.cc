// What an SMTP server says, and what is said to it, a line each: whatever it is, little of it is kept.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "alert/sinks/smtp_dialogue.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using daemoneye::alert::SmtpDialogue;
  SmtpDialogue dialogue;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  while (!rest.empty()) {
    const auto line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(line.size() + (line.size() < rest.size() ? 1 : 0));
    if (line.starts_with('>'))
      dialogue.command(line.substr(1));
    else
      dialogue.answer(line);
  }
  if (dialogue.refused_for_good() && dialogue.last_refusal().empty()) std::abort();
  if (dialogue.last_refusal().size() > SmtpDialogue::max_kept_bytes) std::abort();
  if (dialogue.refused_recipients().size() > SmtpDialogue::max_refused) std::abort();
  for (const auto& one : dialogue.refused_recipients()) {
    if (one.size() > 2 * SmtpDialogue::max_kept_bytes + 2) std::abort();
  }
  return 0;
}
