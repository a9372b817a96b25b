#include "detect/watcher.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>

#include "base/time.h"

namespace daemoneye::detect {
namespace {

constexpr std::uint32_t content_changes =
    IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB;
constexpr std::uint32_t appearance = IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF;

void signal(const UniqueFd& fd) {
  const std::uint64_t one = 1;
  // Fails only when the counter is full, and then it is readable anyway.
  [[maybe_unused]] const auto written = ::write(fd.get(), &one, sizeof one);
}

}  // namespace

Result<std::unique_ptr<FolderWatcher>> FolderWatcher::create(std::vector<std::string> folders) {
  std::unique_ptr<FolderWatcher> watcher(new FolderWatcher());
  watcher->folders_ = std::move(folders);
  watcher->asked_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  watcher->stopped_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!watcher->asked_ || !watcher->stopped_) return fail_errno("eventfd", errno);
  watcher->inotify_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!watcher->inotify_) {
    // A machine out of inotify instances still detects; rules are then reloaded by hand.
    watcher->problem_ = fail_errno("inotify", errno).error().message;
  }
  watcher->watch_all();
  return watcher;
}

void FolderWatcher::watch_all() {
  if (!inotify_) return;
  problem_.clear();
  for (const auto& folder : folders_) {
    // Watching what is watched already changes nothing.
    if (::inotify_add_watch(inotify_.get(), folder.c_str(), content_changes | IN_ONLYDIR) >= 0) continue;
    if (errno != ENOENT && errno != ENOTDIR) {
      problem_ = fail_errno("watching " + folder, errno).error().message;
      continue;
    }
    // Not there: its nearest parent that is there tells when it comes.
    std::filesystem::path parent = std::filesystem::path(folder).lexically_normal();
    while (parent.has_relative_path()) {
      parent = parent.parent_path();
      const auto path = parent.empty() ? std::string(".") : parent.string();
      // IN_MASK_ADD: the parent may be a rule folder itself.
      if (::inotify_add_watch(inotify_.get(), path.c_str(), appearance | IN_ONLYDIR | IN_MASK_ADD) >= 0) break;
    }
  }
}

void FolderWatcher::watch(std::vector<std::string> folders) {
  if (folders == folders_) return;
  folders_ = std::move(folders);
  // What is watched no more must not wake anybody.
  if (inotify_) inotify_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!inotify_) problem_ = fail_errno("inotify", errno).error().message;
  watch_all();
}

void FolderWatcher::drain_inotify() {
  // What changed does not matter: the loader compares whole folders.
  alignas(inotify_event) std::array<char, 16 * 1024> buffer;
  while (::read(inotify_.get(), buffer.data(), buffer.size()) > 0) {
  }
}

FolderWatcher::Wake FolderWatcher::wait_once(int timeout_ms) {
  std::array<pollfd, 3> fds = {pollfd{stopped_.get(), POLLIN, 0}, pollfd{asked_.get(), POLLIN, 0},
                               pollfd{inotify_.get(), POLLIN, 0}};  // a negative descriptor is ignored by poll
  for (;;) {
    const int count = ::poll(fds.data(), fds.size(), timeout_ms);
    if (count < 0 && errno == EINTR) continue;
    if (fds[0].revents != 0 || count < 0) return Wake::stopped;
    if (fds[1].revents != 0) {
      std::uint64_t times = 0;
      [[maybe_unused]] const auto taken = ::read(asked_.get(), &times, sizeof times);
      return Wake::asked;
    }
    if (fds[2].revents != 0) {
      drain_inotify();
      return Wake::folders;
    }
    return Wake::timeout;
  }
}

FolderWatcher::Reason FolderWatcher::wait() {
  auto wake = wait_once(-1);
  if (wake == Wake::folders) {
    const auto end = Deadline::after(longest);
    while (wake == Wake::folders && !end.expired()) {
      wake = wait_once(std::min(static_cast<int>(quiet.count()), end.poll_timeout_ms()));
    }
    watch_all();
  }
  if (wake == Wake::stopped) return Reason::stopped;
  return wake == Wake::asked ? Reason::asked : Reason::changed;
}

void FolderWatcher::notify() { signal(asked_); }
void FolderWatcher::stop() { signal(stopped_); }

}  // namespace daemoneye::detect
