// Names to addresses, with a deadline.
#pragma once

#include <netdb.h>

#include <memory>
#include <stop_token>
#include <string>

#include "base/result.h"
#include "base/time.h"

namespace daemoneye::alert {

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

// `socket_type`: SOCK_STREAM or SOCK_DGRAM. An address in digits needs no one's answer.
Result<Addresses> resolve(const std::string& host, std::uint16_t port, int socket_type, Deadline deadline,
                          const std::stop_token& stop);

}  // namespace daemoneye::alert
