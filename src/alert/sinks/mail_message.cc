#include "alert/sinks/mail_message.h"

#include <time.h>

#include <algorithm>

#include "alert/formats/formats.h"
#include "base/hash.h"
#include "base/text.h"

namespace daemoneye::alert {
namespace {

constexpr std::size_t base64_line = 76, encoded_word_bytes = 42;

std::string base64(std::string_view bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    const std::size_t have = std::min<std::size_t>(3, bytes.size() - i);
    for (std::size_t j = 0; j < 3; ++j) {
      group = group << 8 | (j < have ? static_cast<unsigned char>(bytes[i + j]) : 0U);
    }
    for (std::size_t j = 0; j < 4; ++j) out += j <= have ? digits[group >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

std::string body_part(std::string_view type, std::string_view text) {
  std::string part =
      "Content-Type: " + std::string(type) + "; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n";
  const std::string encoded = base64(text);
  for (std::size_t at = 0; at < encoded.size(); at += base64_line) part += encoded.substr(at, base64_line) + "\r\n";
  return part;
}

std::string date_of(Timestamp time) {
  const time_t seconds = time.ns / 1'000'000'000;
  tm parts{};
  char text[64];
  if (::gmtime_r(&seconds, &parts) == nullptr) return {};
  return {text, ::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S +0000", &parts)};
}

bool is_plain(std::string_view text) {
  return text.find("=?") == std::string_view::npos &&
         std::ranges::all_of(text, [](char c) { return c >= 0x20 && c < 0x7f; });
}

std::string word_of(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 128)) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
    out += plain ? c : '_';
  }
  return out;
}

}  // namespace

bool is_mail_address(std::string_view text) {
  constexpr std::string_view local = "!#$%&'*+-/=?^_`{|}~.";
  const auto letter_or_digit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  const auto at = text.find('@');
  if (text.size() > 254 || at == std::string_view::npos || at == 0 || at > 64 || at + 1 == text.size()) return false;
  return std::ranges::all_of(text.substr(0, at), [&](char c) { return letter_or_digit(c) || local.contains(c); }) &&
         std::ranges::all_of(text.substr(at + 1), [&](char c) { return letter_or_digit(c) || c == '-' || c == '.'; });
}

std::string encoded_subject(std::string_view text) {
  std::string line = shortened(base::printable(text.substr(0, max_subject_bytes)), max_subject_bytes);
  if (text.size() > max_subject_bytes) line += "…";
  if (is_plain(line)) return line;
  std::string out;
  std::string_view rest = line;
  while (!rest.empty()) {
    const std::string word = shortened(rest, encoded_word_bytes);
    out += (out.empty() ? "=?UTF-8?B?" : "\r\n =?UTF-8?B?") + base64(word) + "?=";
    rest.remove_prefix(word.size());
  }
  return out;
}

std::string mail_message(const store::Alert& alert, const MailHead& head, std::string_view text,
                         std::string_view html) {
  std::string severity(store::to_string(alert.severity));
  for (char& c : severity) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  const std::string boundary = "=_" + base::to_hex(base::sha256(alert.alert_id)).substr(0, 32);
  std::string out;
  const auto field = [&](std::string_view name, const std::string& value) {
    out += name;
    out += ": " + value + "\r\n";
  };
  field("Date", date_of(alert.time));
  field("From", head.from);
  std::string recipients;
  for (const auto& one : head.to) recipients += (recipients.empty() ? "" : ",\r\n ") + one;
  field("To", recipients);
  field("Subject", encoded_subject(head.subject_prefix + severity + ": " + alert.title + " (" + alert.host + ')'));
  field("Message-ID", '<' + word_of(alert.alert_id) + head.from.substr(head.from.find('@')) + '>');
  field("Auto-Submitted", "auto-generated");
  field("X-DaemonEye-Alert-Id", word_of(alert.alert_id));
  field("X-DaemonEye-Rule-Id", word_of(alert.rule_id));
  if (alert.severity >= store::Severity::high) field("Importance", "high");
  field("MIME-Version", "1.0");
  field("Content-Type", "multipart/alternative; boundary=\"" + boundary + '"');
  out += "\r\n--" + boundary + "\r\n" + body_part("text/plain", text);
  out += "--" + boundary + "\r\n" + body_part("text/html", html);
  return out + "--" + boundary + "--\r\n";
}

}  // namespace daemoneye::alert
