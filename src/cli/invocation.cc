#include "cli/invocation.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <istream>
#include <ostream>
#include <utility>

#include "alert/sink.h"
#include "base/text.h"
#include "predicate/predicate.h"

namespace daemoneye::cli {
namespace {

// Rooms that give values their meaning tell `config` what is right.
void register_checks() {
  alert::register_sink_types();
  config::register_validator("collection.exclude", [](const std::string& text) -> Result<void> {
    DE_TRY([[maybe_unused]] const auto predicate, predicate::Predicate::parse(text));
    return {};
  });
}

bool exists(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0;
}

// True when nobody said where the state is, this user has none of its own, and the system's is there.
bool reads_the_system(const config::Sources& sources, const config::Loaded& loaded) {
  const bool told = loaded.origin.at("app.state_dir") != "default" || loaded.origin.at("database.path") != "default";
  return !sources.privileged && !told && !exists(loaded.settings.database.path) && exists("/var/lib/daemoneye");
}

std::vector<std::string> reading_hints(Errc code, const std::string& path) {
  switch (code) {
    case Errc::not_found:
      return {"is the agent running, or did it ever? --config, --set database.path=… and --db say where to look"};
    case Errc::permission_denied: return {"members of the group daemoneye may read " + path};
    default: return {};
  }
}

}  // namespace

Invocation::Invocation(Io& io, const GlobalOptions& options, std::chrono::nanoseconds timeout, Format format)
    : io_(io), options_(options), timeout_(timeout), deadline_(Deadline::after(timeout)) {
  render_.format = format;
  render_.raw = options.raw;
  render_.terminal = io.terminal;
  render_.colour = io.terminal && !options.no_colour;
  render_.width = io.terminal ? io.width : 0;
}

void Invocation::lift_time_limit() {
  deadline_ = Deadline::never();
  io_.limit_time(std::chrono::nanoseconds(0));
}

std::unique_ptr<RowWriter> Invocation::row_writer(std::string null_text) const {
  RenderOptions options = render_;
  options.null_text = std::move(null_text);
  return make_row_writer(options, io_.out);
}

void Invocation::tell(const event::Completeness& completeness, bool also_complete) const {
  if (render_.format == Format::json) return;
  io_.out.flush();  // so that both streams read in order on a terminal
  if (!completeness.complete() || also_complete) io_.err << completeness_text(completeness);
}

void Invocation::leave_at_least(std::chrono::nanoseconds span) {
  if (deadline_.remaining() >= span) return;
  deadline_ = Deadline::after(span);
  io_.limit_time(span);
}

bool Invocation::read_answer(std::string& answer) {
  // From a pipe no person answers: what hangs there is ended in time.
  if (!io_.in_terminal || deadline_.is_never()) return static_cast<bool>(std::getline(io_.in, answer));
  const auto left = std::max(deadline_.remaining(), std::chrono::nanoseconds(1));
  io_.limit_time(std::chrono::nanoseconds(0));
  const bool read = static_cast<bool>(std::getline(io_.in, answer));
  deadline_ = Deadline::after(left);
  io_.limit_time(left);
  return read;
}

Outcome<bool> Invocation::confirmed(const std::string& question, bool yes) {
  if (yes) return true;
  io_.out.flush();
  io_.err << question << " [y/N] " << std::flush;
  std::string answer;
  if (!read_answer(answer)) {
    io_.err << '\n';
    return std::unexpected(Failure(Exit::usage, "nobody is there to ask: --yes goes on without asking"));
  }
  if (answer == "y" || answer == "Y" || answer == "yes") return true;
  return std::unexpected(Failure(Exit::failed, "not done"));
}

Invocation::Attempt Invocation::try_load() const {
  register_checks();
  std::optional<std::string> file;
  if (!options_.config_file.empty()) file = options_.config_file;
  auto sources = io_.sources(file, options_.set);
  auto loaded = config::load(sources);
  if (loaded && reads_the_system(sources, *loaded)) {
    sources.system_paths = true;
    loaded = config::load(sources);
  }
  return {std::move(sources), std::move(loaded)};
}

Outcome<const config::Loaded*> Invocation::loaded() {
  if (loaded_) return loaded_.get();
  auto [sources, loaded] = try_load();
  if (!loaded) {
    std::vector<std::string> details;
    for (const auto& problem : loaded.error()) details.push_back(config::to_string(problem));
    const auto count = details.size();
    return std::unexpected(Failure(
        Exit::usage, "the configuration has " + std::to_string(count) + (count == 1 ? " error" : " errors"), details));
  }
  for (const auto& notice : loaded->notices) io_.err << "notice: " << base::printable(notice) << '\n';
  loaded_ = std::make_unique<config::Loaded>(std::move(*loaded));
  sources_ = std::move(sources);
  return loaded_.get();
}

Outcome<const config::Loaded*> Invocation::loaded_defaults() {
  auto sources = io_.sources(std::nullopt, {});
  std::erase_if(sources.environment, [](const auto& variable) { return variable.first.starts_with("DAEMONEYE_"); });
  // Where the state is depends on the home, and what else is read from there is not wanted.
  if (!sources.environment.contains("XDG_STATE_HOME") && !sources.home.empty()) {
    sources.environment["XDG_STATE_HOME"] = sources.home + "/.local/state";
  }
  sources.home.clear();
  sources.etc = "/nonexistent";
  sources.bundle_fragment = "";
  auto loaded = config::load(sources);
  if (!loaded) return std::unexpected(Failure(Exit::usage, config::to_string(loaded.error().front())));
  loaded_ = std::make_unique<config::Loaded>(std::move(*loaded));
  sources_ = std::move(sources);
  return loaded_.get();
}

Outcome<std::string> Invocation::store_path() {
  if (!options_.database.empty()) return options_.database;
  CLI_TRY(const auto* settings, loaded());
  return settings->settings.database.path;
}

Outcome<std::unique_ptr<sql::Connection>> Invocation::connect() {
  CLI_TRY(const auto path, store_path());
  CLI_TRY(const auto* settings, loaded());
  auto connection = sql::Connection::open(path, settings->settings.audit.path);
  if (connection) return std::move(*connection);
  Failure failure(connection.error());
  failure.details = reading_hints(connection.error().code, path);
  return std::unexpected(std::move(failure));
}

Outcome<std::unique_ptr<store::Reader>> Invocation::reader() {
  CLI_TRY(const auto path, store_path());
  auto reader = store::Reader::open(path);
  if (reader) return std::move(*reader);
  Failure failure(reader.error());
  failure.details = reading_hints(reader.error().code, path);
  return std::unexpected(std::move(failure));
}

Outcome<std::unique_ptr<ipc::Client>> Invocation::agent(Deadline deadline) {
  CLI_TRY(const auto* settings, loaded());
  const auto& path = settings->settings.ipc.socket_path;
  auto client = ipc::Client::connect(path, deadline);
  if (client) return std::move(*client);
  const auto code = client.error().code;
  if (code == Errc::permission_denied) {
    return std::unexpected(
        Failure(Exit::unavailable, client.error().message, {"members of the group daemoneye may ask the agent"}));
  }
  return std::unexpected(Failure(Exit::unavailable, "the agent does not answer: " + client.error().message));
}

Outcome<sql::RunStats> Invocation::write_results(const sql::Compiled& compiled, std::string null_text,
                                                 std::uint64_t limit, const Run& run) const {
  const auto writer = row_writer(std::move(null_text));
  bool begun = false;
  const auto begin = [&] {
    if (std::exchange(begun, true)) return;
    std::vector<OutputColumn> columns;
    for (const auto& column : compiled.columns()) columns.push_back({column.name, column.is_time});
    writer->begin(std::move(columns));
  };
  auto stats = run([&](const sql::Row& row) {
    begin();
    return writer->row(row);
  });
  if (!stats) {
    if (begun) writer->finish({}, stats.error().message);
    return std::unexpected(Failure(stats.error()));
  }
  begin();
  auto& reasons = stats->completeness.reasons;
  const bool said = std::ranges::any_of(reasons, [](const auto& reason) { return reason.reason == "limit_reached"; });
  if (limit > 0 && stats->more && !said) reasons.push_back({"limit_reached", limit, std::nullopt, std::nullopt});
  writer->finish(stats->completeness, "");
  return std::move(*stats);
}

Outcome<Exit> Invocation::run_sql(const std::string& sql, std::map<std::string, event::Value> parameters,
                                  std::uint64_t limit) {
  CLI_TRY(const auto connection, connect());
  const auto compiled = sql::compile(sql);
  if (!compiled) {
    return std::unexpected(Failure(Exit::failed, "a statement of this program is not accepted by itself",
                                   {sql::to_string(compiled.error(), sql)}));
  }
  sql::RunOptions run_options;
  run_options.parameters = std::move(parameters);
  run_options.deadline = deadline_;
  run_options.row_limit = limit;
  CLI_TRY(const auto stats, write_results(*compiled, "-", 0, [&](const auto& each) {
            return connection->run(*compiled, run_options, each);
          }));
  tell(stats.completeness, false);
  return exit_for(stats.completeness);
}

Outcome<Timestamp> parse_moment(const std::string& text, Timestamp now) {
  if (const auto span = base::parse_duration(text)) return Timestamp{now.ns - span->count()};
  if (const auto moment = base::parse_iso(text)) return *moment;
  return std::unexpected(Failure(Exit::usage, "not a time: '" + base::printable(text.substr(0, 64)) +
                                                  "' (wanted a span like 5m, 2h, 7d, or ISO 8601)"));
}

Exit exit_for(const event::Completeness& completeness) { return completeness.complete() ? Exit::done : Exit::degraded; }

void write_record(const Invocation& invocation, const std::vector<OutputColumn>& columns, const Row& row,
                  std::string_view indent) {
  if (invocation.format() != Format::table) {
    const auto writer = invocation.row_writer();
    writer->begin(columns);
    writer->row(row);
    writer->finish({}, "");
    return;
  }
  std::size_t width = 0;
  for (const auto& column : columns) width = std::max(width, column.name.size());
  constexpr std::size_t most_lines = 6;
  const std::size_t terminal = invocation.render().width, before = indent.size() + width + 2;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const auto text = value_text(row[i], columns[i].is_time, invocation.render().raw);
    auto shown = text ? base::printable(*text) : "-";
    if (terminal > 0) shown = shortened(shown, std::max(terminal, most_lines * terminal - before));
    invocation.out() << indent << columns[i].name << std::string(width - columns[i].name.size() + 2, ' ') << shown
                     << '\n';
  }
}

event::Value optional_text(const std::optional<std::string>& text) {
  if (text) return *text;
  return std::monostate{};
}

}  // namespace daemoneye::cli
