// Processes: the live table, and ended instances by their exit event.
#include <algorithm>

#include "base/bytes.h"
#include "event/event_codec.h"
#include "store/reader_impl.h"

namespace daemoneye::store {
namespace {

using event::ProcessEvent;
using event::ProcessKey;

// A process that a later scan of its collector found alive was looked at then.
constexpr const char* live_select =
    "SELECT event, live.cpu_usage, memory_usage, status, last_scan_id, last_scan_time FROM live LEFT JOIN epochs "
    "USING(epoch_id) ";
constexpr const char* live_counters_select =
    "SELECT event, live.cpu_usage, memory_usage, status, last_scan_id, last_scan_time, pid, start_ticks, boot FROM "
    "live "
    "LEFT JOIN epochs USING(epoch_id) WHERE (pid, start_ticks, boot)>(?1, ?2, ?3) ORDER BY pid, start_ticks, boot";

Reader::Counters read_counters(const db::Statement& row) {
  Reader::Counters counters;
  if (!row.is_null(1)) counters.cpu_usage = row.real(1);
  if (!row.is_null(2)) counters.memory_usage = static_cast<std::uint64_t>(row.integer(2));
  counters.status = static_cast<event::ProcessStatus>(std::clamp<std::int64_t>(row.integer(3), 1, 5));
  return counters;
}

Result<Reader::Live> read_live(const db::Statement& row) {
  Reader::Live live;
  base::ByteReader in(row.blob(0));
  DE_CHECK(event::decode_event(in, live.event));
  auto& process = live.event.process;
  live.told = {process.cpu_usage, process.memory_usage, process.status};
  const auto now = read_counters(row);
  process.cpu_usage = now.cpu_usage;
  process.memory_usage = now.memory_usage;
  process.status = now.status;
  if (!row.is_null(5) && row.integer(5) > process.collection_time.ns) {
    process.collection_time = Timestamp{row.integer(5)};
    process.scan_id = static_cast<std::uint64_t>(row.integer(4));
  }
  return live;
}

bool holds_hash(std::string_view hashes, std::uint64_t wanted) {
  base::ByteReader in(hashes);
  while (in.remaining() >= 8) {
    if (in.u64() == wanted) return true;
  }
  return false;
}

bool may_overlap(const BlockRow& row, const event::TimeRange& range) {
  return !row.first_time || !row.last_time || range.overlaps(*row.first_time, *row.last_time);
}

std::string_view bytes_of(const event::BootId& boot) {
  return {reinterpret_cast<const char*>(boot.data()), boot.size()};
}

}  // namespace

Result<void> Reader::live(const std::optional<std::string>& process_key, const std::optional<std::int64_t>& pid,
                          const std::function<bool(const ProcessEvent&)>& each) {
  std::optional<ProcessKey> key;
  if (process_key) {
    const auto parsed = event::parse_process_key(*process_key);
    // Text that is no key names no process.
    if (!parsed || to_string(*parsed) != *process_key) return {};
    key = *parsed;
  }
  std::string sql = live_select;
  if (key)
    sql += "WHERE pid=? AND start_ticks=? AND boot=?";
  else if (pid)
    sql += "WHERE pid=?";
  DE_TRY(auto select, impl_->database->prepare(sql));
  if (key) {
    if (pid && *pid != std::int64_t{key->pid}) return {};
    select.bind(1, std::int64_t{key->pid}).bind(2, static_cast<std::int64_t>(key->start_ticks));
    select.bind_blob(3, bytes_of(key->boot));
  } else if (pid) {
    select.bind(1, *pid);
  }
  while (true) {
    DE_TRY(const bool row, select.step());
    if (!row) return {};
    DE_TRY(const auto live, read_live(select));
    if (!each(live.event)) return {};
  }
}

Result<void> Reader::live_counters(
    const std::optional<ProcessKey>& after,
    const std::function<Result<bool>(const ProcessKey& key, const Counters& now,
                                     const std::function<Result<Live>()>& whole)>& each) {
  DE_TRY(auto select, impl_->database->prepare(live_counters_select));
  select.bind(1, after ? std::int64_t{after->pid} : -1);
  select.bind(2, after ? static_cast<std::int64_t>(after->start_ticks) : 0);
  select.bind_blob(3, after ? bytes_of(after->boot) : std::string_view());
  const std::function<Result<Live>()> whole = [&] { return read_live(select); };
  while (true) {
    DE_TRY(const bool row, select.step());
    if (!row) return {};
    ProcessKey key;
    key.pid = static_cast<event::Pid>(select.integer(6));
    key.start_ticks = static_cast<std::uint64_t>(select.integer(7));
    const auto boot = select.blob(8);
    std::copy_n(boot.begin(), std::min(boot.size(), key.boot.size()), key.boot.begin());
    DE_TRY(const bool more, each(key, read_counters(select), whole));
    if (!more) return {};
  }
}

Result<std::string> Reader::last_scan() {
  DE_TRY(auto select, impl_->database->prepare("SELECT epoch_id || '/' || last_scan_id FROM epochs WHERE last_scan_id "
                                               "IS NOT NULL ORDER BY epoch_id DESC LIMIT 1"));
  DE_TRY(const bool found, select.step());
  return found ? std::string(select.text(0)) : std::string();
}

Result<std::vector<ProcessKey>> Reader::live_children(const ProcessKey& key) {
  DE_TRY(auto* select, impl_->statements->get("SELECT event FROM live WHERE parent_pid=?"));
  const db::StatementReset reset(*select);
  select->bind(1, std::int64_t{key.pid});
  std::vector<ProcessKey> children;
  while (true) {
    DE_TRY(const bool row, select->step());
    if (!row) return children;
    ProcessEvent event;
    base::ByteReader in(select->blob(0));
    DE_CHECK(event::decode_event(in, event));
    if (event.process.parent_key == key) children.push_back(event.process.key);
  }
}

Result<std::optional<ProcessEvent>> Reader::find_process(const ProcessKey& key) {
  ScanStats unused;
  DE_TRY(auto found, find_instance(key, {}, unused));
  if (!found) return std::nullopt;
  return std::move(found->event);
}

Result<std::optional<Reader::Instance>> Reader::find_instance(const ProcessKey& key, const event::TimeRange& range,
                                                              ScanStats& stats) {
  DE_TRY(const auto snapshot, Snapshot::open(*this));
  {
    DE_TRY(auto* select, impl_->statements->get("SELECT event, live.cpu_usage, memory_usage, status, last_scan_id, "
                                                "last_scan_time FROM live LEFT JOIN epochs USING(epoch_id) "
                                                "WHERE pid=? AND start_ticks=? AND boot=?"));
    const db::StatementReset reset(*select);
    select->bind(1, std::int64_t{key.pid}).bind(2, static_cast<std::int64_t>(key.start_ticks));
    DE_TRY(const bool found, select->bind_blob(3, bytes_of(key.boot)).step());
    if (found) {
      DE_TRY(auto live, read_live(*select));
      return Instance{std::move(live.event), std::nullopt};
    }
  }
  return impl_->find_ended(key, range, stats);
}

Result<std::optional<Reader::Instance>> Reader::Impl::find_ended_in_tail(const ProcessKey& key,
                                                                         const event::TimeRange& range,
                                                                         ScanStats& stats) {
  const auto wanted = filter_hash(key);
  std::vector<BlockRow> candidates;
  {
    DE_TRY(auto* select, statements->get("SELECT batch_no, first_event, events, first_time, last_time, ended FROM tail "
                                         "WHERE length(ended)>0 ORDER BY batch_no DESC"));
    const db::StatementReset reset(*select);
    while (true) {
      DE_TRY(const bool row, select->step());
      if (!row) break;
      if (holds_hash(select->blob(5), wanted)) candidates.push_back(read_block_row(*select));
    }
  }
  for (const auto& row : candidates) {
    if (!may_overlap(row, range)) continue;
    auto loaded = load_tail(row.id);
    if (!loaded) {
      if (loaded.error().code != Errc::corrupt) return std::unexpected(loaded.error());
      stats.damage.push_back(damage_of(row));
      continue;
    }
    auto& events = loaded->events;
    for (std::size_t i = events.size(); i-- > 0;) {
      if (events[i].kind != event::EventKind::exit || events[i].process.key != key) continue;
      if (!range.overlaps(events[i].time, events[i].time)) continue;
      return Instance{std::move(events[i]), row.first_event + static_cast<event::EventId>(i)};
    }
  }
  return std::nullopt;
}

Result<std::optional<Reader::Instance>> Reader::Impl::find_ended(const ProcessKey& key, const event::TimeRange& range,
                                                                 ScanStats& stats) {
  DE_TRY(auto in_tail, find_ended_in_tail(key, range, stats));
  if (in_tail) return in_tail;
  DE_TRY(const auto predicate,
         predicate::Predicate::compile(
             {{event::Column::process_key, predicate::Operator::equal, {to_string(key)}, false}}));
  const ScanConditions conditions(predicate);
  DE_TRY(const auto* blocks, all_blocks());
  for (const auto& row : *blocks) {
    if (!may_overlap(row, range)) continue;
    const auto opened = blocks_opened;
    const auto look = [&]() -> Result<std::optional<Instance>> {
      DE_TRY(auto* block, cached_block(row, conditions));
      if (block == nullptr) return std::nullopt;
      DE_TRY(const auto found, block->rows_of(key));
      for (auto at = found.rbegin(); at != found.rend(); ++at) {
        DE_CHECK(block->need(event::Column::kind));
        const auto kind = block->value(*at, event::Column::kind, row.first_event);
        if (std::get<std::string_view>(kind) != to_string(event::EventKind::exit)) continue;
        DE_CHECK(block->need(event::Column::time));
        const Timestamp time{std::get<std::int64_t>(block->value(*at, event::Column::time, row.first_event))};
        if (!range.overlaps(time, time)) continue;
        DE_TRY(auto event, block->event(*at));
        return Instance{std::move(event), row.first_event + static_cast<event::EventId>(*at)};
      }
      return std::nullopt;
    };
    auto found = look();
    stats.blocks_read += blocks_opened - opened;
    if (!found) {
      if (found.error().code != Errc::corrupt) return std::unexpected(found.error());
      stats.damage.push_back(damage_of(row));
    } else if (*found) {
      return std::move(*found);
    }
  }
  return std::nullopt;
}

Result<const std::vector<BlockRow>*> Reader::Impl::all_blocks() {
  if (!snapshot_blocks) {
    DE_TRY(snapshot_blocks, rows("SELECT block_id, first_event, events, first_time, last_time FROM blocks "
                                 "WHERE events>0 ORDER BY block_id DESC"));
  }
  return &*snapshot_blocks;
}

// Blocks never change, but a removed block's number may be given again: so the first event counts too.
Result<Block*> Reader::Impl::cached_block(const BlockRow& row, const ScanConditions& conditions) {
  const auto known = std::find_if(cache.begin(), cache.end(), [&](const auto& cached) {
    return cached.id == row.id && cached.first_event == row.first_event;
  });
  if (known != cache.end()) {
    if (!conditions.may_match(known->block->header())) return nullptr;
    std::rotate(cache.begin(), known, known + 1);
    return cache.front().block.get();
  }
  if (!filters.may_match(row.id, row.first_event, conditions)) return nullptr;
  DE_TRY(auto block, open_block(row));
  ++blocks_opened;
  filters.keep(row.id, row.first_event, block->header(), conditions);
  if (!conditions.may_match(block->header())) return nullptr;
  std::size_t bytes = 0;
  for (auto cached = cache.begin(); cached != cache.end(); ++cached) {
    bytes += cached->block->bytes();
    if (bytes <= max_cached_bytes && cached - cache.begin() + 1 < static_cast<std::ptrdiff_t>(max_cached_blocks))
      continue;
    cache.erase(cached, cache.end());
    break;
  }
  cache.push_front({row.id, row.first_event, std::move(block)});
  return cache.front().block.get();
}

}  // namespace daemoneye::store
