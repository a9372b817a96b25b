// For tests against the running kernel: real processes and what the sources say of them.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "sensor/linux/bpf_options.h"
#include "sensor/source.h"

namespace daemoneye::sensor {

inline constexpr std::chrono::seconds kPatience{20};

// Runs `body` in a child; what it returns is the exit code. The child is killed and reaped at the end.
class Child {
 public:
  explicit Child(const std::function<int()>& body) : pid_(::fork()) {
    if (pid_ == 0) ::_exit(body());
  }
  ~Child() {
    if (pid_ > 0 && !reaped_) {
      ::kill(pid_, SIGKILL);
      wait();
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  [[nodiscard]] event::Pid pid() const { return static_cast<event::Pid>(pid_); }
  int wait() {
    int status = -1;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    reaped_ = true;
    return status;
  }

 private:
  pid_t pid_;
  bool reaped_ = false;
};

// A pipe through which a child tells that it is where the test wants it.
class Signpost {
 public:
  Signpost() {
    if (::pipe(ends_) != 0) std::abort();
  }
  ~Signpost() {
    for (const int end : ends_) ::close(end);
  }
  Signpost(const Signpost&) = delete;
  Signpost& operator=(const Signpost&) = delete;
  // In the child. `value` is for whom it may concern: a pid, say.
  [[nodiscard]] bool reached(std::int64_t value = 0) const {
    return ::write(ends_[1], &value, sizeof value) == sizeof value;
  }
  // In the parent; nothing when the child has ended instead.
  [[nodiscard]] std::optional<std::int64_t> wait() {
    ::close(std::exchange(ends_[1], -1));
    std::int64_t value = 0;
    if (::read(ends_[0], &value, sizeof value) != sizeof value) return std::nullopt;
    return value;
  }

 private:
  int ends_[2] = {-1, -1};
};

// Executes a file with these arguments; for the body of a Child.
inline int execute(const std::string& path, std::vector<std::string> arguments) {
  std::vector<char*> list;
  for (auto& argument : arguments) list.push_back(argument.data());
  list.push_back(nullptr);
  char* environment[] = {nullptr};
  ::execve(path.c_str(), list.data(), environment);
  return 127;
}

// A folder under /tmp, removed with what is in it.
class TempDir {
 public:
  explicit TempDir(std::string pattern = "/tmp/daemoneye-sensor-XXXXXX") : path_(std::move(pattern)) {
    if (::mkdtemp(path_.data()) == nullptr) std::abort();
  }
  ~TempDir() {
    if (std::system(("rm -rf '" + path_ + "'").c_str()) != 0) std::perror(path_.c_str());
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void copy_file(const std::string& from, const std::string& to) {
  ASSERT_EQ(std::system(("cp '" + from + "' '" + to + "'").c_str()), 0);
}

inline std::string current_folder() { return std::filesystem::current_path().string(); }

// The arguments as NUL-separated bytes.
inline std::string joined(const std::vector<std::string>& arguments) {
  std::string bytes;
  for (const auto& argument : arguments) bytes += argument + '\0';
  return bytes;
}

inline FileIdentity identity_of(const struct stat& file) {
  const auto ns = [](const timespec& time) { return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; };
  return {.device = file.st_dev,
          .inode = file.st_ino,
          .size = static_cast<std::uint64_t>(file.st_size),
          .mtime_ns = ns(file.st_mtim),
          .ctime_ns = ns(file.st_ctim)};
}

inline FileIdentity identity_of(const std::string& path) {
  struct stat file{};
  EXPECT_EQ(::stat(path.c_str(), &file), 0) << path;
  return identity_of(file);
}

// The number in "mnt:[4026531841]"; 0 when it cannot be read.
inline std::uint32_t namespace_of(event::Pid pid, const char* kind) {
  std::error_code error;
  const auto link = std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/ns/" + kind, error).string();
  const auto at = link.find('[');
  return at == std::string::npos ? 0 : static_cast<std::uint32_t>(std::stoul(link.substr(at + 1)));
}
inline Namespaces namespaces_of(event::Pid pid) {
  return {.mnt = namespace_of(pid, "mnt"),
          .pid = namespace_of(pid, "pid"),
          .net = namespace_of(pid, "net"),
          .user = namespace_of(pid, "user"),
          .uts = namespace_of(pid, "uts"),
          .ipc = namespace_of(pid, "ipc"),
          .cgroup = namespace_of(pid, "cgroup")};
}

// Fixture: a started source (the eBPF one, unless told otherwise) whose events are gathered in the loop.
class KernelTest : public ::testing::Test {
 protected:
  virtual Result<std::unique_ptr<Source>> open() { return open_bpf_source(options_); }
  void SetUp() override {
    auto source = open();
    if (!source) {
      std::printf("not run: %s\n", source.error().message.c_str());
      GTEST_SKIP() << source.error().message;
    }
    source_ = std::move(*source);
    auto loop = EventLoop::create();
    ASSERT_TRUE(loop);
    loop_ = std::move(*loop);
    ASSERT_TRUE(source_->start(
        *loop_,
        [this](const RawEvent& seen) {
          events_.push_back(seen);
          if (until_ && until_(seen)) loop_->stop();
        },
        [this](const Error& error) {
          failures_.push_back(error.message);
          if (!failing_) ADD_FAILURE() << error.message;
          loop_->stop();
        }));
  }
  void TearDown() override {
    if (source_) source_->stop();
  }

  // The first event, past or coming, that is `wanted`.
  std::optional<RawEvent> wait_for(const std::function<bool(const RawEvent&)>& wanted) {
    for (const auto& seen : events_) {
      if (wanted(seen)) return seen;
    }
    std::optional<RawEvent> found;
    until_ = [&](const RawEvent& seen) {
      if (!found && wanted(seen)) found = seen;
      return found.has_value();
    };
    const auto timer = loop_->add_timer(kPatience, std::chrono::nanoseconds(0), [this] { loop_->stop(); });
    loop_->run();
    if (timer) loop_->remove_timer(*timer);
    until_ = nullptr;
    return found;
  }
  std::optional<RawEvent> wait_for(RawKind kind, event::Pid pid) {
    return wait_for([=](const RawEvent& seen) { return seen.kind == kind && seen.process.pid == pid; });
  }
  [[nodiscard]] std::vector<RawEvent> events_of(RawKind kind, event::Pid pid) const {
    std::vector<RawEvent> found;
    for (const auto& seen : events_) {
      if (seen.kind == kind && seen.process.pid == pid) found.push_back(seen);
    }
    return found;
  }

  // Room for what the rest of the machine does while a test does not read.
  BpfOptions options_{.ring_bytes = 16 << 20, .read_error = {}};
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Source> source_;
  std::vector<RawEvent> events_;
  std::vector<std::string> failures_;
  bool failing_ = false;  // a failure is what the test is about
  std::function<bool(const RawEvent&)> until_;
};

}  // namespace daemoneye::sensor
