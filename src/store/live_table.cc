#include "store/live_table.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "event/event_codec.h"

namespace daemoneye::store {
namespace {

using event::EventKind;
using event::EventView;
using event::ProcessEvent;
using event::ProcessKey;

std::string_view bytes_of(const event::BootId& boot) {
  return {reinterpret_cast<const char*>(boot.data()), boot.size()};
}

db::Statement& bind_key(db::Statement& statement, int first, const ProcessKey& key) {
  return statement.bind(first, std::int64_t{key.pid})
      .bind(first + 1, static_cast<std::int64_t>(key.start_ticks))
      .bind_blob(first + 2, bytes_of(key.boot));
}

ProcessKey read_key(const db::Statement& row) {
  ProcessKey key;
  key.pid = static_cast<event::Pid>(row.integer(0));
  key.start_ticks = static_cast<std::uint64_t>(row.integer(1));
  const auto boot = row.blob(2);
  std::copy_n(boot.begin(), std::min(boot.size(), key.boot.size()), key.boot.begin());
  return key;
}

template <class T>
void keep(std::optional<T>& now, const std::optional<T>& before) {
  if (!now && before) now = before;
}

// Counters stay until newer ones come. A later look at the same image knows at least what was known before.
void merge(ProcessEvent& now, const ProcessEvent& before) {
  auto& process = now.process;
  const auto& old = before.process;
  keep(process.cpu_usage, old.cpu_usage);
  keep(process.memory_usage, old.memory_usage);
  keep(process.ppid, old.ppid);
  keep(process.parent_key, old.parent_key);
  keep(process.start_time, old.start_time);
  if (now.kind == EventKind::exec) return;
  if (process.executable_path && old.executable_path && process.executable_path != old.executable_path) return;
  keep(process.comm, old.comm);
  keep(process.executable_path, old.executable_path);
  keep(process.arguments, old.arguments);
  keep(process.cwd, old.cwd);
  keep(process.uid, old.uid);
  keep(process.gid, old.gid);
  keep(process.euid, old.euid);
  keep(process.loginuid, old.loginuid);
  keep(process.user, old.user);
  keep(process.session_id, old.session_id);
  keep(process.tty, old.tty);
  keep(process.executable_hash, old.executable_hash);
  keep(process.executable_state, old.executable_state);
  keep(process.cgroup, old.cgroup);
  keep(process.container_id, old.container_id);
  keep(process.scan_id, old.scan_id);
  keep(now.parent_name, before.parent_name);
  keep(now.parent_executable_path, before.parent_executable_path);
  keep(now.parent_command_line, before.parent_command_line);
}

}  // namespace

Result<void> LiveTable::load() {
  staged_.clear();
  rows_.clear();
  DE_TRY(auto* select, statements_.get("SELECT pid, start_ticks, boot FROM live"));
  const db::StatementReset reset(*select);
  while (true) {
    DE_TRY(const bool row, select->step());
    if (!row) return {};
    rows_.insert(read_key(*select));
  }
}

void LiveTable::stage(const EventView& event, std::int64_t epoch) {
  if (event.kind == EventKind::gap) return;
  staged_.push_back({event.process.key, staged_.size(), event.kind, epoch, event.bytes});
}

void LiveTable::remember_end(const ProcessKey& key) {
  ended_.insert(key);
  if (ended_.size() < max_remembered_ends) return;
  ended_before_ = std::exchange(ended_, {});
}

Result<void> LiveTable::flush() {
  // One process after the other, in the order of the table's key, and each one's events as they came. (clang calls
  // libstdc++'s stable_sort deprecated.)
  const auto place = [](const Staged& staged) {
    return std::tie(staged.key.pid, staged.key.start_ticks, staged.key.boot, staged.order);
  };
  std::sort(staged_.begin(), staged_.end(), [&](const auto& a, const auto& b) { return place(a) < place(b); });
  for (auto begin = staged_.begin(); begin != staged_.end();) {
    const auto end = std::find_if(begin, staged_.end(), [&](const auto& staged) { return staged.key != begin->key; });
    DE_CHECK(write({begin, end}));
    begin = end;
  }
  staged_.clear();
  return {};
}

Result<void> LiveTable::write(Events events) {
  const auto& key = events.front().key;
  for (const auto& staged : events) {
    if (staged.kind == EventKind::exit) remember_end(key);
  }
  if (has_ended(key)) {
    if (rows_.erase(key) == 0) return {};
    DE_TRY(auto* remove, statements_.get("DELETE FROM live WHERE pid=? AND start_ticks=? AND boot=?"));
    return bind_key(*remove, 1, key).run();
  }
  if (events.size() > 1 || rows_.contains(key)) return fold(events);
  // The first that is heard of it, which is most of what is written: the row is the event as it came.
  if (events.front().kind == EventKind::change) return {};
  EventView event;
  base::ByteReader in(events.front().bytes);
  DE_CHECK(event::decode_event(in, event));
  return insert(key, events.front().epoch, event);
}

Result<void> LiveTable::insert(const ProcessKey& key, std::int64_t epoch, const EventView& event) {
  const auto& process = event.process;
  DE_TRY(auto* statement,
         statements_.get("INSERT OR REPLACE INTO live(pid, start_ticks, boot, parent_pid, epoch_id, time, "
                         "cpu_usage, memory_usage, status, event) VALUES(?,?,?,?,?,?,?,?,?,?)"));
  bind_key(*statement, 1, key);
  if (process.parent_key)
    statement->bind(4, std::int64_t{process.parent_key->pid});
  else if (process.ppid)
    statement->bind(4, std::int64_t{*process.ppid});
  statement->bind(5, epoch).bind(6, event.time.ns);
  if (process.cpu_usage) statement->bind(7, *process.cpu_usage);
  if (process.memory_usage) statement->bind(8, static_cast<std::int64_t>(*process.memory_usage));
  statement->bind(9, std::int64_t{static_cast<std::uint8_t>(process.status)}).bind_blob_static(10, event.bytes);
  DE_CHECK(statement->run());
  rows_.insert(key);
  return {};
}

Result<std::optional<LiveTable::Row>> LiveTable::read(const ProcessKey& key) {
  if (!rows_.contains(key)) return std::nullopt;
  DE_TRY(auto* select, statements_.get("SELECT cpu_usage, memory_usage, epoch_id, event FROM live "
                                       "WHERE pid=? AND start_ticks=? AND boot=?"));
  const db::StatementReset reset(*select);
  DE_TRY(const bool found, bind_key(*select, 1, key).step());
  if (!found) return std::nullopt;
  Row row{{}, select->integer(2)};
  base::ByteReader in(select->blob(3));
  // A damaged row is as good as none: the next look at the process replaces it.
  auto& event = row.event;
  if (!event::decode_event(in, event)) return std::nullopt;
  if (!select->is_null(0)) event.process.cpu_usage = select->real(0);
  if (!select->is_null(1)) event.process.memory_usage = static_cast<std::uint64_t>(select->integer(1));
  return row;
}

// What is known of the process and what is new of it, as one event. A collector tells in the order in which it learned,
// so within its epoch what comes later counts, whatever the wall clock did meanwhile. Only what another epoch told,
// delivered late perhaps, is put in its place by time.
Result<void> LiveTable::fold(Events events) {
  const auto& key = events.front().key;
  DE_TRY(auto row, read(key));
  bool changed = false;
  for (const auto& staged : events) {
    if (!row && staged.kind == EventKind::change) continue;
    ProcessEvent next;
    base::ByteReader in(staged.bytes);
    DE_CHECK(event::decode_event(in, next));
    if (row && staged.epoch != row->epoch && next.time < row->event.time) continue;
    if (row) merge(next, row->event);
    row = Row{std::move(next), staged.epoch};
    changed = true;
  }
  if (!changed) return {};
  std::string bytes;
  event::encode_event(row->event, bytes);
  EventView whole;
  base::ByteReader in(bytes);
  DE_CHECK(event::decode_event(in, whole));
  return insert(key, row->epoch, whole);
}

Result<void> LiveTable::apply(const event::ScanSummary& scan, const std::string& source, std::int64_t epoch) {
  DE_CHECK(flush());
  for (const auto& update : scan.updates) {
    // Sleeping processes rarely change: their rows, and the pages these lie on, stay as they are.
    DE_TRY(
        auto* statement,
        statements_.get("UPDATE live SET cpu_usage=coalesce(?4, cpu_usage), memory_usage=coalesce(?5, memory_usage), "
                        "status=?6, epoch_id=?7 WHERE pid=?1 AND start_ticks=?2 AND boot=?3 AND (epoch_id<>?7 OR "
                        "status<>?6 OR coalesce(?4, cpu_usage) IS NOT cpu_usage OR "
                        "coalesce(?5, memory_usage) IS NOT memory_usage)"));
    bind_key(*statement, 1, update.key);
    if (update.cpu_usage) statement->bind(4, *update.cpu_usage);
    if (update.memory_usage) statement->bind(5, static_cast<std::int64_t>(*update.memory_usage));
    statement->bind(6, std::int64_t{static_cast<std::uint8_t>(update.status)}).bind(7, epoch);
    DE_CHECK(statement->run());
  }
  DE_TRY(auto* remember, statements_.get("UPDATE epochs SET last_scan_id=?, last_scan_time=? WHERE epoch_id=?"));
  DE_CHECK(remember->bind(1, static_cast<std::int64_t>(scan.scan_id)).bind(2, scan.time.ns).bind(3, epoch).run());
  if (scan.updates.empty()) return {};  // a scan that failed says nothing of who is gone
  DE_TRY(auto* purge,
         statements_.get("DELETE FROM live WHERE epoch_id<>?1 AND time<?2 AND epoch_id IN "
                         "(SELECT epoch_id FROM epochs WHERE source=?3) RETURNING pid, start_ticks, boot"));
  purge->bind(1, epoch).bind(2, scan.time.ns).bind_text(3, source);
  const db::StatementReset reset(*purge);
  while (true) {
    DE_TRY(const bool row, purge->step());
    if (!row) return {};
    rows_.erase(read_key(*purge));
  }
}

}  // namespace daemoneye::store
