#include "cli/statement.h"

#include <sys/types.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <ostream>
#include <utility>

#include "base/hash.h"
#include "base/text.h"
#include "cli/explain.h"
#include "cli/progress.h"
#include "cli/spool.h"

namespace daemoneye::cli {
namespace {

// The agent records refusals in the ledger; when it is not there the refusal stands all the same.
constexpr std::chrono::milliseconds refusal_deadline{200};

void report_refusal(Invocation& invocation, const std::string& text, nlohmann::json why) {
  const auto deadline = Deadline::after(refusal_deadline);
  const auto agent = invocation.agent(deadline);
  if (!agent) return;
  why["digest"] = base::to_hex(base::sha256(text));
  // Best effort by design: the user's answer does not depend on it.
  (void)(*agent)->call(ipc::RequestKind::record_refusal, why.dump(), deadline);
}

// First line of the refusal; its remaining lines (the source with a caret) are details.
Failure refused(const sql::SqlError& error, const std::string& text) {
  std::vector<std::string> details;
  std::string first;
  const std::string whole = sql::to_string(error, text);  // the lines below are views into it
  for (const auto line : base::split(whole, '\n')) {
    if (first.empty())
      first = line;
    else if (!line.empty())
      details.emplace_back(line);
  }
  return {Exit::usage, first, details};
}

event::Value parameter_value(const std::string& text) {
  if (text.size() >= 2 && text.front() == '\'' && text.back() == '\'') return text.substr(1, text.size() - 2);
  if (const auto number = base::parse_integer<std::int64_t>(text); number && std::to_string(*number) == text) {
    return *number;
  }
  double real = 0;
  const bool decimal = !text.empty() && text.find_first_not_of("-.0123456789") == std::string::npos &&
                       text.find('.') != std::string::npos;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), real);
  if (decimal && error == std::errc{} && end == text.data() + text.size()) return real;
  return text;
}

// Where rows go: at once to the output or, when a person reads it, to a spool that is shown afterwards.
class Destination {
 public:
  explicit Destination(Io& io) : io_(io), paged_(io.terminal && io.height > 0), spooled_(&spool_) {}
  [[nodiscard]] std::ostream& stream() { return paged_ ? spooled_ : io_.out; }
  [[nodiscard]] bool full() const { return spool_.full(); }

  Outcome<bool> show(Invocation& invocation) {
    if (!paged_) return true;
    if (spool_.failed()) return std::unexpected(Failure(Exit::failed, "cannot keep the output in a temporary file"));
    constexpr unsigned lines_kept = 3;  // for what is said afterwards, and the prompt
    if (spool_.in_memory() && spool_.lines() + lines_kept <= io_.height) {
      io_.out << spool_.text();
      return true;
    }
    CLI_TRY(const int file, spool_.file());
    invocation.lift_time_limit();  // they may take their time
    io_.out.flush();
    if (io_.page(file)) return true;
    char buffer[64 * 1024];
    for (ssize_t got = 0; (got = ::read(file, buffer, sizeof buffer)) > 0 && io_.out.good();)
      io_.out.write(buffer, got);
    return true;
  }

 private:
  Io& io_;
  bool paged_;
  Spool spool_;
  std::ostream spooled_;
};

std::string timing_text(const sql::RunStats& stats) {
  const auto ms = std::chrono::duration<double, std::milli>(stats.elapsed).count();
  char text[64];
  (void)std::snprintf(text, sizeof text, "%llu %s in %.1f ms\n", static_cast<unsigned long long>(stats.rows),
                      stats.rows == 1 ? "row" : "rows", ms);
  return text;
}

}  // namespace

InterruptWatch::InterruptWatch(Io& io) {
  (void)io.interrupted();  // from this question on Ctrl-C is heard
  thread_ = std::jthread([this, &io](const std::stop_token& stop) {
    constexpr std::chrono::milliseconds between{20};
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    while (!stop.stop_requested()) {
      if (io.interrupted() || io.reader_is_gone()) {
        wanted_.request_stop();
        return;
      }
      never.wait_for(lock, stop, between, [] { return false; });
    }
  });
}

Outcome<sql::Compiled> compile_statement(Invocation& invocation, const std::string& text) {
  auto compiled = sql::compile(text);
  if (compiled) return std::move(*compiled);
  const auto& error = compiled.error();
  report_refusal(invocation, text,
                 {{"line", error.line}, {"column", error.column}, {"reason", sql::without_quoted(error.message)}});
  return std::unexpected(refused(compiled.error(), text));
}

