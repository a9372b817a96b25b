#include "cli/family.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

namespace daemoneye::cli {
namespace {

using event::Column;
using event::EventId;
using event::ProcessInfo;
using event::ProcessKey;

constexpr std::size_t max_exits = 1'000'000;  // looked through, newest first
constexpr std::size_t max_lookups = 256;      // of ended parents, one by one
// Ends are told by the clock of then: set back a little since, it gives them times before the start.
constexpr std::int64_t clock_step_ns = 600'000'000'000;

// The boot is that of the whole family.
struct Instance {
  event::Pid pid = 0;
  std::uint64_t start_ticks = 0;
  auto operator<=>(const Instance&) const = default;
};

struct Ended {
  Instance parent, self;
  EventId exit = 0;
};

class Finder {
 public:
  Finder(sql::Connection& connection, Invocation& invocation, const ProcessKey& key)
      : connection_(connection), invocation_(invocation), key_(key) {}

  Outcome<Family> run(bool ended_too) {
    CLI_TRY(const auto lineage, connection_.lineage(key_));
    for (const auto& event : lineage) take(event.process);
    if (!lineage.empty()) start_ = lineage.front().process.start_time;
    const bool ended = !lineage.empty() && lineage.front().process.status == event::ProcessStatus::exited;
    if (auto read = read_live(); !read) return std::unexpected(read.error());
    const bool all = ended || ended_too;
    if (auto found = all ? find_all() : find_living(); !found) return std::unexpected(found.error());
    const auto now = base::wall_now();
    const bool of_history = all || looked_in_vain_;
    CLI_TRY(const auto completeness,
            connection_.reader().completeness({of_history ? start_ : std::optional(now), now}, now));
    for (const auto& reason : completeness.reasons) remember(reason);
    if (cut_ || family_.left_out > 0) remember({"limit_reached", {}, {}, {}});
    return std::move(family_);
  }

 private:
  using Done = std::expected<void, Failure>;

  void remember(const event::Incompleteness& reason) {
    auto& reasons = family_.completeness.reasons;
    if (std::ranges::find(reasons, reason) == reasons.end()) reasons.push_back(reason);
  }

  void take(const ProcessInfo& process) {
    if (taken_.insert(process.key).second) family_.processes.push_back(process);
  }

  [[nodiscard]] bool stop() const { return invocation_.deadline().expired() || invocation_.interrupted(); }

  Done read_live() {
    const auto read = connection_.reader().live(std::nullopt, std::nullopt, [&](const event::ProcessEvent& event) {
      const auto& process = event.process;
      live_.emplace(process.key, process);
      if (process.parent_key) living_children_[*process.parent_key].push_back(process.key);
      return true;
    });
    if (!read) return std::unexpected(Failure(read.error()));
    return {};
  }

  // Those below it from parent to child, all of whom live.
  void take_living_below(const ProcessKey& key) {
    members_.insert(key);
    std::vector<ProcessKey> waiting{key};
    while (!waiting.empty()) {
      const auto parent = waiting.back();
      waiting.pop_back();
      take_living_children(parent, waiting);
    }
  }

  void take_living_children(const ProcessKey& parent, std::vector<ProcessKey>& taken) {
    const auto children = living_children_.find(parent);
    if (children == living_children_.end()) return;
    for (const auto& child : children->second) {
      if (!members_.insert(child).second) continue;
      take(live_.at(child));
      taken.push_back(child);
    }
  }

  // Whoever lost a parent and was given to nobody yet may belong to it, too: one is followed up over ended parents.
  Done find_living() {
    take_living_below(key_);
    std::vector<ProcessKey> orphans;
    for (const auto& [key, process] : live_) {
      if (process.parent_key && !live_.contains(*process.parent_key)) orphans.push_back(key);
    }
    std::ranges::sort(orphans);
    for (bool again = true; again;) {
      again = false;
      for (const auto& orphan : orphans) {
        if (members_.contains(orphan)) continue;
        std::vector<ProcessInfo> between;
        CLI_TRY(const bool ours, leads_here(*live_.at(orphan).parent_key, between));
        if (!ours) continue;
        for (const auto& process : between) {
          members_.insert(process.key);
          take(process);
        }
        take(live_.at(orphan));
        take_living_below(orphan);
        again = true;
      }
    }
    return {};
  }

