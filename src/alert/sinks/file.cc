// file: one alert a line, appended. After an error the file ends where it ended before.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>

#include "alert/sinks/sinks.h"
#include "base/unique_fd.h"

namespace daemoneye::alert {
namespace {

constexpr mode_t file_mode = 0640;

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

class FileSink final : public AlertSink {
 public:
  FileSink(std::string name, std::string path, std::string format, bool fsync, UniqueFd file)
      : name_(std::move(name)),
        path_(std::move(path)),
        format_(std::move(format)),
        fsync_(fsync),
        file_(std::move(file)) {}

  std::expected<DeliveryResult, DeliveryError> send(const store::Alert& alert, std::stop_token) override {
    std::string line = format_alert(alert, format_, false) + '\n';
    std::lock_guard lock(mutex_);
    auto appended = append(std::move(line));
    status_.set(appended ? "" : appended.error().message);
    if (!appended) return std::unexpected(DeliveryError{name_ + ": " + appended.error().message, false, {}});
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

  Result<void> append(std::string line) {
    // Until the asked-for reopening works, nothing goes to the file that was turned away from.
    if (reopen_wanted_) DE_CHECK(reopen_now());
    struct stat state{};
    if (::fstat(file_.get(), &state) != 0) return fail_errno("stat " + path_, errno);
    if (state.st_nlink == 0) {  // removed under us, by a rotation that sends no signal
      DE_CHECK(reopen_now());
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

  const std::string name_, path_, format_;
  const bool fsync_;
  std::mutex mutex_;
  UniqueFd file_;
  std::atomic<bool> reopen_wanted_{false};
  SinkStatus status_;
};

Result<std::unique_ptr<AlertSink>> make(const config::SinkSettings& settings) {
  const auto option = [&](const std::string& key) {
    const auto found = settings.options.find(key);
    return found == settings.options.end() ? std::string() : found->second;
  };
  const std::string path = option("path");
  if (path.empty()) return fail(Errc::invalid_input, "sink " + settings.name + ": `path` is required");
  auto file = open_for_append(path);
  if (!file) return fail(file.error().code, "sink " + settings.name + ": " + file.error().message);
  return std::make_unique<FileSink>(settings.name, path, settings.format.empty() ? "json" : settings.format,
                                    option("fsync") == "true", *std::move(file));
}

}  // namespace

SinkType file_sink_type() {
  std::vector<config::SinkKey> keys(2);
  keys[0].name = "path";
  keys[0].required = true;
  keys[0].help = "the file that alerts are appended to; created with mode 0640";
  keys[1].name = "fsync";
  keys[1].allowed = {"true", "false"};
  keys[1].help = "wait until each alert is on the disk (default: false)";
  return {"file", std::move(keys), make};
}

}  // namespace daemoneye::alert
