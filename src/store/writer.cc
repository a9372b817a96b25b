#include "store/writer.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <variant>

#include "base/backoff.h"
#include "observe/log.h"
#include "observe/metrics.h"
#include "store/alert_table.h"
#include "store/ingest.h"
#include "store/retention.h"
#include "store/schema.h"
#include "store/store_file.h"

namespace daemoneye::store {
namespace {

using namespace std::chrono_literals;
using base::SteadyClock;
using observe::Level;

constexpr std::size_t max_group_records = 4096;  // events in one transaction
constexpr auto max_group_time = 10ms;
constexpr auto heartbeat_flush = 2s;  // collectors' state, and a watermark that came alone
constexpr auto watermark_flush = 1s;
constexpr auto housekeeping_every = 30s;
constexpr auto housekeeping_patience = 50ms;  // how long a step waits for a quiet moment
constexpr auto first_retry = 20ms, last_retry = 2000ms;
constexpr std::size_t measured_commits = 512;
constexpr auto close_at_destruction = 10s;

// The disk may be emptied, the file system made writable again; what is wrong with the data itself stays wrong.
bool may_pass(Errc code) {
  return code == Errc::io || code == Errc::unavailable || code == Errc::permission_denied || code == Errc::corrupt ||
         code == Errc::cancelled || code == Errc::limit_exceeded;
}

struct BatchOperation {
  IncomingBatch batch;
  bool decoded = false;
  Result<Commit> result = Commit{};
  std::function<void(Result<Commit>)> done;
};
struct RaiseOperation {
  std::vector<Writer::Raise> alerts;
  std::optional<event::EventId> watermark;
  Result<std::vector<RaiseResult>> result = std::vector<RaiseResult>{};
  std::function<void(Result<std::vector<RaiseResult>>)> done;
};
struct DeliveriesOperation {
  std::vector<DeliveryRecord> records;
  Result<void> result;
  std::function<void(Result<void>)> done;
};
struct RulesOperation {
  std::vector<RuleRow> rules;
  Result<void> result;
  std::function<void(Result<void>)> done;
};
using Operation = std::variant<BatchOperation, RaiseOperation, DeliveriesOperation, RulesOperation>;

std::size_t records_of(const Operation& operation) {
  if (const auto* batch = std::get_if<BatchOperation>(&operation)) return batch->batch.decoded.events.size() + 1;
  if (const auto* raise = std::get_if<RaiseOperation>(&operation)) return raise->alerts.size() + 1;
  return 1;
}

bool is_watermark_alone(const Operation& operation) {
  const auto* raise = std::get_if<RaiseOperation>(&operation);
  return raise != nullptr && raise->alerts.empty();
}

void finish(Operation& operation) {
  std::visit(
      [](auto& held) {
        if (held.done) held.done(std::move(held.result));
      },
      operation);
}

void set_error(Operation& operation, const Error& error) {
  std::visit([&](auto& held) { held.result = std::unexpected(error); }, operation);
}

}  // namespace

struct Writer::Impl {
  struct Collector {
    bool connected = false;
    Timestamp until;
  };

  StoreOptions options;
  std::optional<WriterLock> lock;
  std::unique_ptr<db::Database> database;
  std::unique_ptr<StatementCache> statements;
  std::unique_ptr<Ingest> ingest;
  std::unique_ptr<Retention> retention;
  std::string store_id;

  mutable std::mutex mutex;
  std::condition_variable work, room, idle;
  std::deque<Operation> queue;
  bool busy = false, closing = false, give_up = false, drain_wanted = false;
  SteadyClock::time_point give_up_at = SteadyClock::time_point::max();
  std::map<std::string, Collector> collectors;
  bool collectors_dirty = false, collectors_urgent = false;
  SteadyClock::time_point collectors_written{}, watermark_since{};
  std::map<Ingest::EpochKey, std::uint64_t> sequences;
  State state;
  std::array<double, measured_commits> commit_ms{};
  std::size_t commits_measured = 0;

  observe::Histogram commit_seconds =
      observe::histogram("daemoneye_store_commit_seconds", "Durable commits of the store.");
  observe::Counter removed = observe::counter("daemoneye_store_retention_events_removed_total",
                                              "Events removed because of their age or the size of the store.");
  SteadyClock::time_point next_housekeeping = SteadyClock::now() + 1s;
  SteadyClock::time_point seal_again{};
  std::thread::id writer_thread;
  std::thread thread;  // last: it uses everything above

