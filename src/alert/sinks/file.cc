// file: one alert a line, appended. After an error the file ends where it ended before. A file that is full or old
// becomes FILE.1, that one FILE.2, and so on.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>

#include "alert/sinks/options.h"
#include "alert/sinks/sinks.h"
#include "base/unique_fd.h"

namespace daemoneye::alert {
namespace {

constexpr mode_t file_mode = 0640;
constexpr std::chrono::seconds patience{10};

Result<UniqueFd> open_for_append(const std::string& path) {
  // O_NONBLOCK: opening a FIFO without a reader must not hang; read access: to see whether the last line is whole.
  constexpr int flags = O_RDWR | O_APPEND | O_CLOEXEC | O_NONBLOCK;
  UniqueFd file(::open(path.c_str(), flags | O_CREAT | O_EXCL, file_mode));
  if (file) {
    // Past the umask: the contract's mode, whoever started us. Only of a file that we made.
    if (::fchmod(file.get(), file_mode) != 0) return fail_errno("chmod " + path, errno);
    return file;
  }
  if (errno != EEXIST) return fail_errno("open " + path, errno);
  file.reset(::open(path.c_str(), flags));
  if (!file) return fail_errno("open " + path, errno);
  struct stat state{};
  if (::fstat(file.get(), &state) != 0) return fail_errno("stat " + path, errno);
  if (!S_ISREG(state.st_mode)) return fail(Errc::invalid_input, path + " is not a regular file");
  return file;
}

// When the file was begun; file systems that do not keep it tell the last change instead.
Result<std::int64_t> begun_at(int fd, const std::string& path) {
  struct statx state{};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_BTIME | STATX_CTIME, &state) != 0) return fail_errno("stat " + path, errno);
  return (state.stx_mask & STATX_BTIME) != 0 ? state.stx_btime.tv_sec : state.stx_ctime.tv_sec;
}

struct Rotation {
  std::int64_t bytes = 0, seconds = 0;  // 0: never
  std::int64_t keep = 5;
};

class FileSink final : public AlertSink {
 public:
  FileSink(std::string name, std::string path, Formatter format, bool fsync, Rotation rotation, UniqueFd file)
      : name_(std::move(name)),
        path_(std::move(path)),
        format_(std::move(format)),
        fsync_(fsync),
        rotation_(rotation),
        file_(std::move(file)) {}

  // Whoever waits for another one's write gives up in time; a write that hangs in the kernel cannot be cut off.
  std::expected<DeliveryResult, DeliveryError> send(const store::Alert& alert, std::stop_token stop) override {
    std::string line = format_(alert) + '\n';
    std::unique_lock lock(mutex_, std::defer_lock);
    if (!lock_until(lock, Deadline::after(patience), stop)) {
      const std::string why = stop.stop_requested() ? "stopped" : "an earlier write to " + path_ + " hangs";
      return std::unexpected(DeliveryError{why, false, {}});
    }
    auto appended = append(std::move(line));
    status_.set(appended ? "" : appended.error().message);
    if (!appended) return std::unexpected(DeliveryError{appended.error().message, false, {}});
    return DeliveryResult{};
  }

  HealthStatus health_check() override { return status_.get(); }

  [[nodiscard]] std::string_view name() const override { return name_; }

  // Done by the next send(): a disk that hangs must not hold whoever asks for it.
  void reopen() override { reopen_wanted_ = true; }

 private:
  Result<void> reopen_now() {
    DE_TRY(auto file, open_for_append(path_));
    file_ = std::move(file);
    reopen_wanted_ = false;
    return {};
  }

  Result<bool> is_over(std::int64_t size, std::size_t more) const {
    if (size == 0) return false;
    if (rotation_.bytes > 0 && size + static_cast<std::int64_t>(more) > rotation_.bytes) return true;
    if (rotation_.seconds == 0) return false;
    DE_TRY(const auto begun, begun_at(file_.get(), path_));
    return base::wall_now().ns / 1'000'000'000 - begun >= rotation_.seconds;
  }

  // FILE.1 is the youngest; the oldest is replaced. A crash in the middle leaves a gap in the numbers and loses
  // nothing.
  Result<void> rotate() {
    const auto numbered = [&](std::int64_t number) {
      return number == 0 ? path_ : path_ + '.' + std::to_string(number);
    };
    // Only as far as the numbers go without a gap: a file beyond it need not move.
    std::int64_t last = 1;
    while (last < rotation_.keep && ::access(numbered(last).c_str(), F_OK) == 0) ++last;
    for (std::int64_t number = last; number > 0; --number) {
      if (::rename(numbered(number - 1).c_str(), numbered(number).c_str()) != 0 && errno != ENOENT) {
        return fail_errno("rename " + numbered(number - 1), errno);
      }
    }
    return reopen_now();
  }

