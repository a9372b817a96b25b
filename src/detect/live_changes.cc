#include "detect/live_changes.h"

#include <utility>

#include "detect/write_alerts.h"

namespace daemoneye::detect {
namespace {

using Counters = store::Reader::Counters;

constexpr std::string_view mark_key = "counters_evaluated";

CounterSet changes(const Counters& before, const Counters& now) {
  CounterSet changed = 0;
  if (before.cpu_usage != now.cpu_usage) changed |= cpu_counter;
  if (before.memory_usage != now.memory_usage) changed |= memory_counter;
  if (before.status != now.status) changed |= status_counter;
  return changed;
}

}  // namespace

CounterSet counters_of(const sql::Compiled& statement) {
  if (!statement.driving() || statement.driving()->table != "processes") return 0;
  const auto& columns = statement.driving_conditions();
  CounterSet counters = 0;
  if (columns.contains("cpu_usage")) counters |= cpu_counter;
  if (columns.contains("memory_usage")) counters |= memory_counter;
  if (columns.contains("status")) counters |= status_counter;
  return counters;
}

Result<void> LiveChanges::begin(store::Reader& reader) {
  begin_look();
  known_.clear();
  return reader.live_counters(std::nullopt, [&](const event::ProcessKey& key, const Counters& now, const auto&) {
    known_[key] = {now, look_};
    return Result<bool>(true);
  });
}

void LiveChanges::begin_look() {
  ++look_;
  place_.reset();
}

Result<LiveChanges::Chunk> LiveChanges::next(store::Reader& reader, CounterSet wanted, std::size_t limit) {
  Chunk chunk;
  chunk.last = true;
  DE_CHECK(reader.live_counters(
      place_, [&](const event::ProcessKey& key, const Counters& now, const auto& whole) -> Result<bool> {
        if (chunk.events.events.size() == limit) {
          chunk.last = false;
          return false;
        }
        chunk.end = key;
        const auto known = known_.find(key);
        const bool is_known = known != known_.end();
        if (is_known) known->second.look = look_;
        CounterSet changed = is_known ? changes(known->second.counters, now) : 0;
        if (is_known && changed == 0) return true;
        chunk.now.emplace_back(key, now);
        if (is_known && (changed & wanted) == 0) return true;
        auto live = whole();
        if (!live) {
          if (live.error().code != Errc::corrupt) return std::unexpected(live.error());
          // One bad row must not stop detection for good; that it was not seen is said with what is found beside it.
          chunk.events.damage.push_back({"corrupt_block", 1, std::nullopt, std::nullopt});
          return true;
        }
        if (!is_known) changed = changes(live->told, now);
        if ((changed & wanted) == 0) return true;
        // It is this scan that tells of it: what was lost when its last event came is no matter.
        live->event.time = live->event.process.collection_time;
        chunk.events.events.push_back(
            {static_cast<event::EventId>(chunk.events.events.size()) + 1, std::move(live->event)});
        chunk.changed.push_back(changed);
        return true;
      }));
  return chunk;
}

void LiveChanges::take(Chunk&& chunk) {
  for (auto& [key, counters] : chunk.now) known_[key] = {counters, look_};
  if (chunk.end) place_ = chunk.end;
  if (chunk.last) std::erase_if(known_, [&](const auto& one) { return one.second.look != look_; });
}

Result<std::string> read_counters_mark(store::Reader& reader) {
  DE_TRY(auto select, reader.database().prepare("SELECT value FROM meta WHERE key=?"));
  DE_TRY(const bool found, select.bind_text(1, mark_key).step());
  return found ? std::string(select.text(0)) : std::string();
}

void write_counters_mark(store::Writer& writer, std::vector<store::Writer::Raise> raises, std::string mark,
                         std::function<void(Result<std::vector<store::RaiseResult>>)> done) {
  write_alerts(
      writer, std::move(raises),
      [mark = std::move(mark)](db::StatementCache& statements) -> Result<void> {
        if (mark.empty()) return {};
        DE_TRY(auto* insert, statements.get("INSERT OR REPLACE INTO meta(key, value) VALUES(?, ?)"));
        return insert->bind_text(1, mark_key).bind_text(2, mark).run();
      },
      std::move(done));
}

}  // namespace daemoneye::detect