  Result<void> open();
  void submit(Operation operation);
  void run();
  std::vector<Operation> take_group();
  void commit_group(std::vector<Operation> group);
  Result<void> try_group(std::vector<Operation>& group, std::size_t& failed);
  Result<void> apply(Operation& operation, Timestamp now);
  Result<void> write_collectors(const std::map<std::string, Collector>& copy);
  bool pause(const Error& error, base::Backoff& backoff);
  void resume();
  void seal_if_due();
  void housekeeping();
  void after_commit(const std::vector<Operation>& group, std::chrono::nanoseconds took);
  void update_sizes();
  [[nodiscard]] SteadyClock::time_point work_due() const;  // the past: now
};

Result<void> Writer::Impl::open() {
  DE_CHECK(prepare_folder(options.path, options.reader_group));
  DE_TRY(lock, WriterLock::take(options.path, options.reader_group));
  DE_TRY(database, open_store_for_writing(options.path, options.reader_group));
  statements = std::make_unique<StatementCache>(*database);
  ingest = std::make_unique<Ingest>(*statements);
  DE_CHECK(ingest->load());
  retention = std::make_unique<Retention>(
      *statements, Retention::Limits{options.retention_days, std::uint64_t{options.max_size_mb} * 1024 * 1024});
  // Whoever was connected to the agent before us is not connected to us.
  DE_CHECK(database->execute("UPDATE collectors SET connected=0 WHERE connected<>0"));
  DE_TRY(auto* select, statements->get("SELECT source, covered_until FROM collectors"));
  {
    const StatementReset reset(*select);
    while (true) {
      DE_TRY(const bool row, select->step());
      if (!row) break;
      collectors[std::string(select->text(0))] = {false, Timestamp{select->integer(1)}};
    }
  }
  DE_TRY(auto* counts, statements->get("SELECT value, (SELECT coalesce(sum(events), 0) FROM blocks) + (SELECT "
                                       "coalesce(sum(events), 0) FROM tail), (SELECT coalesce(sum(batches), 0) FROM "
                                       "blocks) + (SELECT count(*) FROM tail), (SELECT count(*) FROM blocks) FROM meta "
                                       "WHERE key='store_id'"));
  const StatementReset reset(*counts);
  DE_TRY(const bool row, counts->step());
  if (!row) return fail(Errc::corrupt, options.path + ": the store has no id");
  store_id = counts->text(0);
  state.events = static_cast<std::uint64_t>(counts->integer(1));
  state.batches = static_cast<std::uint64_t>(counts->integer(2));
  state.blocks = static_cast<std::uint64_t>(counts->integer(3));
  sequences = ingest->committed_sequences();
  update_sizes();
  return {};
}

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
  held.unlock();
  work.notify_one();
}

SteadyClock::time_point Writer::Impl::work_due() const {
  const auto now = SteadyClock::time_point::min();
  if (closing || drain_wanted || (collectors_dirty && collectors_urgent)) return now;
  auto due = next_housekeeping;
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
      });
    } else if (closing) {
      break;
    }
    if (housekeeping_due) unlocked([&] { housekeeping(); });
    if (queue.empty()) {
      drain_wanted = false;
      idle.notify_all();
    }
  }
}

