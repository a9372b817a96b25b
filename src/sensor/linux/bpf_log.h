// libbpf prints its complaints; here they become part of an Error instead.
#pragma once

#include <string>

#include "base/result.h"

namespace daemoneye::sensor {

// While it lives, what libbpf prints in this thread is kept (bounded); in other threads and otherwise it is dropped.
class BpfLog {
 public:
  BpfLog();
  ~BpfLog();
  BpfLog(const BpfLog&) = delete;
  BpfLog& operator=(const BpfLog&) = delete;

  // "what: reason (libbpf's first line)"; says which capabilities are needed when those are missing.
  [[nodiscard]] std::unexpected<Error> fail(const std::string& what, int error) const;

 private:
  std::string text_;
};

}  // namespace daemoneye::sensor
