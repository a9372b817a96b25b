#include "ipc/audit_queue.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "observe/log.h"

namespace daemoneye::ipc {

using observe::Level;

namespace {

constexpr unsigned file_mode = 0600;

Result<UniqueFd> open_file(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
  if (!file && errno == ENOENT) {
    // With the folder's entry on the disk, too.
    DE_CHECK(base::write_file_atomic(path, "", file_mode));
    file.reset(::open(path.c_str(), O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
  }
  if (!file) return fail_errno(path, errno);
  return file;
}

}  // namespace

AuditQueue AuditQueue::open(const std::string& path) {
  AuditQueue queue;
  queue.path_ = path;
  auto file = open_file(path);
  if (!file) {
    queue.problem_ = file.error().message;
    observe::log(Level::error, "ledger", "audit requests are kept in memory alone", {{"error", queue.problem_}});
    return queue;
  }
  queue.file_ = std::move(*file);
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
    else if (end > 0)
      ++left_out_;
    rest.remove_prefix(end + 1);
  }
  file_bytes_ = bytes->size() - rest.size();
  file_requests_ = waiting_.size();
  if (!rest.empty() && ::ftruncate(file_.get(), static_cast<off_t>(file_bytes_)) != 0) {
    problem_ = fail_errno(path_, errno).error().message;
  }
  if (!waiting_.empty() || left_out_ > 0) {
    observe::log(left_out_ > 0 ? Level::error : Level::info, "ledger", "audit requests of an earlier run go on",
                 {{"requests", std::uint64_t{waiting_.size()}}, {"left_out", std::uint64_t{left_out_}}});
  }
}

Result<void> AuditQueue::append(const std::string& request) {
  if (is_torn_) DE_CHECK(write_anew());
  auto written = base::write_all(file_.get(), request + "\n");
  if (written && ::fdatasync(file_.get()) != 0) written = fail_errno("fdatasync", errno);
  if (!written) {
    // A part of it would make the next one unreadable.
    is_torn_ = ::ftruncate(file_.get(), static_cast<off_t>(file_bytes_)) != 0;
    return fail(written.error().code, path_ + ": " + written.error().message);
  }
  file_bytes_ += request.size() + 1;
  ++file_requests_;
  return {};
}

Result<void> AuditQueue::write_anew() {
  if (path_.empty()) return {};
  std::string bytes;
  for (const auto& [id, request] : sent_) bytes += request + "\n";
  for (const auto& request : waiting_) bytes += request + "\n";
  DE_CHECK(base::write_file_atomic(path_, bytes, file_mode));
  DE_TRY(file_, open_file(path_));
  file_bytes_ = bytes.size();
  file_requests_ = open_requests();
  is_torn_ = false;
  return {};
}

bool AuditQueue::push(std::string request) {
  if (open_requests() >= max_requests || request.size() > max_request_bytes ||
      request.find('\n') != std::string::npos) {
    return false;
  }
  std::size_t open_bytes = request.size() + 1;
  for (const auto& [id, sent] : sent_) open_bytes += sent.size() + 1;
  for (const auto& waiting : waiting_) open_bytes += waiting.size() + 1;
  if (open_bytes > max_file_bytes) return false;
  const bool fits = file_requests_ < max_requests && file_bytes_ + request.size() + 1 <= max_file_bytes;
  Result<void> written;
  if (problem_.empty() && file_ && fits) {
    written = append(request);
    waiting_.push_back(std::move(request));
  } else {
    // Those that are in memory alone come to the disk with it, or it joins them.
    waiting_.push_back(std::move(request));
    written = write_anew();
  }
  // It is asked for all the same: the collector may be there to write it.
  problem_ = written ? "" : written.error().message;
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
  if (!file_) return true;  // nothing is lost, but what comes next would not be durable: it stays a problem
  Result<void> written;
  if (open_requests() == 0) {
    if (::ftruncate(file_.get(), 0) != 0) written = fail_errno(path_, errno);
    if (written) file_bytes_ = file_requests_ = 0;
    problem_ = written ? "" : written.error().message;  // nothing is open that could be lost
  } else if (file_requests_ > open_requests() + max_answered_in_file) {
    // What is answered already only takes room: that it stays there for now is no problem of its own.
    written = write_anew();
    if (written) problem_.clear();
  }
  return true;
}

bool AuditQueue::put_back(std::uint64_t id) {
  const auto found = sent_.find(id);
  if (found == sent_.end()) return false;
  waiting_.push_front(std::move(found->second));
  sent_.erase(found);
  return true;
}

void AuditQueue::disconnected() {
  for (auto sent = sent_.rbegin(); sent != sent_.rend(); ++sent) waiting_.push_front(std::move(sent->second));
  sent_.clear();
}

}  // namespace daemoneye::ipc