std::vector<Operation> Writer::Impl::take_group() {
  std::vector<Operation> group;
  while (!queue.empty() && group.size() < options.queue_capacity) {
    group.push_back(std::move(queue.front()));
    queue.pop_front();
  }
  return group;
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
    return {};
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

// One attempt at one transaction. `failed`: the operation that the error belongs to; group.size() when to none.
Result<void> Writer::Impl::try_group(std::vector<Operation>& group, std::size_t& failed) {
  failed = group.size();
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
        queue.push_front(std::move(group.back()));
        group.pop_back();
      }
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
    std::size_t failed = 0;
    const auto tried = try_group(group, failed);
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
  work.wait_until(held, std::min(until, give_up_at), [&] { return SteadyClock::now() >= give_up_at; });
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

void Writer::Impl::seal_if_due() {
  if (!ingest->loaded() || !ingest->wants_seal(options.block_events) || SteadyClock::now() < seal_again) return;
  const auto sealed = ingest->seal();
  if (!sealed) {
    observe::log(Level::error, "store", "sealing a block failed; the events stay in the tail",
                 {{"reason", std::string_view(sealed.error().message)}});
    seal_again = SteadyClock::now() + last_retry;
    ingest->rolled_back();
    return;
  }
  next_housekeeping = std::min(next_housekeeping, SteadyClock::now());
  const std::scoped_lock held(mutex);
  state.blocks += *sealed ? 1 : 0;
}

// In quiet moments; a step at a time, so that a batch that comes waits for one step at most.
void Writer::Impl::housekeeping() {
  const Timestamp now = base::wall_now();
  const auto before = retention->removed();
  auto more = [&]() -> Result<bool> {
    DE_TRY(const bool seal, retention->wants_seal(now));
    if (seal) {
      if (!ingest->loaded()) DE_CHECK(ingest->load());
      DE_CHECK(ingest->seal());
    }
    DE_TRY(const bool again, retention->step(now));
    if (again) return true;
    return retention->vacuum_step();
  }();
  if (!more) {
    observe::log(Level::warn, "store", "housekeeping failed; it is tried again later",
                 {{"reason", std::string_view(more.error().message)}});
    ingest->rolled_back();
    more = false;
  }
  next_housekeeping =
      SteadyClock::now() + (*more ? SteadyClock::duration(0) : SteadyClock::duration(housekeeping_every));
  const auto events = retention->removed().events - before.events;
  if (events > 0) removed.add(static_cast<double>(events));
  update_sizes();
  const std::scoped_lock held(mutex);
  state.retention_events_removed += events;
  state.events -= std::min(state.events, events);
  state.batches -= std::min(state.batches, retention->removed().batches - before.batches);
  state.blocks -= std::min(state.blocks, retention->removed().blocks - before.blocks);
}

void Writer::Impl::update_sizes() {
  const auto file = file_size(options.path), wal = file_size(options.path + "-wal");
  const std::scoped_lock held(mutex);
  state.file_bytes = file;
  state.wal_bytes = wal;
}

Writer::Writer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Writer>> Writer::open(const StoreOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->options.queue_capacity = std::max(1U, options.queue_capacity);
  impl->options.block_events = std::max(1U, options.block_events);
  DE_CHECK(impl->open());
  impl->thread = std::thread([raw = impl.get()] { raw->run(); });
  return std::unique_ptr<Writer>(new Writer(std::move(impl)));
}

Writer::~Writer() { close(Deadline::after(close_at_destruction)); }

std::string Writer::store_id() const { return impl_->store_id; }

std::uint64_t Writer::committed_sequence(const std::string& source, const event::Epoch& epoch) const {
  const std::scoped_lock held(impl_->mutex);
  const auto found = impl_->sequences.find({source, epoch});
  return found == impl_->sequences.end() ? 0 : found->second;
}

std::optional<Timestamp> Writer::covered_until(const std::string& source) const {
  const std::scoped_lock held(impl_->mutex);
  const auto found = impl_->collectors.find(source);
  if (found == impl_->collectors.end()) return std::nullopt;
  return found->second.until;
}

void Writer::commit_batch(event::BatchId id, std::string canonical, base::Sha256Digest digest, std::string scan,
                          std::function<void(Result<Commit>)> done) {
  BatchOperation operation;
  operation.batch.id = std::move(id);
  operation.batch.canonical = std::move(canonical);
  operation.batch.digest = digest;
  operation.batch.scan = std::move(scan);
  operation.done = std::move(done);
  impl_->submit(std::move(operation));
}

void Writer::raise(std::vector<Raise> alerts, std::optional<event::EventId> watermark,
                   std::function<void(Result<std::vector<RaiseResult>>)> done) {
  RaiseOperation operation;
  operation.alerts = std::move(alerts);
  operation.watermark = watermark;
  operation.done = std::move(done);
  impl_->submit(std::move(operation));
}

void Writer::record_deliveries(std::vector<DeliveryRecord> records, std::function<void(Result<void>)> done) {
  impl_->submit(DeliveriesOperation{std::move(records), {}, std::move(done)});
}

void Writer::replace_rules(std::vector<RuleRow> rules, std::function<void(Result<void>)> done) {
  impl_->submit(RulesOperation{std::move(rules), {}, std::move(done)});
}

void Writer::set_collector(const std::string& source, bool connected, Timestamp until) {
  {
    const std::scoped_lock held(impl_->mutex);
    auto [found, is_new] = impl_->collectors.try_emplace(source);
    if (is_new || found->second.connected != connected) impl_->collectors_urgent = true;
    found->second = {connected, until};
    impl_->collectors_dirty = true;
  }
  impl_->work.notify_one();
}

Writer::State Writer::state() const {
  const std::scoped_lock held(impl_->mutex);
  auto state = impl_->state;
  const auto count = std::min(impl_->commits_measured, measured_commits);
  if (count > 0) {
    std::vector<double> sorted(impl_->commit_ms.begin(), impl_->commit_ms.begin() + static_cast<std::ptrdiff_t>(count));
    std::sort(sorted.begin(), sorted.end());
    state.commit_p50_ms = sorted[count / 2];
    state.commit_p99_ms = sorted[std::min(count - 1, count * 99 / 100)];
  }
  return state;
}

bool Writer::drain(Deadline deadline) {
  std::unique_lock held(impl_->mutex);
  impl_->drain_wanted = true;
  impl_->work.notify_one();
  return impl_->idle.wait_until(held, deadline.point(), [&] { return impl_->queue.empty() && !impl_->busy; });
}

void Writer::close(Deadline deadline) {
  if (!impl_->thread.joinable()) return;
  {
    const std::scoped_lock held(impl_->mutex);
    impl_->closing = true;
    impl_->give_up_at = deadline.point();
  }
  impl_->work.notify_all();
  impl_->room.notify_all();
  impl_->thread.join();
  for (auto& operation : impl_->queue) {
    set_error(operation, {Errc::unavailable, "the store closed before it could be written"});
    finish(operation);
  }
  impl_->queue.clear();
  impl_->retention.reset();
  impl_->ingest.reset();
  impl_->statements.reset();
  impl_->database.reset();  // checkpoints
  impl_->lock.reset();
}

}  // namespace daemoneye::store