  Outcome<bool> leads_here(ProcessKey key, std::vector<ProcessInfo>& between) {
    constexpr std::size_t max_depth = 64;
    while (between.size() < max_depth) {
      if (members_.contains(key)) return true;
      if (live_.contains(key)) return false;
      CLI_TRY(const auto* process, look_up(key));
      if (process == nullptr || !process->parent_key) return false;
      between.push_back(*process);
      key = *process->parent_key;
    }
    return false;
  }

  // Kept: siblings have the same parent.
  Outcome<const ProcessInfo*> look_up(const ProcessKey& key) {
    auto known = looked_up_.find(key);
    if (known == looked_up_.end()) {
      if (looked_up_.size() >= max_lookups || invocation_.deadline().expired()) {
        cut_ = true;
        return nullptr;
      }
      if (invocation_.interrupted()) return std::unexpected(Failure(Exit::failed, "interrupted"));
      std::optional<ProcessInfo> process;
      store::ScanStats stats;
      CLI_TRY(const auto found, connection_.reader().find_instance(key, {}, stats));
      for (const auto& damage : stats.damage) remember(damage);
      if (found) process = found->event.process;
      looked_in_vain_ |= !process.has_value();
      known = looked_up_.emplace(key, std::move(process)).first;
    }
    return known->second ? &*known->second : nullptr;
  }

  Done find_all() {
    if (auto read = read_exits(); !read) return read;
    const auto found = all_below();
    const auto chosen = choose(found);
    family_.left_out = found.size() - chosen.size();
    return take_ended(chosen);
  }

  [[nodiscard]] store::ScanRequest exits() const {
    store::ScanRequest request;
    request.newest_first = true;
    request.conditions = {{Column::kind, predicate::Operator::equal, {std::string("exit")}, false}};
    return request;
  }

  // False at the end; what is not read for want of time is missing, and said to be.
  Outcome<bool> next(store::EventScan& scan) {
    const auto more = scan.next();
    if (more) return *more;
    if (more.error().code != Errc::cancelled) return std::unexpected(Failure(more.error()));
    if (invocation_.interrupted()) return std::unexpected(Failure(Exit::failed, "interrupted"));
    cut_ = true;
    return false;
  }

  Done read_exits() {
    auto request = exits();
    if (start_) request.time.from = Timestamp{start_->ns - clock_step_ns};
    request.columns.set(static_cast<std::size_t>(Column::process_key));
    request.columns.set(static_cast<std::size_t>(Column::parent_key));
    CLI_TRY(const auto scan, connection_.reader().scan(request, [this] { return stop(); }));
    const auto instance = [&](Column column) -> std::optional<Instance> {
      const auto value = scan->value(column);
      const auto* const text = std::get_if<std::string_view>(&value);
      if (text == nullptr) return std::nullopt;
      const auto key = event::parse_process_key(*text);
      if (!key || key->boot != key_.boot) return std::nullopt;
      return Instance{key->pid, key->start_ticks};
    };
    while (true) {
      CLI_TRY(const bool more, next(*scan));
      if (!more) break;
      const auto parent = instance(Column::parent_key), self = instance(Column::process_key);
      if (!parent || !self) continue;
      if (exits_.size() == max_exits) {
        cut_ = true;
        break;
      }
      exits_.push_back({*parent, *self, scan->event_id()});
    }
    for (const auto& damage : scan->stats().damage) remember(damage);
    // Of a process that ended twice the newest counts.
    std::ranges::sort(exits_, [](const Ended& a, const Ended& b) {
      return std::tie(a.parent, a.self, b.exit) < std::tie(b.parent, b.self, a.exit);
    });
    return {};
  }

