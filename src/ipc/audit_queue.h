// Requests for audit entries that the collector has not answered yet, kept in a file so that neither its absence nor
// the agent's own end loses one. Loop thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace daemoneye::ipc {

class AuditQueue {
 public:
  // Beyond these a request is refused, and counted as lost. An entry's payload is at most what the ledger takes.
  static constexpr std::size_t max_requests = 1000, max_request_bytes = 62 * 1024, max_file_bytes = 8 * 1024 * 1024;
  // Answered requests that may lie in the file before it is written anew; so many come twice after a crash, at most.
  static constexpr std::size_t max_answered_in_file = 100;

  // With what an earlier run left. Without a file (it cannot be made, say) the queue is in memory alone, and says so.
  static AuditQueue open(const std::string& path);

  // Durable when it returns true and there is no problem(); false: there is no room.
  bool push(std::string request);
  // The next one that was not sent; it counts as sent under `id` until it is answered.
  std::optional<std::string> next(std::uint64_t id);
  // True when `id` was one of ours.
  bool answered(std::uint64_t id);
  // It was not done, and may be later: it waits again, before all others. True when `id` was one of ours.
  bool put_back(std::uint64_t id);
  // Nobody will answer what was sent: it may or may not be in the ledger. Asked again, an entry can come twice, but
  // none is missing.
  void disconnected();

  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }
  [[nodiscard]] std::size_t unanswered() const { return sent_.size(); }
  // Why some of the requests are in memory alone; empty: they are not.
  [[nodiscard]] const std::string& problem() const { return problem_; }
  [[nodiscard]] std::size_t left_out() const { return left_out_; }  // of the file of an earlier run, for lack of room

 private:
  void read_back();
  Result<void> append(const std::string& request);
  // What is open, and nothing else.
  Result<void> write_anew();
  [[nodiscard]] std::size_t open_requests() const { return waiting_.size() + sent_.size(); }

  UniqueFd file_;
  std::string path_, problem_;
  std::size_t file_bytes_ = 0, file_requests_ = 0, left_out_ = 0;
  bool is_torn_ = false;  // the file ends with a part of a request
  std::deque<std::string> waiting_;
  std::map<std::uint64_t, std::string> sent_;
};

}  // namespace daemoneye::ipc
