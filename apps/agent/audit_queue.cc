#include "agent/audit_queue.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "observe/log.h"

namespace daemoneye::apps {

using observe::Level;

AuditQueue AuditQueue::open(const std::string& path) {
  AuditQueue queue;
  queue.path_ = path;
  queue.file_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!queue.file_) {
    queue.problem_ = fail_errno(path, errno).error().message;
    observe::log(Level::error, "ledger", "audit requests are kept in memory alone", {{"error", queue.problem_}});
    return queue;
  }
  queue.read_back();
  return queue;
}

// One request a line; a last line without its end was never acknowledged to anybody.
void AuditQueue::read_back() {
  auto bytes = base::read_up_to(file_.get(), max_file_bytes);
  if (!bytes) {
    problem_ = path_ + ": " + bytes.error().message;
    return;
  }
  std::string_view rest = *bytes;
  for (auto end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
    if (end > 0 && end <= max_request_bytes && waiting_.size() < max_requests)
      waiting_.emplace_back(rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
  file_bytes_ = bytes->size() - rest.size();
  if (!rest.empty() && ::ftruncate(file_.get(), static_cast<off_t>(file_bytes_)) != 0) {
    problem_ = fail_errno(path_, errno).error().message;
  }
  if (!waiting_.empty()) {
    observe::log(Level::info, "ledger", "audit requests of an earlier run go on",
                 {{"requests", std::uint64_t{waiting_.size()}}});
  }
}

bool AuditQueue::push(std::string request) {
  if (waiting_.size() + sent_.size() >= max_requests || request.size() > max_request_bytes ||
      file_bytes_ + request.size() + 1 > max_file_bytes || request.find('\n') != std::string::npos) {
    return false;
  }
  if (file_) {
    auto written = base::write_all(file_.get(), request + "\n");
    if (written && ::fdatasync(file_.get()) != 0) written = fail_errno("fdatasync", errno);
    // It is asked for all the same: the collector may be there to write it.
    problem_ = written ? "" : path_ + ": " + written.error().message;
    file_bytes_ += request.size() + 1;
  }
  waiting_.push_back(std::move(request));
  return true;
}

std::optional<std::string> AuditQueue::next(std::uint64_t id) {
  if (waiting_.empty()) return std::nullopt;
  auto& sent = sent_[id];
  sent = std::move(waiting_.front());
  waiting_.pop_front();
  return sent;
}

bool AuditQueue::answered(std::uint64_t id) {
  if (sent_.erase(id) == 0) return false;
  if (sent_.empty() && waiting_.empty()) forget_file();
  return true;
}

void AuditQueue::disconnected() {
  for (auto sent = sent_.rbegin(); sent != sent_.rend(); ++sent) waiting_.push_front(std::move(sent->second));
  sent_.clear();
}

// Only when all is answered, so that the order stays and nothing has to be written anew.
void AuditQueue::forget_file() {
  if (!file_ || file_bytes_ == 0) return;
  if (::ftruncate(file_.get(), 0) != 0) {
    problem_ = fail_errno(path_, errno).error().message;
    return;
  }
  file_bytes_ = 0;
}

}  // namespace daemoneye::apps
