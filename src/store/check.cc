#include "store/check.h"

#include <sqlite3.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "base/bytes.h"
#include "db/statement_cache.h"
#include "event/event_codec.h"
#include "store/block.h"
#include "store/schema.h"
#include "store/store_file.h"

namespace daemoneye::store {
namespace {

using event::Column;

constexpr std::uint32_t rows_a_filter_probe = 32;  // every so many rows are looked up in the header's filters

// Interrupts what SQLite does when the deadline comes: its integrity check asks nobody else.
class Interrupter {
 public:
  Interrupter(sqlite3* handle, Deadline deadline)
      : thread_([this, handle, deadline] {
          std::unique_lock held(mutex_);
          if (!done_.wait_until(held, deadline.point(), [this] { return over_; })) sqlite3_interrupt(handle);
        }) {}
  Interrupter(const Interrupter&) = delete;
  Interrupter& operator=(const Interrupter&) = delete;
  ~Interrupter() {
    {
      const std::scoped_lock held(mutex_);
      over_ = true;
    }
    done_.notify_all();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable done_;
  bool over_ = false;
  std::thread thread_;
};

class ReadTransaction {
 public:
  explicit ReadTransaction(db::Database& database) : database_(database), begun_(database.execute("BEGIN")) {}
  ReadTransaction(const ReadTransaction&) = delete;
  ReadTransaction& operator=(const ReadTransaction&) = delete;
  ~ReadTransaction() { sqlite3_exec(database_.raw(), "COMMIT", nullptr, nullptr, nullptr); }
  [[nodiscard]] const Result<void>& begun() const { return begun_; }

 private:
  db::Database& database_;
  Result<void> begun_;
};

std::string place_name(std::uint8_t place) {
  if (place == header_chunk) return "header";
  if (place == batches_chunk) return "batches";
  if (place < event::column_count) return std::string(event::info(static_cast<Column>(place)).name);
  return "place " + std::to_string(place);
}

struct BlockFacts {  // its row of `blocks`
  std::int64_t id = 0, first_event = 0, last_event = 0, events = 0, batches = 0;
  std::optional<Timestamp> first_time, last_time;
};

class Checker {
 public:
  Checker(db::Database& database, const CheckOptions& options, CheckReport& report)
      : database_(database), statements_(database), options_(options), report_(report) {}

  // Corrupt errors of a part become its damage; others end the check.
  Result<void> run() {
    DE_CHECK(part("catalogue", [this] { return facts(); }));
    DE_CHECK(part("pages", [this] { return pages(); }));
    DE_CHECK(part("catalogue", [this] { return epochs(); }));
    DE_CHECK(part("catalogue", [this] { return blocks(); }));
    // A writer beside us seals what we have not come to: then it lies in blocks after those that we have seen.
    std::uint64_t seen = 0;
    do {
      seen = report_.blocks;
      DE_CHECK(part("tail", [this] { return tail(); }));
      if (blocks_walked_) DE_CHECK(part("catalogue", [this] { return new_blocks(); }));
    } while (report_.blocks != seen);
    DE_CHECK(part("live", [this] { return live(); }));
    return part("alerts", [this] { return alerts(); });
  }

 private:
  void found(Damage damage) {
    ++report_.damages;
    if (report_.damage.size() < max_damages_told) report_.damage.push_back(std::move(damage));
  }
  void found(const std::string& part, std::string what) { found({part, {}, {}, {}, {}, {}, std::move(what)}); }
  void in_block(const BlockFacts& block, std::string column, std::string what,
                std::optional<std::int64_t> batch = std::nullopt) {
    found({"block", block.id, std::move(column), batch, block.first_time, block.last_time, std::move(what)});
  }
  bool out_of_time(const std::string& left) {
    if (!options_.deadline.expired()) return false;
    if (report_.not_looked_at.empty()) report_.not_looked_at = left;
    return true;
  }
  template <class Look>
  Result<void> part(const std::string& name, Look look) {
    if (out_of_time(name == "catalogue" ? "blocks" : name)) return {};
    auto looked = look();
    if (looked) return {};
    if (looked.error().code == Errc::cancelled) {
      static_cast<void>(out_of_time(name));
      return {};
    }
    if (looked.error().code != Errc::corrupt) return looked;
    found(name, looked.error().message);
    return {};
  }
  Result<std::int64_t> integer(std::string_view sql) {
    DE_TRY(auto* select, statements_.get(sql));
    const db::StatementReset reset(*select);
    DE_TRY(const bool row, select->step());
    return row ? select->integer(0) : 0;
  }

