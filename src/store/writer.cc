#include "store/writer.h"

#include <sqlite3.h>

#include <algorithm>

#include "store/writer_impl.h"

namespace daemoneye::store {
namespace {

constexpr auto close_at_destruction = std::chrono::seconds(10);

Retention::Limits limits_of(const StoreOptions& options) {
  return {.days = options.retention_days,
          .max_bytes = std::uint64_t{options.max_size_mb} * 1024 * 1024,
          .delivery_days = options.delivery_retention_days,
          .dead_letter_days = options.dead_letter_retention_days};
}

}  // namespace

void Writer::Impl::take_bounds() {
  {
    const std::scoped_lock held(mutex);
    if (!bounds_wanted) return;
    options.retention_days = bounds_wanted->retention_days;
    options.max_size_mb = bounds_wanted->max_size_mb;
    options.delivery_retention_days = bounds_wanted->delivery_retention_days;
    options.dead_letter_retention_days = bounds_wanted->dead_letter_retention_days;
    bounds_wanted.reset();
  }
  retention->set_limits(limits_of(options));
}

Result<void> Writer::Impl::open() {
  DE_CHECK(prepare_folder(options.path, options.reader_group));
  DE_TRY(lock, WriterLock::take(options.path, options.reader_group));
  DE_TRY(database, open_store_for_writing(options.path, options.reader_group));
  // In place of SQLite's own checkpoint, which is part of the commit that makes the WAL long enough: whoever waits for
  // that one would wait for all that others wrote before.
  sqlite3_wal_hook(
      database->raw(),
      [](void* self, sqlite3*, const char*, int frames) {
        static_cast<Impl*>(self)->wal_frames = frames;
        return SQLITE_OK;
      },
      this);
  statements = std::make_unique<db::StatementCache>(*database);
  ingest = std::make_unique<Ingest>(*statements);
  DE_CHECK(ingest->load());
  retention = std::make_unique<Retention>(*statements, limits_of(options));
  wal_watch = std::make_unique<WalWatch>(*database);
  // Whoever was connected to the agent before us is not connected to us.
  DE_CHECK(database->execute("UPDATE collectors SET connected=0 WHERE connected<>0"));
  DE_TRY(auto* select, statements->get("SELECT source, covered_until FROM collectors"));
  {
    const db::StatementReset reset(*select);
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
  const db::StatementReset reset(*counts);
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
                          std::function<void(Result<Commit>)> done, std::optional<event::Gap> missing) {
  BatchOperation operation;
  operation.batch.id = std::move(id);
  operation.batch.canonical = std::move(canonical);
  operation.batch.digest = digest;
  operation.batch.scan = std::move(scan);
  operation.batch.missing = std::move(missing);
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

void Writer::record_deliveries(std::vector<DeliveryRecord> records, std::function<void(Result<void>)> done,
                               std::vector<SinkRecord> sinks) {
  impl_->submit(DeliveriesOperation{std::move(records), std::move(sinks), {}, std::move(done)});
}

void Writer::change(std::function<Result<void>(db::StatementCache&)> write, std::function<void(Result<void>)> done) {
  impl_->submit(ChangeOperation{std::move(write), {}, std::move(done)});
}

void Writer::change_unless_full(std::function<Result<void>(db::StatementCache&)> write,
                                std::function<void(Result<void>)> done) {
  Operation operation = ChangeOperation{std::move(write), {}, std::move(done)};
  if (!impl_->try_submit(operation))
    std::get<ChangeOperation>(operation).done(fail(Errc::unavailable, "too much waits to be written"));
}

bool Writer::has_room() const {
  constexpr std::uint32_t operators_room = 64;
  const auto capacity = impl_->options.queue_capacity;
  const std::scoped_lock held(impl_->mutex);
  return impl_->queue.size() + std::min(operators_room, capacity / 2) < capacity;
}

void Writer::set_retention(const StoreOptions& bounds) {
  {
    const std::scoped_lock held(impl_->mutex);
    impl_->bounds_wanted = bounds;
    impl_->next_housekeeping = std::min(impl_->next_housekeeping, SteadyClock::now());
  }
  impl_->work.notify_one();
}

void Writer::replace_rules(std::vector<RuleRow> rules, std::function<void(Result<void>)> done) {
  impl_->submit(RulesOperation{std::move(rules), {}, std::move(done)});
}

void Writer::probe(std::function<void(Result<void>)> done) {
  if (impl_->probing->exchange(true)) {
    done(fail(Errc::unavailable, "an earlier question of this kind has no answer yet"));
    return;
  }
  Operation operation = ProbeOperation{{}, [done = std::move(done), probing = impl_->probing](Result<void> result) {
                                         *probing = false;
                                         done(std::move(result));
                                       }};
  // Whoever asks must not wait for room.
  if (!impl_->try_submit(operation))
    std::get<ProbeOperation>(operation).done(fail(Errc::unavailable, "too much waits to be written"));
}

Result<std::uint64_t> Writer::start_maintenance(const MaintenanceRequest& request,
                                                const std::function<Result<void>()>& before) {
  std::uint64_t id = 0;
  {
    const std::scoped_lock held(impl_->mutex);
    if (impl_->closing) return fail(Errc::unavailable, "the store is closing");
    if (impl_->maintenance_state.running) return fail(Errc::unavailable, "another maintenance of the store is running");
    if (before) DE_CHECK(before());
    id = impl_->maintenance_state.id + 1;
    impl_->maintenance_state = {};
    impl_->maintenance_state.id = id;
    impl_->maintenance_state.running = true;
    impl_->maintenance_wanted = request;
  }
  impl_->work.notify_one();
  return id;
}

MaintenanceState Writer::maintenance() const {
  const std::scoped_lock held(impl_->mutex);
  return impl_->maintenance_state;
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
  if (impl_->pinned_since) {
    state.wal_pinned_s = std::chrono::duration<double>(SteadyClock::now() - *impl_->pinned_since).count();
  }
  if (const auto since = impl_->committing_since;
      since && !state.paused && SteadyClock::now() - *since > hanging_after) {
    state.paused = true;
    state.reason =
        "a commit is under way for " +
        std::to_string(std::chrono::duration_cast<std::chrono::seconds>(SteadyClock::now() - *since).count()) + " s";
  }
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
  impl_->maintenance.reset();
  impl_->wal_watch.reset();
  impl_->retention.reset();
  impl_->ingest.reset();
  impl_->statements.reset();
  if (impl_->database) {
    // SQLite does it only for the last connection of all, and readers of this process may still have theirs.
    impl_->database->checkpoint(db::Database::Checkpoint::truncate);
  }
  impl_->database.reset();
  impl_->lock.reset();
}

}  // namespace daemoneye::store
