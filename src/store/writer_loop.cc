// The writer's thread: when to commit, to seal, to keep house.
#include <sqlite3.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <variant>
#include <vector>

#include "observe/log.h"
#include "store/writer_impl.h"

namespace daemoneye::store {
namespace {

using namespace std::chrono_literals;
using observe::Level;

constexpr auto heartbeat_flush = 2s;  // the collectors' state
constexpr auto watermark_flush = 1s;  // a watermark that came alone
constexpr auto housekeeping_every = 30s;
constexpr auto housekeeping_patience = 50ms;  // how long a step waits for a quiet moment
constexpr auto optimize_every = 1h;
constexpr std::uint64_t worth_a_checkpoint = 256 * 1024;  // bytes of WAL, in a quiet moment

}  // namespace

void Writer::Impl::submit(Operation operation) {
  std::unique_lock held(mutex);
  // A callback that writes would wait for the very thread it runs in.
  if (std::this_thread::get_id() != writer_thread) {
    room.wait(held, [&] { return closing || queue.size() < options.queue_capacity; });
  }
  if (closing) {
    held.unlock();
    set_error(operation, {Errc::unavailable, "the store is closing"});
    finish(operation);
    return;
  }
  if (queue.empty()) watermark_since = SteadyClock::now();
  queue.push_back(std::move(operation));
  queue_depth.set(static_cast<double>(queue.size()));
  held.unlock();
  work.notify_one();
}

bool Writer::Impl::try_submit(Operation& operation) {
  {
    const std::scoped_lock held(mutex);
    if (closing || queue.size() >= options.queue_capacity) return false;
    if (queue.empty()) watermark_since = SteadyClock::now();
    queue.push_back(std::move(operation));
    queue_depth.set(static_cast<double>(queue.size()));
  }
  work.notify_one();
  return true;
}

SteadyClock::time_point Writer::Impl::work_due() const {
  const auto now = SteadyClock::time_point::min();
  if (closing || drain_wanted || (collectors_dirty && collectors_urgent)) return now;
  if (maintenance_state.running) return now;
  auto due = next_housekeeping;
  if (pinned_since || !state.checkpoint_error.empty() || state.wal_bytes > WalWatch::normal_bytes)
    due = std::min(due, next_wal_look);
  if (collectors_dirty) due = std::min(due, collectors_written + heartbeat_flush);
  if (std::all_of(queue.begin(), queue.end(), is_watermark_alone)) {
    if (!queue.empty()) due = std::min(due, watermark_since + watermark_flush);
    return due;
  }
  return now;
}

void Writer::Impl::run() {
  std::unique_lock held(mutex);
  writer_thread = std::this_thread::get_id();
  const auto unlocked = [&](auto&& body) {
    busy = true;
    held.unlock();
    body();
    held.lock();
    busy = false;
  };
  while (!give_up) {
    if (const auto due = work_due(); SteadyClock::now() < due) {
      work.wait_until(held, due);
      continue;
    }
    const auto now = SteadyClock::now();
    const bool flush_collectors =
        collectors_dirty && (collectors_urgent || closing || now >= collectors_written + heartbeat_flush);
    const bool housekeeping_due = !closing && now >= next_housekeeping + (queue.empty() ? 0ms : housekeeping_patience);
    if (!queue.empty() || flush_collectors) {
      auto group = take_group();
      unlocked([&] {
        room.notify_all();
        commit_group(std::move(group));
        seal_if_due();
        checkpoint_if_due();
      });
    } else if (closing) {
      break;
    }
    if (housekeeping_due) {
      unlocked([&] {
        housekeeping();
        checkpoint_if_due();
      });
    }
    if (!closing && maintenance_state.running) {
      unlocked([&] {
        maintenance_step();
        checkpoint_if_due();
      });
    }
    if (!closing && now >= next_wal_look) unlocked([&] { watch_wal(); });
    if (queue.empty()) {
      drain_wanted = false;
      idle.notify_all();
    }
  }
}

std::vector<Operation> Writer::Impl::take_group() {
  // Outcomes of deliveries can wait, events cannot: they go last. But one of those that had to wait goes first, so that
  // a store that is never idle writes them as well.
  const bool waited = std::exchange(deliveries_waited, false);
  std::vector<Operation> group, last;
  for (std::size_t taken = 0; !queue.empty() && taken < options.queue_capacity; ++taken) {
    const bool can_wait = std::holds_alternative<DeliveriesOperation>(queue.front()) && !(waited && taken == 0);
    (can_wait ? last : group).push_back(std::move(queue.front()));
    queue.pop_front();
  }
  queue_depth.set(static_cast<double>(queue.size()));
  std::ranges::move(last, std::back_inserter(group));
  return group;
}

// A batch that waits goes first: it is committed between two steps, never behind all of them.
void Writer::Impl::seal_if_due() {
  while (ingest->loaded() && ingest->wants_seal(options.block_events) && SteadyClock::now() >= seal_again) {
    const auto step = ingest->seal_step();
    if (!step) {
      observe::log(Level::error, "store", "sealing a block failed; the events stay in the tail",
                   {{"reason", std::string_view(step.error().message)}});
      seal_again = SteadyClock::now() + last_retry;
      ingest->rolled_back();
      const std::scoped_lock held(mutex);
      state.sealing_error = step.error().message;
      return;
    }
    const std::scoped_lock held(mutex);
    if (*step == Ingest::SealStep::sealed) {
      next_housekeeping = std::min(next_housekeeping, SteadyClock::now());
      state.sealing_error.clear();
      count_sealed();
    }
    // Also after a block: what came while it was sealed may be enough for the next one.
    const bool quiet = std::all_of(queue.begin(), queue.end(), is_watermark_alone);
    if (*step == Ingest::SealStep::nothing_to_seal || !quiet) return;
  }
}

// What is committed is acknowledged by now, and a batch that waits goes first as long as the WAL is of a common size.
void Writer::Impl::checkpoint_if_due() {
  if (wal_frames < wal_frames_before) checkpoint_at = checkpoint_frames;  // it was begun anew
  wal_frames_before = wal_frames;
  if (wal_frames < checkpoint_at) return;
  if (wal_frames < checkpoint_at + (checkpoint_frames_at_most - checkpoint_frames)) {
    const std::scoped_lock held(mutex);
    if (!std::all_of(queue.begin(), queue.end(), is_watermark_alone)) return;
  }
  database->checkpoint(db::Database::Checkpoint::passive);
  tell_checkpoints();
  // The next commit begins the WAL anew, unless a reader still needs it.
  checkpoint_at = wal_frames + checkpoint_frames;
}

// What fails there is seen nowhere else: commits need the WAL only. It would grow without end, and it is no reason to
// give up history, which would make it grow more.
void Writer::Impl::tell_checkpoints() {
  const auto& error = database->checkpoint_error();
  retention->set_wal_pinned(wal_watch->state().pinned_since.has_value() || !error.empty());
  const std::scoped_lock held(mutex);
  if (state.checkpoint_error.empty() && !error.empty()) {
    observe::log(Level::error, "store", "the write-ahead log cannot go into the file; it is tried again until it works",
                 {{"reason", std::string_view(error)}});
  }
  state.checkpoint_error = error;
}

// `mutex` is held.
void Writer::Impl::count_sealed() {
  const auto sealed = ingest->sealed_blocks();
  state.blocks += sealed - std::exchange(sealed_counted, sealed);
}

Result<void> Writer::Impl::seal_for_retention(Timestamp now) {
  retention->set_left_out(ingest->left_out());
  DE_TRY(const bool wanted, retention->wants_seal(now));
  if (!wanted) return {};
  if (!ingest->loaded()) DE_CHECK(ingest->load());
  DE_CHECK(ingest->seal());
  return {};
}

// In quiet moments; a step at a time, so that a batch that comes waits for one step at most.
void Writer::Impl::housekeeping() {
  take_bounds();
  const Timestamp now = base::wall_now();
  const auto before = retention->removed();
  auto more = [&]() -> Result<bool> {
    // A tail that cannot be sealed keeps nothing else from going; but what waits for it would never end.
    const auto sealed = seal_for_retention(now);
    DE_TRY(const bool again, retention->step(now));
    DE_CHECK(sealed);
    if (again) return true;
    DE_TRY(const bool pages, retention->vacuum_step());
    if (pages) return true;
    if (SteadyClock::now() >= next_optimize) {
      next_optimize = SteadyClock::now() + optimize_every;
      DE_CHECK(database->execute("PRAGMA analysis_limit=400; PRAGMA optimize"));
    }
    if (wal_watch->state().wal_bytes > worth_a_checkpoint) {
      database->checkpoint(db::Database::Checkpoint::passive);
    }
    return false;
  }();
  if (!more) {
    observe::log(Level::warn, "store", "housekeeping failed; it is tried again later",
                 {{"reason", std::string_view(more.error().message)}});
    ingest->rolled_back();
  }
  {
    const std::scoped_lock held(mutex);
    state.housekeeping_error = more ? std::string() : more.error().message;
  }
  if (!more) more = false;
  next_housekeeping =
      SteadyClock::now() + (*more ? SteadyClock::duration(0) : SteadyClock::duration(housekeeping_every));
  update_sizes();
  count_removed(before);
}

void Writer::Impl::count_removed(const Retention::Removed& before) {
  const auto& after = retention->removed();
  const auto events = after.events - before.events;
  if (events > 0) removed.add(static_cast<double>(events));
  const std::scoped_lock held(mutex);
  state.retention_events_removed += events;
  state.retention_rows_removed += after.rows - before.rows;
  state.retention_events_by_size += after.events_by_size - before.events_by_size;
  state.over_size = retention->over_size();
  state.retention_damage = retention->damage();
  count_sealed();
  state.events -= std::min(state.events, events);
  state.batches -= std::min(state.batches, after.batches - before.batches);
  state.blocks -= std::min(state.blocks, after.blocks - before.blocks);
}

// One step of what an operator asked for; the next batch waits for no more than that.
void Writer::Impl::maintenance_step() {
  if (!maintenance) {
    const std::scoped_lock held(mutex);
    maintenance =
        std::make_unique<Maintenance>(*statements, *ingest, *retention, *maintenance_wanted, maintenance_state.id);
  }
  const auto before = retention->removed();
  const auto stepped = maintenance->step();
  if (!stepped) {
    observe::log(Level::error, "store", "maintenance failed", {{"reason", std::string_view(stepped.error().message)}});
    ingest->rolled_back();
  }
  update_sizes();
  count_removed(before);
  const std::scoped_lock held(mutex);
  maintenance_state = maintenance->state();
  if (!maintenance_state.running) maintenance.reset();
}

void Writer::Impl::watch_wal() {
  next_wal_look = SteadyClock::now() + WalWatch::look_every;
  wal_watch->look();
  const auto& seen = wal_watch->state();
  tell_checkpoints();
  const std::scoped_lock held(mutex);
  if (seen.pinned_since && !pinned_since) {
    for (const auto& [pid, name] : seen.holders) {
      observe::log(Level::warn, "store", "a reader keeps the write-ahead log from being reset",
                   {{"pid", std::int64_t{pid}}, {"name", std::string_view(name)}, {"wal_bytes", seen.wal_bytes}});
    }
  }
  pinned_since = seen.pinned_since;
  state.wal_bytes = seen.wal_bytes;
  state.wal_pinned_by.clear();
  for (const auto& [pid, name] : seen.holders) {
    state.wal_pinned_by.push_back("pid " + std::to_string(pid) + " (" + name + ")");
  }
}

void Writer::Impl::update_sizes() {
  tell_checkpoints();
  const auto file = file_size(options.path), wal = file_size(options.path + "-wal");
  const std::scoped_lock held(mutex);
  state.file_bytes = file;
  state.wal_bytes = wal;
}

}  // namespace daemoneye::store