  Result<void> facts() {
    DE_TRY(const auto version, integer("PRAGMA user_version"));
    report_.schema_version = static_cast<std::uint32_t>(version);
    sqlite3_file* file = nullptr;
    sqlite3_file_control(database_.raw(), "main", SQLITE_FCNTL_FILE_POINTER, static_cast<void*>(&file));
    sqlite3_int64 size = 0;
    if (file == nullptr || file->pMethods == nullptr || file->pMethods->xFileSize(file, &size) != SQLITE_OK) {
      return fail(Errc::io, database_.path() + ": its size is not told");
    }
    DE_TRY(const auto page_size, integer("PRAGMA page_size"));
    char header[100] = {};
    if (file->pMethods->xRead(file, header, sizeof header, 0) == SQLITE_OK) report_.page_checksums = header[20] == 8;
    if (size % page_size != 0) {
      found("file", std::to_string(size) + " bytes are no whole number of pages of " + std::to_string(page_size));
    }
    DE_TRY(auto* select,
           statements_.get("SELECT (SELECT value FROM meta WHERE key='store_id'), (SELECT value FROM meta "
                           "WHERE key='next_event'), (SELECT max(last_event) FROM blocks)"));
    const db::StatementReset reset(*select);
    DE_CHECK(select->step());
    if (select->text(0).empty()) found("catalogue", "the store has no id");
    if (!select->is_null(2) && select->integer(1) <= select->integer(2)) {
      found("catalogue", "the next event's number " + std::to_string(select->integer(1)) + " was given already");
    }
    return {};
  }

  Result<void> pages() {
    const Interrupter interrupter(database_.raw(), options_.deadline);
    DE_TRY(auto check, database_.prepare(options_.quick ? "PRAGMA quick_check(200)" : "PRAGMA integrity_check(200)"));
    while (true) {
      DE_TRY(const bool row, check.step());
      if (!row) return {};
      if (check.text(0) == "ok") return {};
      std::string text(check.text(0));
      std::replace(text.begin(), text.end(), '\n', ' ');
      found("pages", std::move(text));
    }
  }

  Result<void> epochs() {
    DE_TRY(auto* select, statements_.get("SELECT epoch_id, source, epoch FROM epochs"));
    const db::StatementReset reset(*select);
    while (true) {
      DE_TRY(const bool row, select->step());
      if (!row) return {};
      event::BatchId id;
      id.source = select->text(1);
      const auto bytes = select->blob(2);
      if (bytes.size() == id.epoch.size())
        std::copy(bytes.begin(), bytes.end(), id.epoch.begin());
      else
        found("catalogue", "epoch " + std::to_string(select->integer(0)) + " has the wrong size");
      epochs_[select->integer(0)] = std::move(id);
    }
  }

  Result<void> blocks() {
    DE_TRY(const auto total, integer("SELECT count(*) FROM blocks"));
    blocks_total_ = static_cast<std::uint64_t>(total);
    DE_CHECK(new_blocks());
    blocks_walked_ = true;
    DE_TRY(auto* strays, statements_.get("SELECT chunk_id FROM chunks WHERE chunk_id>>6 NOT IN (SELECT block_id FROM "
                                         "blocks) LIMIT 10"));
    const db::StatementReset reset(*strays);
    while (true) {
      DE_TRY(const bool row, strays->step());
      if (!row) return {};
      found("catalogue", "chunk " + std::to_string(strays->integer(0)) + " belongs to no block");
    }
  }

  // Those after the last one that was looked at.
  Result<void> new_blocks() {
    while (true) {
      const ReadTransaction snapshot(database_);
      DE_CHECK(snapshot.begun());
      DE_TRY(const bool more, next_block(block_));
      if (!more) return {};
      if (out_of_time("block " + std::to_string(block_.id) + " and what follows")) return {};
      if (block_.first_event <= last_event_) in_block(block_, "", "its events overlap those of the block before");
      if (block_.last_event - block_.first_event + 1 != block_.events) {
        in_block(block_, "", "its row contradicts itself");
      }
      last_event_ = std::max(last_event_, block_.last_event);
      DE_CHECK(check_block(block_));
      ++report_.blocks;
      tell_progress();
    }
  }

  void tell_progress() {
    if (options_.progress) options_.progress(report_.blocks, std::max(report_.blocks, blocks_total_));
  }

