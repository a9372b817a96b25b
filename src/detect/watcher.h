// Waits for changes in rule folders: inotify, with a quiet time so that an editor's or a package's many steps are one
// change. A folder that is not there yet is found when it appears. One thread, but for notify() and stop().
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace daemoneye::detect {

class FolderWatcher {
 public:
  static constexpr std::chrono::milliseconds quiet{200};     // no further change for so long, then it is reported
  static constexpr std::chrono::milliseconds longest{2000};  // or after so long, however busy the folder is

  static Result<std::unique_ptr<FolderWatcher>> create(std::vector<std::string> folders);

  // Others from now on; the thread that waits.
  void watch(std::vector<std::string> folders);
  enum class Reason { changed, asked, stopped };
  // Blocks until something happened.
  Reason wait();
  void notify();  // wait() gives `asked`; any thread
  void stop();    // wait() gives `stopped` from now on; any thread
  // Empty: every folder (or where it would appear) is watched; else why changes may be missed.
  [[nodiscard]] const std::string& problem() const { return problem_; }

 private:
  FolderWatcher() = default;
  void watch_all();
  void drain_inotify();
  enum class Wake { timeout, folders, asked, stopped };
  Wake wait_once(int timeout_ms);

  std::vector<std::string> folders_;
  UniqueFd inotify_, asked_, stopped_;
  std::string problem_;
};

}  // namespace daemoneye::detect