  [[nodiscard]] ProcessKey key_of(const Instance& instance) const {
    return {key_.boot, instance.pid, instance.start_ticks};
  }

  // Takes those who live, and gives those who ended.
  std::vector<Ended> all_below() {
    std::vector<Ended> found;
    members_.insert(key_);
    std::vector<ProcessKey> waiting{key_};
    while (!waiting.empty()) {
      const auto parent = waiting.back();
      waiting.pop_back();
      take_living_children(parent, waiting);
      const Instance self{parent.pid, parent.start_ticks};
      for (const auto& ended : std::ranges::equal_range(exits_, self, {}, &Ended::parent)) {
        const auto child = key_of(ended.self);
        if (live_.contains(child) || !members_.insert(child).second) continue;
        found.push_back(ended);
        waiting.push_back(child);
      }
    }
    return found;
  }

  // The newest, and whoever stands between them and the process: nobody hangs in the air.
  [[nodiscard]] std::unordered_set<EventId> choose(std::vector<Ended> found) const {
    std::ranges::sort(found, std::greater(), &Ended::exit);
    std::unordered_map<ProcessKey, const Ended*> by_key;
    for (const auto& ended : found) by_key.emplace(key_of(ended.self), &ended);
    std::unordered_set<EventId> chosen;
    const auto choose_up_from = [&](ProcessKey key, std::size_t most) {
      std::vector<const Ended*> line;
      for (auto known = by_key.find(key); known != by_key.end() && !chosen.contains(known->second->exit);
           known = by_key.find(key)) {
        line.push_back(known->second);
        key = key_of(known->second->parent);
        if (chosen.size() + line.size() > most) return false;
      }
      for (const auto* ended : line) chosen.insert(ended->exit);
      return true;
    };
    for (const auto& process : family_.processes) {
      if (process.parent_key && process.key != key_) choose_up_from(*process.parent_key, max_family_ended);
    }
    for (const auto& ended : found) {
      if (!choose_up_from(key_of(ended.self), max_family_ended)) break;
    }
    return chosen;
  }

  Done take_ended(const std::unordered_set<EventId>& chosen) {
    if (chosen.empty()) return {};
    auto request = exits();
    const auto [first, last] = std::ranges::minmax(chosen);
    request.first_event = first;
    request.last_event = last;
    CLI_TRY(const auto scan, connection_.reader().scan(request, [this] { return stop(); }));
    std::size_t bytes = 0, count = 0;
    while (count < chosen.size() && bytes < max_family_bytes) {
      CLI_TRY(const bool more, next(*scan));
      if (!more) break;
      if (!chosen.contains(scan->event_id())) continue;
      ++count;
      const auto event = scan->take_event();
      if (!event && event.error().code != Errc::corrupt) return std::unexpected(Failure(event.error()));
      if (!event) {
        remember({"corrupt_block", 1, {}, {}});
        continue;
      }
      if (event->process.arguments) bytes += event->process.arguments->nul_terminated().size();
      take(event->process);
    }
    family_.left_out += chosen.size() - count;
    for (const auto& damage : scan->stats().damage) remember(damage);
    return {};
  }

  sql::Connection& connection_;
  Invocation& invocation_;
  const ProcessKey key_;
  std::optional<Timestamp> start_;
  std::unordered_map<ProcessKey, ProcessInfo> live_;
  std::unordered_map<ProcessKey, std::vector<ProcessKey>> living_children_;
  std::unordered_set<ProcessKey> members_;  // of the family below it
  std::unordered_set<ProcessKey> taken_;
  std::unordered_map<ProcessKey, std::optional<ProcessInfo>> looked_up_;
  std::vector<Ended> exits_;
  bool looked_in_vain_ = false;  // for a process that nothing is known of
  bool cut_ = false;
  Family family_;
};

}  // namespace

Outcome<Family> find_family(sql::Connection& connection, Invocation& invocation, const ProcessKey& key,
                            bool ended_too) {
  return Finder(connection, invocation, key).run(ended_too);
}

}  // namespace daemoneye::cli