  Result<bool> next_block(BlockFacts& block) {
    DE_TRY(auto* select, statements_.get("SELECT block_id, first_event, last_event, events, batches, first_time, "
                                         "last_time FROM blocks WHERE block_id>? ORDER BY block_id LIMIT 1"));
    const db::StatementReset reset(*select);
    DE_TRY(const bool row, select->bind(1, block.id).step());
    if (!row) return false;
    block = {
        select->integer(0), select->integer(1), select->integer(2), select->integer(3), select->integer(4), {}, {}};
    if (!select->is_null(5)) block.first_time = Timestamp{select->integer(5)};
    if (!select->is_null(6)) block.last_time = Timestamp{select->integer(6)};
    return true;
  }

  Result<void> check_block(const BlockFacts& block) {
    std::map<std::uint8_t, std::string> bodies;
    DE_CHECK(load_chunks(block, bodies));
    const auto batches = check_batches(block, bodies);
    auto opened = Block::open(
        [&](std::uint8_t place) -> Result<std::string> {
          const auto body = bodies.find(place);
          if (body == bodies.end()) return fail(Errc::corrupt, "its chunk is missing or damaged");
          return body->second;
        },
        static_cast<std::uint32_t>(block.events));
    if (!opened) {
      if (bad_places_.count(header_chunk) == 0) in_block(block, "header", opened.error().message);
      return {};
    }
    bool whole = true;
    for (std::size_t i = 0; i < event::column_count; ++i) {
      const auto column = static_cast<Column>(i);
      const auto needed = (*opened)->need(column);
      if (needed) continue;
      whole = false;
      // Once a place: what is derived from a damaged column is damaged as well.
      if (encoding_of(column) == Encoding::none || bad_places_.count(static_cast<std::uint8_t>(i)) > 0) continue;
      in_block(block, place_name(static_cast<std::uint8_t>(i)), needed.error().message);
    }
    report_.events += static_cast<std::uint64_t>(block.events - events_met_);
    if (!whole) return {};
    check_header(block, **opened);
    if (!options_.quick && batches) check_digests(block, **opened, *batches);
    return {};
  }

  Result<void> load_chunks(const BlockFacts& block, std::map<std::uint8_t, std::string>& bodies) {
    bad_places_.clear();
    std::vector<std::int64_t> ids;
    {
      DE_TRY(auto* list, statements_.get("SELECT chunk_id FROM chunks WHERE chunk_id>=? AND chunk_id<?"));
      const db::StatementReset reset(*list);
      list->bind(1, chunk_id(block.id, 0)).bind(2, chunk_id(block.id + 1, 0));
      while (true) {
        DE_TRY(const bool row, list->step());
        if (!row) break;
        ids.push_back(list->integer(0));
      }
    }
    for (const auto id : ids) {
      const auto place = static_cast<std::uint8_t>(id & ((1 << chunk_bits) - 1));
      const auto load = [&]() -> Result<std::string> {
        DE_TRY(auto* select, statements_.get("SELECT data FROM chunks WHERE chunk_id=?"));
        const db::StatementReset reset(*select);
        DE_TRY(const bool row, select->bind(1, id).step());
        if (!row) return fail(Errc::corrupt, "its chunk is missing");
        return open_chunk(select->blob(0), id);
      };
      auto body = load();
      ++report_.chunks;
      if (body) {
        bodies[place] = std::move(*body);
        continue;
      }
      if (body.error().code != Errc::corrupt) return std::unexpected(body.error());
      bad_places_[place] = true;
      in_block(block, place_name(place), body.error().message);
    }
    return {};
  }

  std::optional<std::vector<BatchEntry>> check_batches(const BlockFacts& block,
                                                       const std::map<std::uint8_t, std::string>& bodies) {
    events_met_ = 0;
    const auto body = bodies.find(batches_chunk);
    if (body == bodies.end()) {
      if (bad_places_.count(batches_chunk) == 0) in_block(block, "batches", "its chunk is missing");
      return std::nullopt;
    }
    auto entries = decode_batches(body->second);
    if (!entries) {
      in_block(block, "batches", entries.error().message);
      return std::nullopt;
    }
    std::int64_t events = 0, number = 0;
    for (const auto& entry : *entries) {
      events += entry.events;
      ++number;
      if (met_in_tail_.erase({entry.epoch, entry.sequence}) > 0) {  // and counted there
        events_met_ += entry.events;
        continue;
      }
      ++report_.batches;
      check_identity("block", block.id, number, entry.epoch, entry.sequence);
    }
    if (static_cast<std::int64_t>(entries->size()) != block.batches || events != block.events) {
      in_block(block, "batches",
               "it lists " + std::to_string(entries->size()) + " batches of " + std::to_string(events) +
                   " events, its row says " + std::to_string(block.batches) + " of " + std::to_string(block.events));
      return std::nullopt;
    }
    return std::move(*entries);
  }

