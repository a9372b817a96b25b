#include "agent/alert_admin.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "agent/requests.h"
#include "observe/log.h"
#include "observe/metrics.h"

namespace daemoneye::apps {
namespace {

using nlohmann::json;
using observe::ComponentHealth;
using observe::HealthState;

constexpr auto longest_test = std::chrono::seconds(60);
constexpr auto answer_margin = std::chrono::milliseconds(500);  // of a test's time: the reply must be in time

json optional_time(const std::optional<Timestamp>& time) { return time ? json(time->ns) : json(nullptr); }

std::string milliseconds_text(double ms) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", ms);
  return text;
}

std::optional<std::string> status_after(const std::string& what) {
  if (what == "ack") return "acknowledged";
  if (what == "close") return "closed";
  if (what == "reopen") return "open";
  return std::nullopt;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string outcomes_json(const std::vector<store::StatusOutcome>& outcomes, const std::string& to) {
  auto refused = json::array(), changed = json::array();
  for (const auto& outcome : outcomes) {
    if (!outcome.refused.empty()) refused.push_back({{"alert_id", outcome.alert_id}, {"why", outcome.refused}});
    changed.push_back({{"alert_id", outcome.alert_id}, {"from", outcome.from}, {"to", to}});
  }
  if (!refused.empty()) changed = json::array();
  return dump({{"changed", std::move(changed)}, {"refused", std::move(refused)}});
}

// A change of very many dead letters, a step at a time.
struct DeadLetterJob {
  store::Writer& writer;
  store::DeadLetterFilter filter;
  bool purge = false;
  std::int64_t after = 0;
  std::uint64_t changed = 0, step_changed = 0;
  std::optional<std::int64_t> last;
  std::function<void(const Result<void>&, std::uint64_t changed)> done;
};

// The loop's thread must not wait for room; the later steps begin in the writer's own.
void run_job(std::shared_ptr<DeadLetterJob> job, bool is_first = true) {
  auto& writer = job->writer;
  (writer.*(is_first ? &store::Writer::change_unless_full : &store::Writer::change))(
      [job](db::StatementCache& statements) -> Result<void> {
        job->step_changed = 0;
        if (job->purge) {
          DE_TRY(job->last, store::purge_dead_letters(statements, job->filter, job->after, job->step_changed));
        } else {
          DE_TRY(job->last,
                 store::retry_dead_letters(statements, job->filter, base::wall_now(), job->after, job->step_changed));
        }
        return {};
      },
      [job](const Result<void>& result) {
        if (result) job->changed += job->step_changed;
        if (!result || !job->last) return job->done(result, job->changed);
        job->after = *job->last;
        run_job(job, false);
      });
}

}  // namespace

AlertAdmin::AlertAdmin(EventLoop& loop, store::Writer& writer, alert::Deliverer& deliverer, std::string store_path,
                       Audit audit)
    : loop_(loop),
      writer_(writer),
      deliverer_(deliverer),
      store_path_(std::move(store_path)),
      audit_(std::move(audit)) {}

AlertAdmin::~AlertAdmin() {
  if (tester_.joinable()) tester_.join();
  for (const auto& follower : followers_) loop_.remove_timer(follower.timer);
}

Result<store::Reader*> AlertAdmin::reader() {
  if (!reader_) {
    DE_TRY(reader_, store::Reader::open(store_path_));
  }
  return reader_.get();
}

void AlertAdmin::answer(uid_t by, const ipc::Request& request, Reply reply) {
  switch (request.kind) {
    case ipc::RequestKind::sinks: return reply(sinks_json());
    case ipc::RequestKind::test_sinks: return test_sinks(by, request, std::move(reply));
    case ipc::RequestKind::follow_alerts: return follow(request.payload, std::move(reply));
    case ipc::RequestKind::change_alerts: {
      auto answered = change_alerts(by, request.payload, reply);
      if (reply) reply(std::move(answered));
      return;
    }
    case ipc::RequestKind::dead_letters:
      if (auto begun = change_dead_letters(by, request.payload, reply); !begun) {
        reply(std::unexpected(std::move(begun).error()));
      }
      return;
    default: return reply(fail(Errc::invalid_input, "not a request about alerts"));
  }
}

std::string AlertAdmin::sinks_json() const {
  auto list = json::array();
  for (const auto& sink : deliverer_.state()) {
    list.push_back({{"name", sink.name},
                    {"type", sink.type},
                    {"breaker", sink.breaker},
                    {"open_until", optional_time(sink.open_until)},
                    {"waiting", sink.waiting},
                    {"oldest_undelivered", optional_time(sink.oldest_undelivered)},
                    {"dead_letters", sink.dead_letters},
                    {"attempts", sink.attempts},
                    {"delivered", sink.delivered},
                    {"failed", sink.failed},
                    {"last_success", optional_time(sink.last_success)},
                    {"last_failure", optional_time(sink.last_failure)},
                    {"p50_ms", sink.delivered > 0 ? json(sink.p50_ms) : json(nullptr)},
                    {"p99_ms", sink.delivered > 0 ? json(sink.p99_ms) : json(nullptr)},
                    {"healthy", sink.health.healthy},
                    {"last_error", sink.last_error.empty() ? sink.health.reason : sink.last_error}});
  }
  return dump({{"sinks", std::move(list)}});
}

void AlertAdmin::test_sinks(uid_t by, const ipc::Request& request, Reply reply) {
  const auto asked = json::parse(request.payload, nullptr, false);
  const auto sink = asked.is_object() ? asked.value("sink", json("")) : json();
  if (!sink.is_string() || sink.get_ref<const std::string&>().size() > max_id_bytes) {
    return reply(fail(Errc::invalid_input, "test_sinks: not understood"));
  }
  if (testing_.exchange(true)) return reply(fail(Errc::unavailable, "another test of sinks is running"));
  if (tester_.joinable()) tester_.join();
  std::ignore = audit_("sinks_test", dump({{"by_uid", by}, {"sink", sink}}));  // it changes nothing: done all the same
  const auto asked_for = std::chrono::milliseconds(request.timeout_ms);
  const auto deadline = Deadline::after(std::min<std::chrono::milliseconds>(
      std::max<std::chrono::milliseconds>(asked_for - answer_margin, asked_for / 2), longest_test));
  tester_ = std::thread([this, deadline, name = sink.get<std::string>(), reply = std::move(reply)] {
    const auto results = deliverer_.test(name, deadline);
    if (!results) {
      reply(std::unexpected(results.error()));
    } else {
      auto list = json::array();
      for (const auto& result : *results) {
        list.push_back({{"sink", result.sink},
                        {"type", result.type},
                        {"delivered", result.delivered},
                        {"latency_ms", result.latency_ms},
                        {"error", result.error},
                        {"response_code", result.response_code ? json(*result.response_code) : json(nullptr)}});
      }
      reply(dump({{"results", std::move(list)}}));
    }
    testing_ = false;
  });
}

Result<void> AlertAdmin::record(const std::string& action, const std::string& payload) const {
  if (audit_(action, payload)) return {};
  return fail(Errc::unavailable,
              "it could not be kept for the audit ledger, so it was not done: see audit_requests in `health`");
}

// Takes `reply` when the answer comes later.
Result<std::string> AlertAdmin::change_alerts(uid_t by, const std::string& payload, Reply& reply) {
  const auto asked = json::parse(payload, nullptr, false);
  const auto not_understood = fail(Errc::invalid_input, "change_alerts: not understood");
  if (!asked.is_object()) return not_understood;
  const auto what = asked.value("do", json()), note = asked.value("note", json(""));
  const auto alerts = texts(asked, "alerts", max_alerts, max_id_bytes);
  if (!what.is_string() || !note.is_string() || !alerts || alerts->empty()) return not_understood;
  const auto to = status_after(what.get<std::string>());
  if (!to) return not_understood;
  if (note.get_ref<const std::string&>().size() > max_note_bytes) {
    return fail(Errc::invalid_input, "a note is of at most " + std::to_string(max_note_bytes) + " bytes");
  }
  DE_TRY(auto* const store, reader());
  // What cannot be is refused before it is recorded; the transaction decides, as alerts may change meanwhile.
  std::vector<store::StatusOutcome> before;
  for (const auto& id : *alerts) {
    DE_TRY(const auto alert, store->alert(id));
    if (!alert) before.push_back({id, {}, "there is no such alert"});
    if (alert && alert->status == "closed" && what == "ack")
      before.push_back({id, {}, "it is closed: reopen it first"});
  }
  if (!before.empty()) return outcomes_json(before, *to);
  DE_CHECK(record("alert_" + what.get<std::string>(), dump({{"by_uid", by}, {"alerts", *alerts}, {"note", note}})));
  const store::StatusChange change{{}, *to, note.get<std::string>(), name_of(by), base::wall_now()};
  // Shared: the change is in one closure, its end in another.
  const auto outcomes = std::make_shared<std::vector<store::StatusOutcome>>();
  writer_.change_unless_full(
      [change, outcomes, ids = *alerts](db::StatementCache& statements) -> Result<void> {
        DE_TRY(*outcomes, store::change_statuses(statements, ids, change));
        return {};
      },
      [later = std::exchange(reply, nullptr), outcomes, to = *to](const Result<void>& result) {
        if (!result) return later(std::unexpected(result.error()));
        later(outcomes_json(*outcomes, to));
      });
  return "";
}

Result<void> AlertAdmin::change_dead_letters(uid_t by, const std::string& payload, Reply reply) {
  const auto asked = json::parse(payload, nullptr, false);
  const auto not_understood = fail(Errc::invalid_input, "dead_letters: not understood");
  if (!asked.is_object()) return not_understood;
  const auto what = asked.value("do", json()), before = asked.value("before", json());
  const auto sinks = texts(asked, "sinks", max_sinks, max_id_bytes);
  const auto alerts = texts(asked, "alerts", max_alerts, max_id_bytes);
  const bool known = what == "retry" || what == "purge";
  if (!known || !sinks || !alerts || !(before.is_null() || before.is_number_integer())) return not_understood;
  // Everything must be asked for in so many words.
  const bool all = asked.value("all", json(false)) == true;
  if (all != (sinks->empty() && alerts->empty() && before.is_null())) return not_understood;
  auto job = std::make_shared<DeadLetterJob>(writer_);  // shared: each step's closures hold it
  job->purge = what == "purge";
  job->filter.sinks = *sinks;
  job->filter.alerts = *alerts;
  if (!before.is_null()) job->filter.before = Timestamp{before.get<std::int64_t>()};
  std::uint64_t left = 0;
  if (!job->purge) {
    const auto configured = deliverer_.names();
    for (const auto& sink : *sinks) {
      if (std::ranges::find(configured, sink) != configured.end()) continue;
      return fail(Errc::invalid_input, "sink '" + sink + "' is not configured: what is there for it can be retried " +
                                           "when it is back; configured: " + joined(configured));
    }
    if (sinks->empty()) {
      job->filter.sinks = configured;
      for (const auto& [sink, count] : deliverer_.retired()) left += count;
    }
  }
  DE_CHECK(record("dead_letter_" + what.get<std::string>(),
                  dump({{"by_uid", by}, {"sinks", *sinks}, {"alerts", *alerts}, {"before", before}, {"all", all}})));
  job->done = [this, reply = std::move(reply), left, here = std::weak_ptr(here_)](const Result<void>& result,
                                                                                  std::uint64_t changed) {
    // The deliverer outlives us, and we the writer's callbacks: see Agent::stop().
    if (here.lock()) deliverer_.wake();
    if (!result) return reply(std::unexpected(result.error()));
    reply(dump({{"changed", changed}, {"left", left}}));
  };
  run_job(std::move(job));
  return {};
}

Result<std::int64_t> AlertAdmin::last_row() {
  DE_TRY(auto* const store, reader());
  return store->last_alert_row();
}

void AlertAdmin::follow(const std::string& payload, Reply reply) {
  const auto asked = json::parse(payload, nullptr, false);
  const auto after = asked.is_object() ? asked.value("after", json()) : json();
  const auto wait = asked.is_object() ? asked.value("wait_ms", json()) : json();
  if (!after.is_number_integer() || !wait.is_number_integer()) {
    return reply(fail(Errc::invalid_input, "follow_alerts: not understood"));
  }
  const auto row = after.get<std::int64_t>();
  const auto last = last_row();
  if (!last) return reply(std::unexpected(last.error()));
  // A row beyond the last one: there was a purge.
  if (*last != row) return reply(dump({{"last", *last}}));
  if (followers_.size() >= max_followers) return reply(fail(Errc::limit_exceeded, "too many follow already"));
  Follower follower{next_follower_++, row, std::move(reply), -1};
  const auto span =
      std::chrono::milliseconds(std::clamp<std::int64_t>(wait.get<std::int64_t>(), 1, longest_follow.count()));
  const auto timer = loop_.add_timer(span, std::chrono::nanoseconds(0), [this, id = follower.id] {
    const auto found = std::ranges::find(followers_, id, &Follower::id);
    if (found == followers_.end()) return;
    const auto quiet = std::move(*found);
    followers_.erase(found);
    followed_ = !followers_.empty();
    quiet.reply(dump({{"last", quiet.row}}));
  });
  if (!timer) return follower.reply(std::unexpected(timer.error()));
  follower.timer = *timer;
  followers_.push_back(std::move(follower));
  followed_ = true;
  // What was committed between the look and now.
  if (const auto again = last_row(); again && *again != row) tell_followers();
}

void AlertAdmin::on_raised() {
  if (!followed_) return;
  loop_.post([this, here = std::weak_ptr(here_)] {
    if (here.lock()) tell_followers();
  });
}

void AlertAdmin::tell_followers() {
  const auto last = last_row();
  std::vector<Follower> told;
  std::erase_if(followers_, [&](Follower& follower) {
    if (last && *last == follower.row) return false;
    told.push_back(std::move(follower));
    return true;
  });
  followed_ = !followers_.empty();
  for (auto& follower : told) {
    loop_.remove_timer(follower.timer);
    if (last)
      follower.reply(dump({{"last", *last}}));
    else
      follower.reply(std::unexpected(last.error()));
  }
}

ComponentHealth AlertAdmin::health() const {
  ComponentHealth health{.component = "sinks", .state = HealthState::ok, .reason = {}, .details = {}};
  const auto degrade = [&](const std::string& reason) {
    health.state = std::max(health.state, HealthState::degraded);
    health.reason += (health.reason.empty() ? "" : "; ") + reason;
  };
  for (const auto& sink : deliverer_.state()) {
    auto text = sink.type + ": breaker " + sink.breaker + ", " + std::to_string(sink.delivered) + " delivered, " +
                std::to_string(sink.waiting) + " waiting, " + std::to_string(sink.dead_letters) + " dead letters";
    if (sink.oldest_undelivered) text += ", oldest since " + base::to_iso(*sink.oldest_undelivered);
    if (sink.last_success) text += ", last success " + base::to_iso(*sink.last_success);
    if (sink.delivered > 0) {
      text += ", p50 " + milliseconds_text(sink.p50_ms) + " ms, p99 " + milliseconds_text(sink.p99_ms) + " ms";
    }
    if (!sink.health.warning.empty()) text += "; warning: " + sink.health.warning;
    health.details[sink.name] = text;
    if (!sink.health.healthy) degrade(sink.name + ": " + sink.health.reason);
    if (sink.dead_letters > 0) {
      degrade(sink.name + ": " + std::to_string(sink.dead_letters) + " dead letters (daemoneye-cli deadletter list)");
    }
  }
  for (const auto& [sink, count] : deliverer_.retired()) {
    health.details[sink] = "not configured: " + std::to_string(count) + " dead letters";
    degrade(sink + ": " + std::to_string(count) + " dead letters of a sink that is not configured");
  }
  return health;
}

void AlertAdmin::publish_metrics() const {
  const auto now = base::wall_now();
  for (const auto& sink : deliverer_.state()) {
    const observe::Labels labels{{"sink", sink.type}, {"name", sink.name}};
    const auto set = [&](std::string_view name, std::string_view help, double value) {
      observe::gauge(name, help, labels).set(value);
    };
    set("daemoneye_alert_queue_depth", "Alerts that wait for a sink.", static_cast<double>(sink.waiting));
    set("daemoneye_alert_dead_letters", "Alerts given up, to be retried or purged.",
        static_cast<double>(sink.dead_letters));
    set("daemoneye_alert_breaker_state", "Circuit breaker of a sink: 0 closed, 1 half open, 2 open.",
        sink.breaker == "closed" ? 0
        : sink.breaker == "open" ? 2
                                 : 1);
    const auto age = sink.oldest_undelivered ? now.ns - sink.oldest_undelivered->ns : 0;
    set("daemoneye_alert_oldest_undelivered_seconds", "Age of the alert that has waited longest for a sink.",
        static_cast<double>(std::max<std::int64_t>(age, 0)) / 1e9);
  }
}

}  // namespace daemoneye::apps
