#include "ledger/checkpoint_copy.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "observe/log.h"

namespace daemoneye::ledger {

using observe::Level;

CheckpointCopy::CheckpointCopy(std::string path) : path_(std::move(path)) {
  if (path_.empty()) return;
  if (auto opened = open(); !opened) {
    problem_ = opened.error().message;
    observe::log(Level::error, "ledger", "checkpoints are not copied", {{"error", problem_}});
  }
}

Result<void> CheckpointCopy::open() {
  UniqueFd opened(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0640));
  if (!opened) return fail_errno(path_, errno);
  struct stat status{};
  if (::fstat(opened.get(), &status) != 0) return fail_errno(path_, errno);
  identity_.reset();
  mid_line_ = false;
  if (S_ISREG(status.st_mode)) {
    DE_TRY(identity_, FileIdentity::of(path_));
    char last = '\n';
    const UniqueFd reading(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (status.st_size > 0 && reading) static_cast<void>(::pread(reading.get(), &last, 1, status.st_size - 1) == 1);
    mid_line_ = last != '\n';
  }
  file_ = std::move(opened);
  return {};
}

Result<void> CheckpointCopy::write(std::string_view note) {
  if (!file_ || (identity_ && !identity_->is_still_there())) {
    // Without the new one the old one is better than none: it may have been renamed only.
    if (auto opened = open(); !opened && !file_) return opened;
  }
  struct stat status{};
  if (::fstat(file_.get(), &status) != 0) return fail_errno(path_, errno);
  const bool regular = S_ISREG(status.st_mode);
  auto written = base::write_all(file_.get(), (mid_line_ ? "\n\n" : "") + std::string(note));
  if (written && ::fdatasync(file_.get()) != 0 && errno != EINVAL && errno != EROFS) {
    written = fail_errno(path_, errno);
  }
  if (!written) {
    mid_line_ = !regular || ::ftruncate(file_.get(), status.st_size) != 0 || mid_line_;
    return written;
  }
  mid_line_ = false;
  if (identity_ && !identity_->is_still_there()) return fail(Errc::io, path_ + ": was replaced, and cannot be made");
  return {};
}

void CheckpointCopy::append(std::string_view note) {
  if (path_.empty()) return;
  const auto written = write(note);
  const auto before = std::exchange(problem_, written ? "" : written.error().message);
  if (!written && before.empty()) {
    observe::log(Level::error, "ledger", "a checkpoint was not copied", {{"error", problem_}});
  }
}

}  // namespace daemoneye::ledger
