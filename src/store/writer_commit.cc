// One group of operations: one transaction, tried until it works.
#include <algorithm>

#include "observe/log.h"
#include "store/alert_table.h"
#include "store/writer_impl.h"

namespace daemoneye::store {
namespace {

using namespace std::chrono_literals;
using observe::Level;

constexpr std::size_t max_group_records = 4096;  // events in one transaction
constexpr auto max_group_time = 10ms;

// The disk may be emptied, the file system made writable again; what is wrong with the data itself stays wrong.
bool may_pass(Errc code) {
  return code == Errc::io || code == Errc::unavailable || code == Errc::permission_denied || code == Errc::corrupt ||
         code == Errc::cancelled || code == Errc::limit_exceeded;
}

std::size_t records_of(const Operation& operation) {
  if (const auto* batch = std::get_if<BatchOperation>(&operation)) return batch->batch.decoded.events.size() + 1;
  if (const auto* raise = std::get_if<RaiseOperation>(&operation)) return raise->alerts.size() + 1;
  if (const auto* deliveries = std::get_if<DeliveriesOperation>(&operation)) return deliveries->records.size() + 1;
  return 1;
}

}  // namespace

bool is_watermark_alone(const Operation& operation) {
  const auto* raise = std::get_if<RaiseOperation>(&operation);
  return raise != nullptr && raise->alerts.empty();
}

void finish(Operation& operation) {
  if (auto* batch = std::get_if<BatchOperation>(&operation); batch != nullptr && batch->result) {
    // Nobody looks into the batch any more.
    batch->batch.decoded.events.clear();
    if (!batch->result->duplicate)
      batch->result->canonical = std::make_shared<const std::string>(std::move(batch->batch.canonical));
  }
  std::visit(
      [](auto& held) {
        if (held.done) held.done(std::move(held.result));
      },
      operation);
}

void set_error(Operation& operation, const Error& error) {
  std::visit([&](auto& held) { held.result = std::unexpected(error); }, operation);
}

Result<void> Writer::Impl::apply(Operation& operation, Timestamp now) {
  if (auto* batch = std::get_if<BatchOperation>(&operation)) {
    if (!batch->decoded) {
      DE_CHECK(decode(batch->batch));
      batch->decoded = true;
    }
    DE_TRY(const auto commit, ingest->write(batch->batch, now));
    batch->result = commit;
    return {};
  }
  if (auto* raise = std::get_if<RaiseOperation>(&operation)) {
    std::vector<RaiseResult> results;
    for (const auto& alert : raise->alerts) {
      DE_TRY(auto result, write_alert(*statements, alert));
      results.push_back(std::move(result));
    }
    if (raise->watermark) {
      DE_TRY(auto* update, statements->get("UPDATE meta SET value=max(value, ?) WHERE key='stream_watermark'"));
      DE_CHECK(update->bind(1, *raise->watermark).run());
    }
    raise->result = std::move(results);
    return {};
  }
  if (auto* deliveries = std::get_if<DeliveriesOperation>(&operation)) {
    for (const auto& record : deliveries->records) DE_CHECK(write_delivery(*statements, record));
    for (const auto& sink : deliveries->sinks) DE_CHECK(write_sink(*statements, sink));
    return {};
  }
  if (auto* change = std::get_if<ChangeOperation>(&operation)) return change->write(*statements);
  if (std::holds_alternative<ProbeOperation>(operation)) {
    DE_TRY(auto* write, statements->get("INSERT OR REPLACE INTO meta VALUES('probe', ?)"));
    return write->bind(1, now.ns).run();
  }
  return write_rules(*statements, std::get<RulesOperation>(operation).rules);
}

Result<void> Writer::Impl::write_collectors(const std::map<std::string, Collector>& copy) {
  for (const auto& [source, collector] : copy) {
    DE_TRY(auto* insert, statements->get("INSERT OR REPLACE INTO collectors VALUES(?,?,?)"));
    DE_CHECK(insert->bind_text(1, source).bind(2, std::int64_t{collector.connected}).bind(3, collector.until.ns).run());
  }
  return {};
}

// While the WAL cannot go into the file nothing is removed either: then the bound on the size holds what comes in.
Result<void> Writer::Impl::check_room() {
  take_bounds();
  const auto most = std::uint64_t{options.max_size_mb} * 1024 * 1024;
  if (database->checkpoint_error().empty() || most == 0) return {};
  if (file_size(options.path) + file_size(options.path + "-wal") < most) return {};
  database->checkpoint(db::Database::Checkpoint::passive);
  tell_checkpoints();
  if (database->checkpoint_error().empty()) return {};
  return fail(Errc::io, "database.max_size_mb is reached, and the write-ahead log cannot go into the file: " +
                            database->checkpoint_error());
}

// One attempt at one transaction. `failed`: the operation that the error belongs to; group.size() when to none.
Result<void> Writer::Impl::try_group(std::vector<Operation>& group, std::size_t& failed) {
  failed = group.size();
  DE_CHECK(check_room());
  if (!ingest->loaded()) DE_CHECK(ingest->load());
  DE_TRY(auto transaction, db::Transaction::begin(*database));
  const auto begin = SteadyClock::now();
  const Timestamp now = base::wall_now();
  std::size_t records = 0;
  for (std::size_t i = 0; i < group.size(); ++i) {
    failed = i;
    DE_CHECK(apply(group[i], now));
    records += records_of(group[i]);
    if (i + 1 < group.size() && (records >= max_group_records || SteadyClock::now() - begin >= max_group_time)) {
      // The rest goes back to the front of the queue, in order.
      const std::scoped_lock held(mutex);
      while (group.size() > i + 1) {
        deliveries_waited = deliveries_waited || std::holds_alternative<DeliveriesOperation>(group.back());
        queue.push_front(std::move(group.back()));
        group.pop_back();
      }
      queue_depth.set(static_cast<double>(queue.size()));
    }
  }
  failed = group.size();
  DE_CHECK(ingest->finish_transaction());
  std::map<std::string, Collector> copy;
  {
    const std::scoped_lock held(mutex);
    if (collectors_dirty) copy = collectors;
  }
  DE_CHECK(write_collectors(copy));
  DE_CHECK(transaction.commit());
  ingest->committed();
  if (!copy.empty()) {
    const std::scoped_lock held(mutex);
    const bool same =
        std::equal(copy.begin(), copy.end(), collectors.begin(), collectors.end(), [](const auto& a, const auto& b) {
          return a.first == b.first && a.second.connected == b.second.connected && a.second.until == b.second.until;
        });
    if (same) collectors_dirty = collectors_urgent = false;
    collectors_written = SteadyClock::now();
  }
  return {};
}

void Writer::Impl::commit_group(std::vector<Operation> group) {
  base::Backoff backoff(first_retry, last_retry, reinterpret_cast<std::uintptr_t>(this), first_retry);
  while (true) {
    const auto begin = SteadyClock::now();
    const auto under_way = [&](std::optional<SteadyClock::time_point> since) {
      const std::scoped_lock held(mutex);
      committing_since = since;
    };
    std::size_t failed = 0;
    under_way(begin);
    const auto tried = try_group(group, failed);
    under_way(std::nullopt);
    if (tried) {
      resume();
      after_commit(group, SteadyClock::now() - begin);
      for (auto& operation : group) finish(operation);
      return;
    }
    ingest->rolled_back();
    if (!may_pass(tried.error().code) && failed < group.size()) {
      // This one can never be written. The others can.
      observe::log(Level::error, "store", "refused", {{"reason", std::string_view(tried.error().message)}});
      Operation refused = std::move(group[failed]);
      group.erase(group.begin() + static_cast<std::ptrdiff_t>(failed));
      set_error(refused, tried.error());
      finish(refused);
      if (group.empty()) return;
      continue;
    }
    if (!pause(tried.error(), backoff)) {
      for (auto& operation : group) {
        set_error(operation,
                  {Errc::unavailable, "the store closed before it could be written: " + tried.error().message});
        finish(operation);
      }
      return;
    }
  }
}

// False: it is time to give up.
bool Writer::Impl::pause(const Error& error, base::Backoff& backoff) {
  std::unique_lock held(mutex);
  if (!state.paused) {
    observe::log(Level::error, "store", "writing fails; it is tried again until it works",
                 {{"reason", std::string_view(error.message)}});
  }
  state.paused = true;
  state.reason = error.message;
  const auto until = SteadyClock::now() + backoff.next();
  // Whatever wakes it in between; the end may come nearer meanwhile.
  while (SteadyClock::now() < std::min(until, give_up_at)) work.wait_until(held, std::min(until, give_up_at));
  if (SteadyClock::now() < give_up_at) return true;
  give_up = true;
  return false;
}

void Writer::Impl::resume() {
  const std::scoped_lock held(mutex);
  if (!state.paused) return;
  observe::log(Level::info, "store", "writing works again");
  state.paused = false;
  state.reason.clear();
}

void Writer::Impl::after_commit(const std::vector<Operation>& group, std::chrono::nanoseconds took) {
  commit_seconds.observe(std::chrono::duration<double>(took).count());
  const std::scoped_lock held(mutex);
  ++state.commits;
  commit_ms[commits_measured++ % measured_commits] = std::chrono::duration<double, std::milli>(took).count();
  for (const auto& operation : group) {
    const auto* batch = std::get_if<BatchOperation>(&operation);
    if (batch == nullptr || !batch->result) continue;
    if (batch->result->duplicate) {
      ++state.duplicates;
      continue;
    }
    ++state.batches;
    state.events += batch->batch.decoded.events.size();
    auto& last = sequences[{batch->batch.id.source, batch->batch.id.epoch}];
    last = std::max(last, batch->batch.id.sequence);
  }
}

}  // namespace daemoneye::store
