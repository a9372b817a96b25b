// What every verb works with: the global options, the settings, the store, the agent, and ways to end.
#pragma once

#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/time.h"
#include "cli/cli.h"
#include "cli/exit_code.h"
#include "cli/render.h"
#include "config/config.h"
#include "ipc/connection.h"
#include "sql/connection.h"

namespace daemoneye::cli {

// Why a verb could not do its work: one line, then details, on stderr.
struct Failure {
  Exit exit = Exit::failed;
  std::string message;
  std::vector<std::string> details;

  Failure(Exit exit_, std::string message_, std::vector<std::string> details_ = {})
      : exit(exit_), message(std::move(message_)), details(std::move(details_)) {}
  Failure(const Error& error) : exit(exit_of(error.code)), message(error.message) {}  // NOLINT: meant to convert
};

template <class T>
using Outcome = std::expected<T, Failure>;

// As DE_TRY, for Outcome.
#define CLI_TRY(declaration, expression) CLI_TRY_NAMED(DE_CONCAT(cli_result_, __LINE__), declaration, expression)
#define CLI_TRY_NAMED(name, declaration, expression)                                     \
  auto name = (expression);                                                              \
  if (!name) return std::unexpected<::daemoneye::cli::Failure>(std::move(name).error()); \
  declaration = *std::move(name)

struct GlobalOptions {
  std::string config_file, database;
  std::vector<std::string> set;
  std::string timeout = "30s", format = "table";
  bool raw = false, no_colour = false;
};

class Invocation {
 public:
  Invocation(Io& io, const GlobalOptions& options, std::chrono::nanoseconds timeout, Format format);

  [[nodiscard]] std::ostream& out() const { return io_.out; }
  [[nodiscard]] std::ostream& err() const { return io_.err; }
  [[nodiscard]] std::istream& in() const { return io_.in; }
  [[nodiscard]] Deadline deadline() const { return deadline_; }
  void lift_time_limit();  // of a verb that goes on until it is interrupted
  [[nodiscard]] bool interrupted() const { return io_.interrupted(); }
  [[nodiscard]] Io& io() const { return io_; }
  [[nodiscard]] Format format() const { return render_.format; }
  [[nodiscard]] const RenderOptions& render() const { return render_; }
  [[nodiscard]] bool terminal() const { return io_.terminal; }
  // So much time is left at least: for what must not be cut off once it has begun.
  void leave_at_least(std::chrono::nanoseconds span);
  // A line that somebody types; thinking takes none of the verb's time. False: nobody is there.
  bool read_answer(std::string& answer);
  // Asks on stderr and reads the answer; with `yes` nothing is asked. A failure when it is anything but yes.
  Outcome<bool> confirmed(const std::string& question, bool yes);
  [[nodiscard]] const GlobalOptions& options() const { return options_; }
  [[nodiscard]] std::unique_ptr<RowWriter> row_writer() const { return make_row_writer(render_, io_.out); }
  // The same with this shown for NULL in tables.
  [[nodiscard]] std::unique_ptr<RowWriter> row_writer(std::string null_text) const;
  void set_format(Format format) { render_.format = format; }
  [[nodiscard]] std::chrono::nanoseconds timeout() const { return timeout_; }
  // Completeness of what was read, on stderr: always when degraded; when complete only if asked.
  void tell(const event::Completeness& completeness, bool also_complete) const;

  // Loaded once; notices go to stderr once. A privileged reader that is not root reads the system's agent when it has
  // no state of its own.
  Outcome<const config::Loaded*> loaded();
  // For who has to go on where the configuration is broken: what would be without any.
  Outcome<const config::Loaded*> loaded_defaults();
  // What loaded() would read, and whether it is good or not.
  struct Attempt {
    config::Sources sources;
    std::expected<config::Loaded, std::vector<config::Problem>> loaded;
  };
  [[nodiscard]] Attempt try_load() const;
  [[nodiscard]] const config::Sources& sources() const { return sources_; }  // that loaded() read
  Outcome<std::string> store_path();
  Outcome<std::unique_ptr<sql::Connection>> connect();
  Outcome<std::unique_ptr<store::Reader>> reader();
  Outcome<std::unique_ptr<ipc::Client>> agent(Deadline deadline);

  // Writes what `run` gives. Nothing is written when it fails before the first row; rows cut off by `limit` (0: none)
  // make the result degraded.
  using Run = std::function<Result<sql::RunStats>(const std::function<bool(const sql::Row&)>& each)>;
  Outcome<sql::RunStats> write_results(const sql::Compiled& compiled, std::string null_text, std::uint64_t limit,
                                       const Run& run) const;
  // Runs a statement of ours and writes its rows.
  Outcome<Exit> run_sql(const std::string& sql, std::map<std::string, event::Value> parameters = {},
                        std::uint64_t limit = 0);

 private:
  Io& io_;
  const GlobalOptions& options_;
  std::chrono::nanoseconds timeout_;
  Deadline deadline_;
  RenderOptions render_;
  std::unique_ptr<config::Loaded> loaded_;
  config::Sources sources_;
};

// "5m" ago, or a moment in ISO 8601.
Outcome<Timestamp> parse_moment(const std::string& text, Timestamp now);
// 3 when degraded, else 0.
Exit exit_for(const event::Completeness& completeness);
// One record: a line a column in a table (on a terminal a few lines: the other formats have all of it), otherwise one
// row.
void write_record(const Invocation& invocation, const std::vector<OutputColumn>& columns, const Row& row,
                  std::string_view indent = "");
// Text as a value; NULL when there is none.
event::Value optional_text(const std::optional<std::string>& text);

}  // namespace daemoneye::cli
