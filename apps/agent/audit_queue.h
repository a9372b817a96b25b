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

namespace daemoneye::apps {

class AuditQueue {
 public:
  // Beyond these a request is refused, and counted as lost. An entry's payload is at most what the ledger takes.
  static constexpr std::size_t max_requests = 1000, max_request_bytes = 62 * 1024, max_file_bytes = 8 * 1024 * 1024;

  // With what an earlier run left. Without a file (it cannot be made, say) the queue is in memory alone, and says so.
  static AuditQueue open(const std::string& path);

  // Durable when it returns true; false: there is no room.
  bool push(std::string request);
  // The next one that was not sent; it counts as sent under `id` until it is answered.
  std::optional<std::string> next(std::uint64_t id);
  // True when `id` was one of ours.
  bool answered(std::uint64_t id);
  // Nobody will answer what was sent: it may or may not be in the ledger. Asked again, an entry can come twice, but
  // none is missing.
  void disconnected();

  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }
  [[nodiscard]] std::size_t unanswered() const { return sent_.size(); }
  [[nodiscard]] const std::string& problem() const { return problem_; }

 private:
  void read_back();
  void forget_file();

  UniqueFd file_;
  std::string path_, problem_;
  std::size_t file_bytes_ = 0;
  std::deque<std::string> waiting_;
  std::map<std::uint64_t, std::string> sent_;
};

}  // namespace daemoneye::apps
