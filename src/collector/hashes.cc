#include "collector/hashes.h"

#include <algorithm>

#include "base/hash.h"
#include "base/text.h"
#include "observe/metrics.h"

namespace daemoneye::collector {
namespace {

constexpr std::size_t max_hopeless = 1024;
// Longer ones are remembered by their digest, so that the number of paths bounds what they take.
constexpr std::size_t longest_path_kept = 256;

std::string kept_path(const std::string& path) {
  if (path.size() <= longest_path_kept) return path;
  return "sha256:" + base::to_hex(base::as_bytes(base::sha256(path)));
}

}  // namespace

Hashes::Hashes(Options options, std::unique_ptr<sensor::Hasher> hasher)
    : options_(std::move(options)),
      hasher_(std::move(hasher)),
      files_(options_.files),
      paths_(options_.paths),
      hopeless_(max_hopeless) {}

Result<void> Hashes::start(EventLoop& loop, std::function<void(const Outcome&)> on_outcome) {
  on_outcome_ = std::move(on_outcome);
  if (!hasher_) return {};
  return hasher_->start(loop, [this](const sensor::HashAnswer& answer) { take(answer); });
}

void Hashes::stop() {
  if (hasher_) hasher_->stop();
}

std::optional<std::string> Hashes::find(const sensor::FileIdentity& file) {
  if (file.inode == 0) return std::nullopt;
  const auto* hash = files_.find(file);
  if (hash == nullptr) return std::nullopt;
  ++counters_.hits;
  return *hash;
}

bool Hashes::ask(const Subject& subject, const sensor::FileIdentity& file, const std::optional<std::string>& path) {
  if (!hasher_) return false;
  if (file.inode != 0 && hopeless_.find(file) != nullptr) {
    ++counters_.hopeless;
    return false;
  }
  if (waiting_ >= options_.waiting || waiting_bytes_ >= options_.waiting_bytes) {
    ++counters_.refused;
    return false;
  }
  if (const auto found = file.inode == 0 ? on_the_way_.end() : on_the_way_.find(file); found != on_the_way_.end()) {
    pending_.at(found->second).subjects.push_back(subject);
    ++waiting_;
    waiting_bytes_ += sizeof(Subject);
    ++counters_.joined;
    return true;
  }
  const auto id = ++last_request_;
  if (!hasher_->submit({.id = id,
                        .pid = subject.key.pid,
                        .start_ticks = subject.key.start_ticks,
                        .file = file,
                        .path = path.value_or("")})) {
    ++counters_.refused;
    return false;
  }
  waiting_bytes_ += bytes_of(pending_.emplace(id, Pending{file, path, {subject}, nullptr}).first->second);
  if (file.inode != 0) on_the_way_.emplace(file, id);
  ++waiting_;
  ++counters_.asked;
  return true;
}

std::optional<std::string> Hashes::note(std::uint64_t device, const std::string& path, const std::string& hash) {
  const auto key = kept_path(path);
  const auto* before = paths_.find(PathView{device, key});
  if (before != nullptr && *before == hash) return std::nullopt;
  std::optional<std::string> former;
  if (before != nullptr) {
    former = *before;
    ++counters_.changed;
  }
  paths_.put(PathKey{device, key}, hash);
  return former;
}

void Hashes::hash_path(const std::string& path, std::function<void(Result<std::string>)> done) {
  if (!hasher_) return done(fail(Errc::unavailable, "executables are not hashed: " + health().reason));
  const auto id = ++last_request_;
  if (!hasher_->submit({.id = id, .path = path})) {
    const auto problem = hasher_->problem();
    return done(fail(Errc::unavailable, problem.empty() ? "too much waits for the hashing helper" : problem));
  }
  pending_.emplace(id, Pending{{}, path, {}, std::move(done)});
}

// The path is in the request that waits for the helper, too.
std::size_t Hashes::bytes_of(const Pending& pending) {
  constexpr std::size_t overhead = 192;
  return overhead + 2 * (pending.path ? pending.path->size() : 0) + pending.subjects.size() * sizeof(Subject);
}

void Hashes::take(const sensor::HashAnswer& answer) {
  const auto found = pending_.find(answer.id);
  if (found == pending_.end()) return;
  const auto pending = std::move(found->second);
  pending_.erase(found);
  if (pending.done) {
    if (answer.hash) return pending.done(*answer.hash);
    return pending.done(fail(Errc::unavailable, "'" + pending.path.value_or("") + "': " + answer.error));
  }
  const auto& asked = pending.file;
  if (asked.inode != 0) on_the_way_.erase(asked);
  waiting_ -= pending.subjects.size();
  waiting_bytes_ -= bytes_of(pending);

  Outcome outcome;
  outcome.subjects = pending.subjects;
  outcome.state = answer.state;
  outcome.hash = answer.hash;
  outcome.path = pending.path ? pending.path : answer.path;
  outcome.error = answer.error;
  if (answer.hash) {
    // Only under what was asked, file and path, never under what the helper names: it cannot speak of others. Where
    // the file was not known it speaks of this process alone.
    if (asked.inode != 0 && answer.file == asked) {
      files_.put(asked, *answer.hash);
      if (pending.path && answer.state.value_or(event::ExecutableState::ok) == event::ExecutableState::ok) {
        outcome.former = note(asked.device, *pending.path, *answer.hash);
      }
    }
  } else if (answer.hopeless && asked.inode != 0) {
    hopeless_.put(asked, true);
  }
  if (on_outcome_) on_outcome_(outcome);
}

observe::ComponentHealth Hashes::health() const {
  observe::ComponentHealth health{.component = "hashing",
                                  .state = observe::HealthState::ok,
                                  .reason = options_.problem,
                                  .details = options_.details};
  auto& details = health.details;
  if (hasher_) {
    const auto helper = hasher_->counters();
    const auto put = [&](const char* name, std::uint64_t value) { details[name] = std::to_string(value); };
    put("files_known", files_.size());
    put("files_forgotten", files_.evictions());
    put("files_hopeless", hopeless_.size());
    put("paths_known", paths_.size());
    put("paths_changed", counters_.changed);
    put("hits", counters_.hits);
    put("asked", counters_.asked);
    put("joined", counters_.joined);
    put("refused", counters_.refused);
    put("waiting_processes", waiting_);
    put("waiting_bytes", waiting_bytes_);
    put("queued", helper.queued + helper.sent);
    put("hashed", helper.hashed);
    put("not_hashed", helper.unanswered);
    put("late", helper.late);
    put("hung", helper.stalls);
    put("workers_replaced", helper.restarts);
    put("bad_messages", helper.bad_messages);
    put("bytes_read", helper.bytes);
    put("cpu_ms",
        static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(helper.cpu).count()));
    if (const auto problem = hasher_->problem(); !problem.empty()) health.reason = problem;
  }
  if (!health.reason.empty()) health.state = observe::HealthState::degraded;
  return health;
}

