// A write to a pipe or a TLS connection that nobody reads must be an error, not the end of the program.
#pragma once

#include <csignal>
#include <ctime>

namespace daemoneye::alert {

// Holds SIGPIPE back from this thread, and takes away one that came meanwhile.
class SigpipeBlock {
 public:
  SigpipeBlock();
  SigpipeBlock(const SigpipeBlock&) = delete;
  SigpipeBlock& operator=(const SigpipeBlock&) = delete;
  ~SigpipeBlock();

 private:
  sigset_t pipe_{}, before_{};
  bool was_pending_ = false;
};

}  // namespace daemoneye::alert
