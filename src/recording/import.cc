#include "recording/import.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "base/hash.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "db/backup.h"
#include "event/batch.h"
#include "recording/line_parser.h"
#include "store/store_file.h"
#include "store/writer.h"

namespace daemoneye::recording {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t read_bytes = 1024 * 1024;
constexpr std::size_t batch_events = 2000;
constexpr std::size_t batch_bytes = 768 * 1024;  // of encoded events; a single one may be larger
constexpr std::size_t max_in_flight = 3;         // batches that wait for their commit
constexpr auto writer_patience = 10s;            // a disk that is full for longer ends the import
constexpr auto close_time = 60s;

constexpr const char* companions[] = {"-wal", "-shm", "-journal"};

bool exists(const std::string& path) {
  struct stat status{};
  return ::lstat(path.c_str(), &status) == 0;
}

void remove_file(const std::string& path) {
  ::unlink(path.c_str());
  for (const char* suffix : companions) ::unlink((path + suffix).c_str());
  store::WriterLock::remove_files(path);
}

Result<void> sync_path(const std::string& path, int flags) {
  const UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) return fail_errno("sync " + path, errno);
  return {};
}

// From a file in WAL mode to one that needs no other beside it. Fails while somebody reads it.
Result<void> make_one_file(const std::string& path) {
  {
    DE_TRY(const auto database, store::open_store_for_writing(path, ""));
    DE_CHECK(database->execute("PRAGMA journal_mode=DELETE"));
  }
  for (const char* suffix : companions) ::unlink((path + suffix).c_str());
  return {};
}

// Numbers batches, hands them to the writer, and keeps few of them waiting.
class Sender {
 public:
  explicit Sender(store::Writer& writer) : writer_(writer) {
    const auto bytes = base::random_bytes(id_.epoch.size());
    std::copy(bytes.begin(), bytes.end(), id_.epoch.begin());
    id_.source = "import";
  }
  ~Sender() { (void)settle(0, Deadline::after(close_time)); }
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  Result<void> add(const event::ProcessEvent& event) {
    const auto before = events_.size();
    event::encode_event(event, events_);
    // The largest event is near to a whole batch: the others go out before it.
    if (before > 0 && events_.size() > batch_bytes) {
      const std::string last = events_.substr(before);
      events_.resize(before);
      DE_CHECK(send());
      events_ = last;
    }
    if (++count_ >= batch_events) return send();
    return {};
  }
  Result<void> send() {
    if (count_ == 0) return {};
    ++id_.sequence;
    DE_TRY(auto canonical, event::encode_batch(id_, count_, events_));
    events_.clear();
    count_ = 0;
    DE_CHECK(settle(max_in_flight - 1, Deadline::never()));
    const auto digest = event::batch_digest(canonical);
    {
      const std::scoped_lock held(waiting_->mutex);
      ++waiting_->batches;
    }
    writer_.commit_batch(id_, std::move(canonical), digest, {},
                         [waiting = waiting_](const Result<store::Commit>& result) {
                           const std::scoped_lock held(waiting->mutex);
                           --waiting->batches;
                           if (!result && !waiting->error) waiting->error = result.error();
                           waiting->changed.notify_one();
                         });
    return {};
  }
  // Until no more than so many wait. The writer tries again for ever; here somebody is waiting for an answer.
  Result<void> settle(std::size_t most, Deadline deadline) {
    std::unique_lock held(waiting_->mutex);
    std::optional<base::SteadyClock::time_point> paused_since;
    while (waiting_->batches > most && !waiting_->error) {
      if (deadline.expired()) return fail(Errc::timeout, "the batches are not committed in time");
      waiting_->changed.wait_for(held, 100ms);
      const auto state = writer_.state();
      const auto now = base::SteadyClock::now();
      if (!state.paused)
        paused_since.reset();
      else if (!paused_since)
        paused_since = now;
      else if (now - *paused_since > writer_patience)
        return fail(Errc::io, "writing fails: " + state.reason);
    }
    if (waiting_->error) return std::unexpected(*waiting_->error);
    return {};
  }

 private:
  // Of the callbacks as well: an import that gives up leaves batches behind, which the writer ends when it closes.
  struct Waiting {
    std::mutex mutex;
    std::condition_variable changed;
    std::size_t batches = 0;
    std::optional<Error> error;
  };
  store::Writer& writer_;
  event::BatchId id_;
  std::string events_;
  std::size_t count_ = 0;
  const std::shared_ptr<Waiting> waiting_ = std::make_shared<Waiting>();
};

// The lines of one input after the other; the buffer grows to the longest line and no further.
class Lines {
 public:
  explicit Lines(const Input& input) : input_(input) {}
  struct Line {
    std::string_view text;
    bool too_long = false;
  };
  // Nothing at the end. `refilled` tells that the input was read since the last call.
  Result<std::optional<Line>> next() {
    refilled = false;
    while (true) {
      const char* begin = buffer_.data() + begin_;
      const auto* end = static_cast<const char*>(std::memchr(begin + searched_, '\n', end_ - begin_ - searched_));
      if (end != nullptr || (at_end_ && (begin_ < end_ || too_long_))) {
        const std::size_t size = end != nullptr ? static_cast<std::size_t>(end - begin) : end_ - begin_;
        begin_ += size + (end != nullptr ? 1 : 0);
        searched_ = 0;
        const bool too_long = std::exchange(too_long_, false) || size > max_line_bytes;
        return Line{{begin, too_long ? 0 : size}, too_long};
      }
      if (at_end_) return std::nullopt;
      searched_ = end_ - begin_;
      DE_CHECK(refill());
    }
  }
  bool refilled = false;
  std::uint64_t bytes = 0;  // read so far

