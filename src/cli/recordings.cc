// import, export: recordings, a process_events row a line.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <filesystem>
#include <iostream>
#include <ostream>

#include "base/text.h"
#include "base/unique_fd.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "recording/import.h"
#include "recording/line_writer.h"
#include "store/store_file.h"

namespace daemoneye::cli {
namespace {

constexpr std::size_t bad_lines_shown = 20;
constexpr std::uint64_t rows_a_snapshot = 100'000;  // a longer one would keep the write-ahead log from being reset
constexpr std::size_t flush_bytes = 256 * 1024;
constexpr int look_again_ms = 100;  // --follow

struct ImportArguments {
  std::vector<std::string> files;
  std::string into;
  bool strict = false;
};

Result<std::size_t> read_some(int fd, const std::string& name, char* buffer, std::size_t size,
                              const Invocation& invocation) {
  while (true) {
    const auto got = ::read(fd, buffer, size);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) return fail_errno("read " + base::printable(name), errno);
    if (invocation.interrupted()) return fail(Errc::cancelled, "interrupted");
  }
}

// `total`: the bytes of all of them; 0 when that is not known.
Outcome<recording::Input> open_input(const std::string& file, const Invocation& invocation, std::uint64_t& total) {
  if (file == "-" && &invocation.in() != &std::cin) {
    total = 0;
    return recording::Input{file, [&invocation](char* buffer, std::size_t size) -> Result<std::size_t> {
                              invocation.in().read(buffer, static_cast<std::streamsize>(size));
                              return static_cast<std::size_t>(invocation.in().gcount());
                            }};
  }
  if (file == "-") {
    total = 0;
    return recording::Input{file, [&invocation](char* buffer, std::size_t size) {
                              return read_some(STDIN_FILENO, "standard input", buffer, size, invocation);
                            }};
  }
  const auto fd = std::make_shared<UniqueFd>(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status{};
  if (!*fd || ::fstat(fd->get(), &status) != 0) {
    return std::unexpected(Failure(fail_errno("open " + base::printable(file), errno).error()));
  }
  if (S_ISDIR(status.st_mode)) return std::unexpected(Failure(Exit::usage, base::printable(file) + " is a folder"));
  (void)::posix_fadvise(fd->get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  if (total > 0) total = S_ISREG(status.st_mode) ? total + static_cast<std::uint64_t>(status.st_size) : 0;
  return recording::Input{file, [fd, file, &invocation](char* buffer, std::size_t size) {
                            return read_some(fd->get(), file, buffer, size, invocation);
                          }};
}

Outcome<bool> check_target(const std::string& into, Invocation& invocation) {
  const auto shown = base::printable(into);
  if (!into.ends_with(".redb")) return std::unexpected(Failure(Exit::usage, "--into: " + shown + " must end in .redb"));
  CLI_TRY(const auto* settings, invocation.loaded());
  const auto& own = settings->settings.database.path;
  std::error_code error;
  if (std::filesystem::equivalent(into, own, error) ||
      std::filesystem::weakly_canonical(into, error) == std::filesystem::weakly_canonical(own, error)) {
    return std::unexpected(Failure(store::WriterLock::is_held(into) ? Exit::unavailable : Exit::usage,
                                   "--into: " + shown + " is the agent's own database",
                                   {"imports go into a file of their own; --db FILE reads it"}));
  }
  if (store::WriterLock::is_held(into)) {
    return std::unexpected(Failure(Exit::unavailable, "--into: " + shown + " is being written to",
                                   {"by a running agent, or by another import"}));
  }
  return true;
}

Outcome<Exit> import_files(const ImportArguments& arguments, Invocation& invocation) {
  CLI_TRY([[maybe_unused]] const bool usable, check_target(arguments.into, invocation));
  std::vector<recording::Input> inputs;
  std::uint64_t total = 1;  // 0: unknown
  for (const auto& file : arguments.files) {
    CLI_TRY(auto input, open_input(file, invocation, total));
    inputs.push_back(std::move(input));
  }
  (void)invocation.interrupted();  // from here on an interrupt cleans up
  Progress progress(invocation, "importing");
  std::uint64_t bad = 0;
  recording::ImportOptions options;
  options.into = arguments.into;
  options.strict = arguments.strict;
  options.deadline = invocation.deadline();
  options.stop = [&] { return invocation.interrupted(); };
  options.progress = [&](const recording::ImportReport& report) {
    progress.show(report.bytes, total, std::to_string(report.lines) + " lines");
  };
  options.bad_line = [&](const recording::BadLine& line) {
    if (arguments.strict || ++bad > bad_lines_shown) return;
    progress.clear();
    invocation.err() << "skipped: " << recording::to_string(line) << '\n';
  };
  const auto imported = recording::import_recording(inputs, options);
  progress.clear();
  if (!imported) {
    Failure failure(imported.error());
    if (arguments.strict) failure.details.emplace_back("nothing was imported");
    return std::unexpected(std::move(failure));
  }
  if (bad > bad_lines_shown) invocation.err() << "skipped: " << bad - bad_lines_shown << " more\n";
  const auto number = [](std::uint64_t value) -> event::Value { return static_cast<std::int64_t>(value); };
  write_record(invocation, {{"path"}, {"lines"}, {"imported"}, {"gaps"}, {"skipped"}},
               {arguments.into, number(imported->lines), number(imported->imported), number(imported->gaps),
                number(imported->skipped)});
  return imported->skipped > 0 ? Exit::degraded : Exit::done;
}

struct ExportArguments {
  std::string since, until;
  bool follow = false;
};

class Export {
 public:
  Export(Invocation& invocation, store::Reader& reader, event::TimeRange range)
      : invocation_(invocation), reader_(reader) {
    request_.time = range;
    request_.columns = recording::line_columns();
    format_.raw_times = invocation.render().raw;
  }

  // What is there now, a snapshot after the other. False when the output takes no more, or somebody interrupts.
  Outcome<bool> write_new() {
    while (true) {
      CLI_TRY(const auto last, reader_.last_event_id());
      request_.first_event = next_;
      request_.last_event = last;
      if (last < next_) return true;
      CLI_TRY(const bool whole, write_rows());
      if (whole) next_ = last + 1;
      invocation_.out().write(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
      buffer_.clear();
      invocation_.out().flush();
      if (!invocation_.out().good() || invocation_.interrupted()) return false;
    }
  }
  // Until something was committed since the last call.
  Outcome<bool> wait() {
    while (true) {
      if (invocation_.interrupted()) return false;
      if (request_.time.to && base::wall_now() > *request_.time.to) return false;
      CLI_TRY(auto statement, reader_.database().prepare("PRAGMA data_version"));
      CLI_TRY([[maybe_unused]] const bool row, statement.step());
      if (const auto version = statement.integer(0); version != version_) {
        version_ = version;
        return true;
      }
      ::poll(nullptr, 0, look_again_ms);
    }
  }
  [[nodiscard]] const std::vector<event::Incompleteness>& damage() const { return damage_; }

 private:
  // False when it stopped before the end of what was asked for.
  Outcome<bool> write_rows() {
    CLI_TRY(const auto scan, reader_.scan(request_, [this] { return invocation_.deadline().expired(); }));
    std::uint64_t rows = 0;
    bool more = true;
    while (rows < rows_a_snapshot) {
      auto stepped = scan->next();
      if (!stepped && stepped.error().code == Errc::cancelled) {
        return std::unexpected(Failure(Exit::failed, "gave up: the time limit has passed (--timeout gives more time)"));
      }
      CLI_TRY(more, std::move(stepped));
      if (!more) break;
      ++rows;
      next_ = scan->event_id() + 1;
      recording::append_line(*scan, format_, buffer_);
      if (buffer_.size() < flush_bytes) continue;
      invocation_.out().write(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
      buffer_.clear();
      if (!invocation_.out().good() || invocation_.interrupted()) return false;
    }
    const auto& met = scan->stats().damage;
    damage_.insert(damage_.end(), met.begin(), met.end());
    return !more;
  }

  Invocation& invocation_;
  store::Reader& reader_;
  store::ScanRequest request_;
  recording::LineFormat format_;
  event::EventId next_ = 1;
  std::int64_t version_ = 0;
  std::string buffer_;
  std::vector<event::Incompleteness> damage_;
};

Outcome<Exit> export_events(const ExportArguments& arguments, Invocation& invocation) {
  const auto now = base::wall_now();
  event::TimeRange range;
  if (!arguments.since.empty()) {
    CLI_TRY(range.from, parse_moment(arguments.since, now));
  }
  if (!arguments.until.empty()) {
    CLI_TRY(range.to, parse_moment(arguments.until, now));
  }
  if (arguments.follow) invocation.lift_time_limit();
  CLI_TRY(const auto reader, invocation.reader());
  Export rows(invocation, *reader, range);
  while (true) {
    CLI_TRY(const bool more, rows.write_new());
    if (!more || !arguments.follow) break;
    CLI_TRY(const bool changed, rows.wait());
    if (!changed) break;
  }
  if (!arguments.follow && invocation.interrupted()) return std::unexpected(Failure(Exit::failed, "interrupted"));
  CLI_TRY(auto completeness, reader->completeness(range, base::wall_now()));
  completeness.reasons.insert(completeness.reasons.end(), rows.damage().begin(), rows.damage().end());
  invocation.tell(completeness, false);
  return exit_for(completeness);
}

}  // namespace

void add_recordings(CLI::App& app, Action& chosen) {
  auto* import = add_verb(app, "import", "Events from JSON Lines into a database of their own, for --db");
  const auto in = std::make_shared<ImportArguments>();  // shared: the parser fills what the action reads
  import->add_option("FILE", in->files, "Recordings, one event a line; - is standard input")->required();
  import->add_option("--into", in->into, "The database: made when it is not there, else appended to")
      ->type_name("DB.redb")
      ->required();
  import->add_flag("--strict", in->strict,
                   "The first bad line ends it and nothing is imported; else bad lines are skipped");
  import->footer(
      "A line is an object with columns of process_events as keys (schema process_events); what is not there is NULL. "
      "Wanted are time (Unix nanoseconds or ISO 8601), kind, and process_key or pid. Each bad line is named by file "
      "and "
      "number; exit code 3 when some were skipped. Nothing of an import goes by age or size.\n"
      "A new database is there as a whole or not at all. Appending works in place, except with --strict: then on a "
      "copy, which takes the file's place at the end.");
  import->callback([in, &chosen] { chosen = [in](Invocation& invocation) { return import_files(*in, invocation); }; });

  auto* exporting = add_verb(app, "export", "Events as JSON Lines on standard output, for import and other programs");
  const auto out = std::make_shared<ExportArguments>();
  exporting->add_option("--since", out->since, "A span ago (5m, 2h, 7d) or ISO 8601")->type_name("TIME");
  exporting->add_option("--until", out->until, "A span ago or ISO 8601")->type_name("TIME");
  exporting->add_flag("--follow", out->follow, "Go on with new events until interrupted, or until --until has come");
  exporting->footer(
      "Columns that are NULL are left out. Times are ISO 8601, with --raw Unix nanoseconds. What is not UTF-8 is "
      "written "
      "as U+FFFD. --db exports another database.");
  exporting->callback(
      [out, &chosen] { chosen = [out](Invocation& invocation) { return export_events(*out, invocation); }; });
}

}  // namespace daemoneye::cli
