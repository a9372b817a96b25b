#include "sigma/network.h"

#include <array>
#include <charconv>

#include "base/text.h"
#include "sigma/refused.h"

namespace daemoneye::sigma {
namespace {

// Takes a decimal number of at most `most` off the front.
unsigned take_number(std::string_view& text, unsigned most, const Refused& otherwise) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || value > most) throw otherwise;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

// One of the numbers `from` to `to`, as they are written without leading zeros.
std::string one_of(unsigned from, unsigned to) {
  if (from == 0 && to == 255) return "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
  std::string all;
  for (unsigned number = from; number <= to; ++number) all += (all.empty() ? "" : "|") + std::to_string(number);
  return from == to ? all : "(?:" + all + ")";
}

}  // namespace

std::string network_regexp(std::string_view range) {
  const Refused wrong("cidr: " + base::printable(range.substr(0, 64)) + " is not an IPv4 range like 192.168.0.0/16");
  if (range.find(':') != std::string_view::npos) {
    throw Refused("cidr: IPv6 addresses have more than one spelling, so that text cannot be held against a range");
  }
  std::array<unsigned, 4> octets{};
  for (std::size_t i = 0; i < octets.size(); ++i) {
    octets.at(i) = take_number(range, 255, wrong);
    if (i + 1 == octets.size()) break;
    if (!range.starts_with('.')) throw wrong;
    range.remove_prefix(1);
  }
  unsigned bits = 32;
  if (range.starts_with('/')) {
    range.remove_prefix(1);
    bits = take_number(range, 32, wrong);
  }
  if (!range.empty()) throw wrong;
  std::string out = "\\A";
  for (unsigned i = 0; i < octets.size(); ++i) {
    const unsigned fixed = bits >= 8 * (i + 1) ? 8 : bits > 8 * i ? bits - 8 * i : 0;
    const unsigned free_mask = 0xffU >> fixed;
    if ((octets.at(i) & free_mask) != 0) throw Refused("cidr: the address has bits beyond its prefix");
    out += (i == 0 ? "" : "\\.") + one_of(octets.at(i), octets.at(i) | free_mask);
  }
  return out + "\\z";
}

}  // namespace daemoneye::sigma