  // A batch's epoch is known, and one epoch numbers its batches in the order of commit: so each is there once.
  void check_identity(const std::string& part, std::optional<std::int64_t> block, std::int64_t batch,
                      std::int64_t epoch, std::uint64_t sequence) {
    if (!knows(epoch)) {
      found({part, block, "batches", batch, {}, {}, "its epoch " + std::to_string(epoch) + " is not known"});
    }
    auto& last = sequences_[epoch];
    if (sequence <= last) {
      found({part,
             block,
             "batches",
             batch,
             {},
             {},
             "sequence " + std::to_string(sequence) + " comes after " + std::to_string(last)});
    }
    last = std::max(last, sequence);
  }

  void check_header(const BlockFacts& block, Block& data) {
    const auto& header = data.header();
    std::optional<std::int64_t> first, last;
    std::uint64_t gaps = 0;
    for (std::uint32_t row = 0; row < header.rows; ++row) {
      const auto time = data.value(row, Column::time, block.first_event);
      if (const auto* ns = std::get_if<std::int64_t>(&time)) {
        first = std::min(first.value_or(*ns), *ns);
        last = std::max(last.value_or(*ns), *ns);
      }
      const auto kind = data.value(row, Column::kind, block.first_event);
      const auto* name = std::get_if<std::string_view>(&kind);
      if (name != nullptr && *name == to_string(event::EventKind::gap)) ++gaps;
      if (row % rows_a_filter_probe != 0) continue;
      for (std::size_t i = 0; i < event::column_count; ++i) {
        const auto column = static_cast<Column>(i);
        if (!is_filtered(column) && !has_number(encoding_of(column))) continue;
        const auto value = to_value(data.value(row, column, block.first_event));
        if (std::holds_alternative<std::monostate>(value)) continue;
        if (header.may_match({column, predicate::Operator::equal, {value}})) continue;
        in_block(block, "header",
                 "it denies a value of column " + place_name(static_cast<std::uint8_t>(i)) + " in row " +
                     std::to_string(row));
        return;
      }
    }
    if (gaps != header.gap_rows.size()) in_block(block, "header", "it lists other gaps than there are");
    const auto ns = [](const std::optional<Timestamp>& time) { return time ? std::optional(time->ns) : std::nullopt; };
    if (first != ns(block.first_time) || last != ns(block.last_time)) {
      in_block(block, "time", "its events lie outside of the time range of its row");
    }
  }

  void check_digests(const BlockFacts& block, Block& data, const std::vector<BatchEntry>& entries) {
    std::size_t row = 0;
    std::int64_t number = 0;
    for (const auto& entry : entries) {
      ++number;
      event::Batch batch;
      const auto epoch = epochs_.find(entry.epoch);
      if (epoch != epochs_.end()) batch.id = epoch->second;
      batch.id.sequence = entry.sequence;
      for (std::uint32_t i = 0; i < entry.events; ++i) {
        auto event = data.event(row++);
        if (!event) return in_block(block, "", event.error().message, number);
        batch.events.push_back(std::move(*event));
      }
      const auto canonical = event::encode_batch(batch);
      if (!canonical || event::batch_digest(*canonical) != entry.digest) {
        in_block(block, "", "its events no longer give the batch's digest", number);
      }
    }
  }

  Result<void> tail() {
    auto& number = last_tail_batch_;
    while (true) {
      const ReadTransaction snapshot(database_);
      DE_CHECK(snapshot.begun());
      if (blocks_walked_) {
        // What was sealed meanwhile comes before what is in the tail now.
        auto next = block_;
        DE_TRY(const bool sealed, next_block(next));
        if (sealed) return {};
      }
      DE_TRY(auto* select,
             statements_.get("SELECT batch_no, epoch_id, sequence, digest, events, first_time, last_time, "
                             "canonical FROM tail WHERE batch_no>? ORDER BY batch_no LIMIT 1"));
      const db::StatementReset reset(*select);
      DE_TRY(const bool row, select->bind(1, number).step());
      if (!row) return {};
      number = select->integer(0);
      if (out_of_time("batch " + std::to_string(number) + " of the tail and what follows")) return {};
      ++report_.tail_batches;
      ++report_.batches;
      report_.events += static_cast<std::uint64_t>(std::max<std::int64_t>(0, select->integer(4)));
      Damage damage{"tail", {}, {}, number, {}, {}, {}};
      if (!select->is_null(5)) damage.from = Timestamp{select->integer(5)};
      if (!select->is_null(6)) damage.to = Timestamp{select->integer(6)};
      const auto sequence = static_cast<std::uint64_t>(select->integer(2));
      const auto bytes = open_chunk(select->blob(7), number);
      const auto batch = bytes ? event::decode_batch(*bytes) : Result<event::Batch>(std::unexpected(bytes.error()));
      if (!batch) {
        damage.what = batch.error().message;
      } else if (base::as_bytes(event::batch_digest(*bytes)) != select->blob(3)) {
        damage.what = "its bytes no longer give its digest";
      } else if (static_cast<std::int64_t>(batch->events.size()) != select->integer(4)) {
        damage.what = "its row tells another number of events";
      } else if (batch->id.sequence != sequence || !names(select->integer(1), batch->id)) {
        damage.what = "its bytes carry another identity than its row";
      } else if (!times_agree(*batch, damage)) {
        damage.what = "its events lie outside of the time range of its row";
      }
      if (!damage.what.empty()) found(std::move(damage));
      check_identity("tail", {}, number, select->integer(1), sequence);
      met_in_tail_.emplace(select->integer(1), sequence);
      tell_progress();
    }
  }