 private:
  Result<void> refill() {
    if (searched_ > max_line_bytes) {
      // Of a line that nobody will read, only its end matters.
      too_long_ = true;
      begin_ = end_;
      searched_ = 0;
    }
    if (begin_ > 0) std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
    if (buffer_.size() < end_ + read_bytes + line_padding) buffer_.resize(end_ + read_bytes + line_padding);
    DE_TRY(const std::size_t got, input_.read(buffer_.data() + end_, read_bytes));
    end_ += got;
    bytes += got;
    at_end_ = got == 0;
    refilled = true;
    return {};
  }

  const Input& input_;
  std::string buffer_ = std::string(read_bytes + line_padding, '\0');
  std::size_t begin_ = 0, end_ = 0, searched_ = 0;
  bool at_end_ = false, too_long_ = false;
};

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

class Import {
 public:
  explicit Import(const ImportOptions& options) : options_(options) {}

  Result<ImportReport> run(const std::vector<Input>& inputs, store::Writer& writer) {
    {
      Sender sender(writer);
      for (const auto& input : inputs) DE_CHECK(read(input, sender));
      DE_CHECK(sender.send());
      DE_CHECK(sender.settle(0, Deadline::never()));
    }
    options_.progress(report_);
    return report_;
  }

 private:
  Result<void> read(const Input& input, Sender& sender) {
    Lines lines(input);
    const auto bytes_before = report_.bytes;
    for (std::uint64_t number = 1;; ++number) {
      DE_TRY(const auto line, lines.next());
      if (lines.refilled) {
        report_.bytes = bytes_before + lines.bytes;
        options_.progress(report_);
        if (options_.stop()) return fail(Errc::cancelled, "interrupted");
        if (options_.deadline.expired()) {
          return fail(Errc::timeout, "the time limit has passed after " + std::to_string(report_.lines) +
                                         " lines (--timeout gives more time)");
        }
      }
      if (!line) return {};
      if (!line->too_long && is_blank(line->text)) continue;
      ++report_.lines;
      const auto parsed = line->too_long
                              ? fail(Errc::invalid_input,
                                     "a line of more than " + std::to_string(max_line_bytes / 1024 / 1024) + " MiB")
                              : parser_.parse(line->text);
      if (!parsed) {
        DE_CHECK(refuse({input.name, number, parsed.error().message}));
        continue;
      }
      DE_CHECK(sender.add(**parsed));
      ++report_.imported;
      if ((*parsed)->kind == event::EventKind::gap) ++report_.gaps;
    }
  }
  Result<void> refuse(const BadLine& line) {
    ++report_.skipped;
    options_.bad_line(line);
    if (!options_.strict) return {};
    return fail(Errc::invalid_input, to_string(line));
  }

  const ImportOptions& options_;
  ImportReport report_;
  LineParser parser_;
};

Result<ImportReport> import_to(const std::string& path, const std::vector<Input>& inputs,
                               const ImportOptions& options) {
  store::StoreOptions store_options;
  store_options.path = path;
  store_options.retention_days = store_options.max_size_mb = 0;  // nothing of it goes by itself
  store_options.queue_capacity = max_in_flight + 1;
  DE_TRY(const auto writer, store::Writer::open(store_options));
  auto imported = Import(options).run(inputs, *writer);
  writer->close(Deadline::after(imported ? close_time : 1s));
  return imported;
}

// On a file beside it, which takes its place at the end.
Result<ImportReport> import_whole(const std::string& path, const std::vector<Input>& inputs,
                                  const ImportOptions& options) {
  const std::filesystem::path target = std::filesystem::absolute(path);
  const std::string working = (target.parent_path() / ("." + target.filename().string() + ".importing")).string();
  remove_file(working);  // what an import left that was killed: nobody else works on it while we hold the lock
  const bool append = exists(path);
  const auto done = [&]() -> Result<ImportReport> {
    if (append) {
      DE_TRY(const auto before, store::open_store_for_reading(path));
      DE_CHECK(db::backup(*before, working, {.deadline = options.deadline}));
    }
    DE_TRY(const auto report, import_to(working, inputs, options));
    DE_CHECK(make_one_file(working));
    DE_CHECK(sync_path(working, O_RDONLY));
    // What lies beside belongs to the file that goes, and would be taken for the new one's. What it holds goes into the
    // file first: a crash before the rename leaves that file whole. Somebody who reads it keeps it in the form it has.
    if (append) (void)make_one_file(path);
    for (const char* suffix : companions) ::unlink((path + suffix).c_str());
    if (::rename(working.c_str(), path.c_str()) != 0) return fail_errno("rename to " + path, errno);
    DE_CHECK(sync_path(target.parent_path().string(), O_RDONLY | O_DIRECTORY));
    return report;
  }();
  remove_file(working);
  return done;
}

}  // namespace

std::string to_string(const BadLine& line) {
  return base::printable(line.input) + ':' + std::to_string(line.number) + ": " + base::printable(line.reason);
}

Result<ImportReport> import_recording(const std::vector<Input>& inputs, const ImportOptions& options) {
  const bool is_new = !exists(options.into);
  if (is_new || options.strict) {
    DE_CHECK(store::prepare_folder(options.into, ""));
    DE_TRY(const auto lock, store::WriterLock::take(options.into, ""));
    auto done = import_whole(options.into, inputs, options);
    if (!exists(options.into)) store::WriterLock::remove_files(options.into);
    return done;
  }
  DE_TRY(const auto report, import_to(options.into, inputs, options));
  const auto lock = store::WriterLock::take(options.into, "");
  if (lock) (void)make_one_file(options.into);  // somebody who reads it now only keeps it in the form it has
  return report;
}

}  // namespace daemoneye::recording