Outcome<std::map<std::string, event::Value>> parse_parameters(const std::vector<std::string>& given,
                                                              const sql::Compiled& compiled, bool strict) {
  std::map<std::string, event::Value> values;
  std::vector<std::string_view> wanted(compiled.parameters().begin(), compiled.parameters().end());
  for (const auto& text : given) {
    const auto equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      return std::unexpected(
          Failure(Exit::usage, "--param: found '" + base::printable(text.substr(0, 64)) + "'; allowed: NAME=VALUE"));
    }
    std::string name = text.substr(0, equals);
    if (name.front() == ':') name.erase(0, 1);
    if (!compiled.parameters().contains(name)) {
      if (!strict) continue;
      const auto near = base::nearest(name, wanted);
      std::string all;
      for (const auto one : wanted) all += (all.empty() ? "" : ", ") + std::string(one);
      return std::unexpected(Failure(Exit::usage, "--param: the SQL has no parameter " + base::printable(name) +
                                                      (!near.empty() ? "; did you mean " + std::string(near) + "?"
                                                       : all.empty() ? "; it has none"
                                                                     : "; there are " + all)));
    }
    values[name] = parameter_value(text.substr(equals + 1));
  }
  std::vector<std::string> missing;
  for (const auto& name : compiled.parameters()) {
    if (!values.contains(name)) {
      missing.push_back((name.front() == '?' ? name : ':' + name) + " has no value: give --param " + name + "=VALUE");
    }
  }
  if (!missing.empty()) return std::unexpected(Failure(Exit::usage, "a parameter has no value", missing));
  return values;
}

Outcome<Exit> run_statement(Invocation& invocation, std::unique_ptr<sql::Connection> connection,
                            const sql::Compiled& compiled, RunChoices choices) {
  Io& io = invocation.io();
  Destination destination(io);
  RenderOptions render = invocation.render();
  render.null_text = "NULL";
  const auto writer = make_row_writer(render, destination.stream());
  bool begun = false;
  const auto begin = [&] {
    if (std::exchange(begun, true)) return;
    std::vector<OutputColumn> columns;
    for (const auto& column : compiled.columns()) columns.push_back({column.name, column.is_time});
    writer->begin(std::move(columns));
  };

  Result<sql::RunStats> stats = sql::RunStats{};
  std::uint64_t rows = 0;
  {
    const InterruptWatch watch(io);
    Progress progress(invocation, "reading");
    sql::RunOptions options;
    options.parameters = std::move(choices.parameters);
    options.deadline = choices.deadline;
    options.stop = watch.token();
    options.row_limit = choices.limit;
    options.explain = choices.explain;
    options.progress = [&](const sql::Progress& now) {
      progress.show(now.blocks_done, now.blocks_total, std::to_string(rows) + " rows so far; Ctrl-C cancels");
    };
    stats = connection->run(compiled, options, [&](const sql::Row& row) {
      begin();
      ++rows;
      return writer->row(row);
    });
  }
  connection.reset();
  const auto hints = sql::hints(compiled);
  if (!stats) {
    Failure failure(stats.error());
    if (stats.error().code == Errc::cancelled) {
      failure.message = io.reader_is_gone() ? "cancelled: nobody reads the answer" : "cancelled";
      if (rows > 0) failure.details.push_back(std::to_string(rows) + " rows were given before");
    }
    if (begun) {
      writer->finish({}, failure.message);
      CLI_TRY([[maybe_unused]] const auto shown, destination.show(invocation));
    }
    if (stats.error().code == Errc::timeout || stats.error().code == Errc::limit_exceeded) {
      report_refusal(invocation, choices.text,
                     {{"when", "run"}, {"reason", sql::without_quoted(stats.error().message)}, {"rows", rows}});
      for (const auto& hint : hints) failure.details.push_back("hint: " + base::printable(sql::to_string(hint)));
    }
    io.out.flush();
    return std::unexpected(std::move(failure));
  }
  begin();
  auto& reasons = stats->completeness.reasons;
  const bool said = std::ranges::any_of(reasons, [](const auto& reason) { return reason.reason == "limit_reached"; });
  if ((destination.full() || stats->more) && !said) {
    reasons.push_back({"limit_reached", std::nullopt, std::nullopt, std::nullopt});
  }
  if (choices.explain) {
    writer->add("explain", explain_json(compiled, &*stats));
    writer->add("hints", hints_json(hints));
  }
  writer->finish(stats->completeness, "");
  CLI_TRY([[maybe_unused]] const auto shown, destination.show(invocation));
  io.out.flush();
  if (render.format != Format::json) {
    if (destination.full()) {
      io.err << "more rows there are: a person is shown at most " << max_spooled_bytes / 1024 / 1024
             << " MiB; write them to a file instead\n";
    } else if (stats->more) {
      io.err << "more rows there are: --limit " << choices.limit << " ended the result\n";
    }
    if (choices.explain) io.err << explain_text(compiled, &*stats) << hints_text(hints);
  }
  invocation.tell(stats->completeness, choices.tell_complete);
  if (choices.timing) io.err << timing_text(*stats);
  return exit_for(stats->completeness);
}

}  // namespace daemoneye::cli