  // A collector that came while we read has brought a new one.
  bool knows(std::int64_t epoch) { return epochs_.contains(epoch) || (epochs() && epochs_.contains(epoch)); }

  bool names(std::int64_t epoch, const event::BatchId& id) {
    if (!knows(epoch)) return false;
    const auto& known = epochs_.at(epoch);
    return known.source == id.source && known.epoch == id.epoch;
  }

  static bool times_agree(const event::Batch& batch, const Damage& row) {
    std::optional<Timestamp> first, last;
    for (const auto& event : batch.events) {
      if (!first || event.time < *first) first = event.time;
      if (!last || *last < event.time) last = event.time;
    }
    return first == row.from && last == row.to;
  }

  Result<void> live() {
    DE_TRY(auto* select, statements_.get("SELECT pid, start_ticks, event FROM live"));
    const db::StatementReset reset(*select);
    while (true) {
      DE_TRY(const bool row, select->step());
      if (!row) return {};
      ++report_.live_processes;
      event::ProcessEvent event;
      base::ByteReader in(select->blob(2));
      const auto decoded = event::decode_event(in, event);
      const auto& key = event.process.key;
      if (!decoded || std::int64_t{key.pid} != select->integer(0) ||
          static_cast<std::int64_t>(key.start_ticks) != select->integer(1)) {
        found("live", "process " + std::to_string(select->integer(0)) + ": " +
                          (decoded ? "its event is of another process" : decoded.error().message));
      }
    }
  }

  Result<void> alerts() {
    DE_TRY(const auto stateless,
           integer("SELECT count(*) FROM alerts WHERE alert_id NOT IN (SELECT alert_id FROM alert_state)"));
    if (stateless > 0) found("alerts", std::to_string(stateless) + " alerts have no row in alert_state");
    DE_TRY(const auto waiting,
           integer("SELECT count(*) FROM outbox WHERE alert_id NOT IN (SELECT alert_id FROM alerts)"));
    if (waiting > 0) found("alerts", std::to_string(waiting) + " deliveries wait for alerts that are not there");
    DE_TRY(const auto dead,
           integer("SELECT count(*) FROM dead_letters WHERE alert_id NOT IN (SELECT alert_id FROM alerts)"));
    if (dead > 0) found("alerts", std::to_string(dead) + " dead letters are of alerts that are not there");
    return {};
  }

  db::Database& database_;
  db::StatementCache statements_;
  const CheckOptions& options_;
  CheckReport& report_;
  std::map<std::int64_t, event::BatchId> epochs_;
  std::map<std::int64_t, std::uint64_t> sequences_;  // the last one met, by epoch
  BlockFacts block_;                                 // the last one looked at
  std::int64_t last_event_ = 0, last_tail_batch_ = 0;
  std::uint64_t blocks_total_ = 0;                                // when it began
  bool blocks_walked_ = false;                                    // to their end
  std::set<std::pair<std::int64_t, std::uint64_t>> met_in_tail_;  // epoch and sequence; may be met again in a block
  std::int64_t events_met_ = 0;                                   // of the block at hand
  std::map<std::uint8_t, bool> bad_places_;                       // of the block at hand, told already
};

}  // namespace

Result<CheckReport> check_store(const std::string& path, const CheckOptions& options) {
  CheckReport report;
  auto database = open_store_for_reading(path);
  if (!database) {
    if (database.error().code != Errc::corrupt) return std::unexpected(database.error());
    report.damages = 1;
    report.damage.push_back({"file", {}, {}, {}, {}, {}, database.error().message});
    report.not_looked_at = "everything";
    return report;
  }
  DE_CHECK(Checker(**database, options, report).run());
  return report;
}

}  // namespace daemoneye::store