  Result<void> append(std::string line) {
    // Until the asked-for reopening works, nothing goes to the file that was turned away from.
    if (reopen_wanted_) DE_CHECK(reopen_now());
    struct stat state{};
    if (::fstat(file_.get(), &state) != 0) return fail_errno("stat " + path_, errno);
    if (state.st_nlink == 0) {  // removed under us, by a rotation that sends no signal
      DE_CHECK(reopen_now());
      if (::fstat(file_.get(), &state) != 0) return fail_errno("stat " + path_, errno);
    }
    DE_TRY(const bool over, is_over(state.st_size, line.size()));
    if (over) {
      DE_CHECK(rotate());
      if (::fstat(file_.get(), &state) != 0) return fail_errno("stat " + path_, errno);
    }
    // A program killed in the middle of a write left half a line: it is ended, so that this one stays readable.
    char last = '\n';
    if (state.st_size > 0 && ::pread(file_.get(), &last, 1, state.st_size - 1) == 1 && last != '\n') {
      line.insert(line.begin(), '\n');
    }
    std::string_view rest = line;
    while (!rest.empty()) {
      const auto written = ::write(file_.get(), rest.data(), rest.size());
      if (written < 0) {
        if (errno == EINTR) continue;
        const int error = errno;
        if (rest.size() != line.size() && ::ftruncate(file_.get(), state.st_size) != 0) {
          return fail_errno("write " + path_ + " (and half a line could not be taken back)", error);
        }
        return fail_errno("write " + path_, error);
      }
      rest.remove_prefix(static_cast<std::size_t>(written));
    }
    if (fsync_ && ::fdatasync(file_.get()) != 0) {
      const int error = errno;
      // The line comes again with the next attempt: it must not be there twice.
      if (::ftruncate(file_.get(), state.st_size) != 0) {
        return fail_errno("fdatasync " + path_ + " (and the line could not be taken back)", error);
      }
      return fail_errno("fdatasync " + path_, error);
    }
    return {};
  }

  const std::string name_, path_;
  const Formatter format_;
  const bool fsync_;
  const Rotation rotation_;
  std::timed_mutex mutex_;
  UniqueFd file_;
  std::atomic<bool> reopen_wanted_{false};
  SinkStatus status_;
};

Result<std::unique_ptr<AlertSink>> make(const config::SinkSettings& settings) {
  const std::string path = text_option(settings, "path");
  if (path.empty()) return fail(Errc::invalid_input, "sink " + settings.name + ": `path` is required");
  DE_TRY(auto format, Formatter::make(settings, "json"));
  auto file = open_for_append(path);
  if (!file) return fail(file.error().code, "sink " + settings.name + ": " + file.error().message);
  const Rotation rotation{number_option(settings, "rotate_bytes", 0), number_option(settings, "rotate_s", 0),
                          number_option(settings, "keep", 5)};
  return std::make_unique<FileSink>(settings.name, path, std::move(format),
                                    text_option(settings, "fsync", "false") == "true", rotation, *std::move(file));
}

}  // namespace

SinkType file_sink_type() {
  constexpr std::int64_t tebibyte = std::int64_t{1} << 40, ten_years_s = std::int64_t{3650} * 86'400;
  SinkKeys keys;
  keys.push_back(text_key("path", "", "The file that alerts are appended to, one a line; created with mode 0640."));
  keys.back().required = true;
  keys.back().file = config::SinkKey::File::folder;
  keys.push_back(choice_key("fsync", {"true", "false"}, "false", "Wait until each alert is on the disk."));
  keys.push_back(
      number_key("rotate_bytes", 0, tebibyte, 0,
                 "Before the file grows beyond this it becomes PATH.1, PATH.1 becomes PATH.2, and so on; `0`: "
                 "never. A SIGHUP opens the file anew, for tools that move it themselves."));
  keys.push_back(
      number_key("rotate_s", 0, ten_years_s, 0, "The same once the file is so many seconds old; `0`: never."));
  keys.push_back(number_key("keep", 1, 1000, 5, "So many of these are kept; the oldest goes."));
  return {"file", std::move(keys), make};
}

}  // namespace daemoneye::alert