void Hashes::publish_metrics() {
  if (!hasher_) return;
  const auto helper = hasher_->counters();
  const auto count = [](const char* name, const char* help, std::uint64_t now, std::uint64_t& before,
                        const observe::Labels& labels = {}) {
    observe::counter(name, help, labels).add(static_cast<double>(now - std::min(now, before)));
    before = now;
  };
  auto& before = published_;
  constexpr const char* lookups = "daemoneye_hash_lookups_total";
  constexpr const char* lookups_help = "Executables whose hash was looked up, by what came of it";
  count(lookups, lookups_help, counters_.hits, before.own.hits, {{"outcome", "known"}});
  count(lookups, lookups_help, counters_.asked, before.own.asked, {{"outcome", "asked"}});
  count(lookups, lookups_help, counters_.joined, before.own.joined, {{"outcome", "joined"}});
  count(lookups, lookups_help, counters_.refused, before.own.refused, {{"outcome", "refused"}});
  count(lookups, lookups_help, counters_.hopeless, before.own.hopeless, {{"outcome", "hopeless"}});
  constexpr const char* answers = "daemoneye_hash_answers_total";
  constexpr const char* answers_help = "Answers of the hashing helper, with a hash or without";
  count(answers, answers_help, helper.hashed, before.helper.hashed, {{"outcome", "hashed"}});
  count(answers, answers_help, helper.unanswered, before.helper.unanswered, {{"outcome", "not_hashed"}});
  count("daemoneye_hash_late_total", "Requests not answered within their deadline", helper.late, before.helper.late);
  count("daemoneye_hash_hung_total", "Workers of the hashing helper that hung on a file", helper.stalls,
        before.helper.stalls);
  count("daemoneye_hash_workers_replaced_total", "Workers of the hashing helper that took another's place",
        helper.restarts, before.helper.restarts);
  count("daemoneye_hash_bad_messages_total", "Messages of the hashing helper that were thrown away",
        helper.bad_messages, before.helper.bad_messages);
  count("daemoneye_hash_read_bytes_total", "Bytes read and hashed", helper.bytes, before.helper.bytes);
  count("daemoneye_hash_changed_paths_total", "Executables with another hash than the last of the same path",
        counters_.changed, before.own.changed);
  count("daemoneye_hash_cache_evictions_total", "Files forgotten for lack of room", files_.evictions(),
        before.evictions);
  const auto cpu = observe::counter("daemoneye_hash_cpu_seconds_total", "Processor time of the hashing helper");
  cpu.add(std::chrono::duration<double>(std::max(helper.cpu - before.helper.cpu, std::chrono::nanoseconds(0))).count());
  before.helper.cpu = helper.cpu;
  observe::gauge("daemoneye_hash_cache_files", "Files whose hash is known").set(static_cast<double>(files_.size()));
  observe::gauge("daemoneye_hash_queue", "Requests that wait for the hashing helper")
      .set(static_cast<double>(helper.queued + helper.sent));
}

}  // namespace daemoneye::collector
