// RFC 5322: an alert as a mail of two alternatives, text and HTML.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "store/alert.h"

namespace daemoneye::alert {

struct MailHead {
  std::string from;
  std::vector<std::string> to;
  std::string subject_prefix;
};

// True for an address that stands in a header or an SMTP command as it is.
bool is_mail_address(std::string_view text);
// "Subject" by RFC 2047 where it must be, folded, at most max_subject_bytes of `text`.
inline constexpr std::size_t max_subject_bytes = 200;
std::string encoded_subject(std::string_view text);
// The whole message with CRLF line ends. The Message-ID is made of the alert's id: the same alert is the same mail.
std::string mail_message(const store::Alert& alert, const MailHead& head, std::string_view text, std::string_view html);

}  // namespace daemoneye::alert
