// The whole ledger, entry by entry.
#include <map>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "ledger/format.h"
#include "ledger/reader_state.h"

namespace daemoneye::ledger {
namespace {

using base::Sha256Digest;
using Bad = LedgerReader::Bad;
using Report = LedgerReader::Report;

constexpr std::uint64_t entries_a_look = 4096;               // at the clock and the stop
constexpr std::size_t max_keys = 10'000, max_notices = 100;  // that are reported
// Between a start or stop and the checkpoint that goes with it the writer makes a few entries; so long is it about it.
constexpr std::uint64_t entries_before_checkpoint = 8;
constexpr std::uint64_t late_entries = 1000;
constexpr std::int64_t late_ns = 60'000'000'000;

// A read transaction: one snapshot of a segment; only reads, nothing to commit.
class Snapshot {
 public:
  explicit Snapshot(db::Database& database) : database_(database), begun_(database.execute("BEGIN")) {}
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;
  ~Snapshot() { static_cast<void>(database_.execute("ROLLBACK")); }  // of a read nothing can be lost
  [[nodiscard]] const Result<void>& begun() const { return begun_; }

 private:
  db::Database& database_;
  Result<void> begun_;
};

// Follows who may sign, and what checkpoints there have to be.
class Signatures {
 public:
  explicit Signatures(const std::optional<PublicKey>& trusted) : trusted_(trusted) {}

  // The faults it finds are told as texts; empty: none.
  std::string on_key(const StoredEntry& entry, Report& report) {
    const auto payload = nlohmann::json::parse(entry.payload, nullptr, false);
    const auto text = [&](const char* name) {
      const auto found = payload.is_object() ? payload.find(name) : payload.end();
      return payload.is_object() && found != payload.end() && found->is_string() ? found->get<std::string>()
                                                                                 : std::string();
    };
    const auto key = PublicKey::parse(text("key"));
    if (!key) return "it names a key that is none";
    if (text("id") != key->id()) return "its id is not that of its key";
    const auto how = text("how");
    const bool fits = current_ ? how == "rotated" || how == "replaced" : how == "first" || how == "kept";
    if (!fits) return "it says '" + base::printable(how) + "' of a key where that cannot be";
    if (text("replaces") != (current_ ? current_->text() : "")) return "it does not replace the key in force";
    if (report.keys.size() < max_keys) report.keys.push_back(key->text());
    if (how == "rotated") {
      previous_ = current_;
    } else if (how == "replaced") {
      if (trusted_ && *trusted_ == *current_) return "the given key was replaced without its signature";
      notice(report, entry, "the signing key was replaced without the old key's signature");
    } else if (how == "kept") {
      notice(report, entry, "the signing key is older than the ledger: it may have signed another one before");
    }
    current_ = *key;
    return {};
  }
  // A new key is in force that the old one has not signed for yet.
  [[nodiscard]] bool handing_over() const { return previous_.has_value(); }
  [[nodiscard]] const std::optional<PublicKey>& current() const { return current_; }
  [[nodiscard]] const std::string& origin() const { return origin_; }

  std::string on_checkpoint(const std::string& bytes, std::uint64_t size, const MerkleTree& tree, Report& report) {
    const auto note = Note::parse(bytes);
    if (!note) return note.error().message;
    const auto checkpoint = Checkpoint::parse(note->text);
    if (!checkpoint) return checkpoint.error().message;
    if (checkpoint->size != size || size != tree.size()) return "it is of another size";
    if (origin_.empty()) origin_ = checkpoint->origin;
    if (checkpoint->origin != origin_) return "it is of another ledger: " + base::printable(checkpoint->origin);
    if (checkpoint->root != tree.root()) return "its root is not that of the entries before it";
    if (!current_) return "no key was recorded that could have signed it";
    if (!note->is_signed_by(*current_)) return "it is not signed by the key that is in force there, " + current_->id();
    if (previous_ && !note->is_signed_by(*previous_)) {
      return "the new key " + current_->id() + " is not handed over to by the old key's signature";
    }
    if (trusted_ && previous_ && *previous_ == *trusted_) {
      trusted_ = *current_;
      if (report.trusted.size() < max_keys) report.trusted.push_back(*current_);
    }
    previous_.reset();
    ++report.checkpoints;
    if (!trusted_ || note->is_signed_by(*trusted_)) report.signed_until = size;
    return {};
  }

 private:
  static void notice(Report& report, const StoredEntry& entry, const std::string& what) {
    if (report.notices.size() >= max_notices) return;
    report.notices.push_back("entry " + std::to_string(entry.sequence) + ": " + what);
  }

  std::optional<PublicKey> current_, previous_;  // previous: has to sign the next checkpoint, too
  std::optional<PublicKey> trusted_;
  std::string origin_;
};

// The entries since the last checkpoint that counts. The writer signs at every start and stop, and by time and number:
// what it has not signed by then it has not written.
class UnsignedTail {
 public:
  void begin_anew() { *this = {}; }
  void add(const StoredEntry& entry, std::chrono::nanoseconds interval) {
    ++entries_;
    if (!first_time_) first_time_ = entry.time;
    last_time_ = entry.time;
    if (!overdue_since_ && entry.time.ns - first_time_->ns > 2 * interval.count()) overdue_since_ = entry.time;
    if (start_or_stop_) ++since_then_;
    if (entry.actor == own_actor && (entry.action == "start" || entry.action == "stop") && !start_or_stop_) {
      start_or_stop_ = entry.sequence;
      what_ = entry.action;
    }
  }
  [[nodiscard]] std::uint64_t entries() const { return entries_; }
  [[nodiscard]] const std::optional<Timestamp>& first_time() const { return first_time_; }
  // Empty: it may be what the writer has not come to sign yet.
  [[nodiscard]] std::string fault(const LedgerReader::VerifyOptions& options, bool closed) const {
    const std::chrono::nanoseconds interval = options.checkpoint_interval;
    if (closed && entries_ > 0) return "the ledger was closed, and is not signed to its end";
    if (start_or_stop_ && since_then_ > entries_before_checkpoint) {
      return "after the collector's " + what_ + " at entry " + std::to_string(*start_or_stop_) + " nothing is signed";
    }
    if (entries_ > 2 * options.checkpoint_entries + late_entries) return "too many entries are not signed";
    if (overdue_since_ && last_time_.ns - overdue_since_->ns > std::max(late_ns, interval.count())) {
      return "entries of longer than checkpoints are apart are not signed";
    }
    return {};
  }

 private:
  std::uint64_t entries_ = 0, since_then_ = 0;
  std::optional<Timestamp> first_time_, overdue_since_;
  Timestamp last_time_;
  std::optional<std::uint64_t> start_or_stop_;
  std::string what_;
};

}  // namespace

class Walk {
 public:
  Walk(LedgerReader::State& reader, const LedgerReader::VerifyOptions& options)
      : reader_(reader), options_(options), signatures_(options.key) {}

  Result<Report> run() {
    DE_CHECK(reader_.refresh());
    if (const auto size = reader_.size()) total_ = *size;  // a damaged head is found in its turn
    for (const auto& note : options_.against) {
      DE_TRY(auto checkpoint, Checkpoint::parse(note.text));
      against_.emplace(checkpoint.size, std::make_pair(std::move(checkpoint), &note));
    }
    if (options_.key) report_.trusted.push_back(*options_.key);
    // The writer may begin another one while we walk.
    for (std::size_t i = 0; i < reader_.segments.size() && !report_.first_bad; ++i) {
      const bool newest = i + 1 == reader_.segments.size();
      const auto walked = walk(reader_.segments[i], newest);
      // SQLite, too, finds damage: of its own pages, and what is longer than anything of ours.
      if (!walked && (walked.error().code == Errc::corrupt || walked.error().code == Errc::limit_exceeded))
        bad(tree_.size(), walked.error().message);
      else
        DE_CHECK(walked);
      if (report_.first_bad || !newest || !continued_) continue;
      continued_ = false;
      DE_CHECK(reader_.refresh());
      if (i + 1 == reader_.segments.size()) {
        bad(tree_.size(), "missing: the ledger goes on in another segment, which is not there");
      }
    }
    if (!report_.first_bad) after_all();
    report_.root = tree_.root();
    report_.origin = signatures_.origin();
    report_.unsigned_entries = tail_.entries();
    report_.unsigned_since = tail_.first_time();
    return std::move(report_);
  }

 private:
  void bad(std::uint64_t sequence, std::string what) {
    if (!report_.first_bad) report_.first_bad = Bad{sequence, std::move(what)};
  }

  void after_all() {
    for (const auto& [size, kept] : against_) {
      if (size <= tree_.size()) continue;
      return bad(tree_.size(), "missing: a checkpoint that was kept elsewhere covers " + std::to_string(size) +
                                   " entries, so the ledger was cut off or put back to an older copy");
    }
    if (options_.key && report_.signed_until == 0) {
      return bad(
          0, "no checkpoint is signed by the given key " + options_.key->id() + ", or by one that it handed over to");
    }
    if (signatures_.handing_over()) {
      return bad(tree_.size(), "missing: the checkpoint that hands over to the key of the entry before");
    }
    if (const auto fault = tail_.fault(options_, closed_); signatures_.current() && !fault.empty()) {
      const auto first = report_.signed_until == 0 ? 0 : report_.signed_until + 1;
      return bad(first, "it and those after it were not signed when they should have been: " + fault);
    }
    report_.first_bad = breach_;
  }

  // Checkpoints kept elsewhere that end where the walk is.
  void compare_kept() {
    const auto [begin, end] = against_.equal_range(tree_.size());
    for (auto kept = begin; kept != end; ++kept) {
      const auto& [checkpoint, note] = kept->second;
      if (checkpoint.root == tree_.root()) continue;
      bad(tree_.size() == 0 ? 0 : tree_.size() - 1,
          "it, or one before it, is not what was signed: a checkpoint of " + std::to_string(tree_.size()) +
              " entries that was kept elsewhere has another root (entries were rewritten, or the ledger forked)");
    }
  }

  Result<void> begin(const Segment& segment) {
    const auto& start = segment.start();
    if (start.first != tree_.size() || start.previous_hash != last_hash_ || start.previous_time != last_time_) {
      bad(tree_.size(), "the segment " + segment.database().path() + " does not go on where the one before ends");
      return {};
    }
    auto tree = tree_at_start(start);
    if (!tree || tree->root() != tree_.root()) {
      bad(tree_.size(), "the stored hashes at the begin of " + segment.database().path() + " are not those of the log");
    }
    return {};
  }

  // Rows that are read by an index need not be those of the table.
  Result<void> no_index(db::Database& database) {
    DE_TRY(auto found, database.prepare("SELECT count(*) FROM sqlite_schema WHERE type = 'view' OR (type = 'index' AND "
                                        "tbl_name IN ('entries', 'checkpoints', 'segment', 'head'))"));
    DE_CHECK(found.step());
    if (found.integer(0) != 0)
      bad(tree_.size(), database.path() + " has an index or a view, which is none of the ledger's");
    return {};
  }

  Result<void> walk(Segment& segment, bool newest) {
    auto& database = segment.database();
    const Snapshot snapshot(database);
    DE_CHECK(snapshot.begun());
    DE_CHECK(begin(segment));
    DE_CHECK(no_index(database));
    if (report_.first_bad) return {};
    DE_TRY(auto rows, database.prepare("SELECT " + std::string(entry_columns) + " FROM entries ORDER BY sequence"));
    DE_TRY(auto notes, database.prepare("SELECT size, note FROM checkpoints ORDER BY size"));
    subtrees_.clear();
    DE_TRY(has_note_, notes.step());
    if (tree_.size() == 0) compare_kept();
    for (;;) {
      DE_TRY(const bool found, rows.step());
      if (!found) break;
      DE_CHECK(checkpoints(notes));
      if (report_.first_bad) return {};
      DE_CHECK(entry(rows, database));
      if (report_.first_bad) return {};
      if (tree_.size() % entries_a_look == 0) {
        if (options_.stop && options_.stop()) return fail(Errc::cancelled, "stopped before the end of the ledger");
        if (options_.progress) options_.progress(tree_.size(), std::max(total_, tree_.size()));
      }
    }
    DE_CHECK(checkpoints(notes));
    if (report_.first_bad) return {};
    if (expected_note_) {
      bad(tree_.size(),
          "missing: the checkpoint of " + std::to_string(noted_size_) + " entries is there, its record not");
      return {};
    }
    if (has_note_) {
      bad(tree_.size(), "a checkpoint of " + std::to_string(notes.integer(0)) + " entries, more than there are");
      return {};
    }
    DE_CHECK(no_more_subtrees(database));
    if (const auto& origin = segment.start().origin; !origin.empty() && !report_.first_bad) {
      const bool fits = (signatures_.origin().empty() || origin == signatures_.origin()) &&
                        (!signatures_.current() || origin == signatures_.current()->name());
      if (!fits) bad(tree_.size(), database.path() + " names another origin than its checkpoints and keys");
    }
    return newest && !report_.first_bad ? head(database) : Result<void>();
  }

  // Those of exactly the entries that were seen.
  Result<void> checkpoints(db::Statement& notes) {
    while (has_note_ && static_cast<std::uint64_t>(notes.integer(0)) == tree_.size() && !report_.first_bad) {
      if (notes.text(1).size() > max_note_bytes) {
        bad(tree_.size(), "its checkpoint is too long");
        return {};
      }
      const std::string note(notes.text(1));
      if (const auto fault = signatures_.on_checkpoint(note, tree_.size(), tree_, report_); !fault.empty()) {
        bad(tree_.size(), "the checkpoint of the " + std::to_string(tree_.size()) + " entries before it: " + fault);
        return {};
      }
      if (report_.signed_until == tree_.size()) tail_.begin_anew();
      expected_note_ = digest_of(note);
      noted_size_ = tree_.size();
      DE_TRY(has_note_, notes.step());
    }
    if (has_note_ && static_cast<std::uint64_t>(notes.integer(0)) < tree_.size()) {
      bad(tree_.size(), "a checkpoint of " + std::to_string(notes.integer(0)) + " entries is in the wrong segment");
    }
    return {};
  }

  Result<void> entry(const db::Statement& row, db::Database& database) {
    const std::uint64_t sequence = tree_.size();
    if (auto read = entry_.read(row); !read) {
      bad(sequence, read.error().message);
      return {};
    }
    if (entry_.sequence != sequence) {
      bad(sequence, "missing: the next one is " + std::to_string(entry_.sequence));
      return {};
    }
    if (auto fault = fault_of(entry_, last_hash_, last_time_, leaf_); !fault.empty()) {
      bad(sequence, std::move(fault));
      return {};
    }
    if (auto fault = own_words(); !fault.empty()) {
      bad(sequence, std::move(fault));
      return {};
    }
    Result<void> compared;
    tree_.add(entry_.hash, [&](unsigned level, std::uint64_t number, const Sha256Digest& hash) {
      if (level >= stored_level && compared) compared = compare(database, level, number, hash);
    });
    DE_CHECK(compared);
    if (report_.first_bad) return {};
    last_hash_ = entry_.hash;
    last_time_ = entry_.time;
    // The record of the last checkpoint alone is nothing new.
    const bool record = report_.signed_until > 0 && sequence == report_.signed_until;
    if (!record) tail_.add(entry_, options_.checkpoint_interval);
    if (!against_.empty()) compare_kept();
    if (!report_.first_bad) report_.entries = tree_.size();
    return {};
  }

  // What the entry says of keys and checkpoints has to be so.
  std::string own_words() {
    const bool own = entry_.actor == own_actor;
    if (expected_note_) {
      const bool is_record = own && entry_.action == checkpoint_action &&
                             entry_.payload == R"({"note":")" + base::to_hex(*expected_note_) + R"(","size":)" +
                                                   std::to_string(noted_size_) + "}";
      expected_note_.reset();
      if (!is_record) return "it is not the record of the checkpoint before it";
      return {};
    }
    if (signatures_.handing_over()) return "it is not the record of the checkpoint that hands over to the new key";
    if (own && entry_.action == replaced_action && !breach_) {
      breach_ = Bad{entry_.sequence, "here the collector found another ledger than the one it had signed: " +
                                         std::string(entry_.payload)};
    }
    if (own && entry_.action == checkpoint_action) return "the checkpoint that it records is missing";
    if (own && entry_.action == key_action) return signatures_.on_key(entry_, report_);
    return {};
  }

  Result<void> compare(db::Database& database, unsigned level, std::uint64_t number, const Sha256Digest& hash) {
    while (subtrees_.size() <= level - stored_level) {
      DE_TRY(auto rows, database.prepare("SELECT number, hash FROM subtrees WHERE level = ? ORDER BY number"));
      rows.bind(1, static_cast<std::int64_t>(stored_level + subtrees_.size()));
      subtrees_.push_back(std::move(rows));
    }
    auto& rows = subtrees_[level - stored_level];
    DE_TRY(const bool found, rows.step());
    if (!found || static_cast<std::uint64_t>(rows.integer(0)) != number || rows.blob(1) != base::as_bytes(hash)) {
      const std::uint64_t begin = number << level;
      bad(begin, "the stored hash of entries " + std::to_string(begin) + " to " +
                     std::to_string(((number + 1) << level) - 1) + (found ? " is wrong" : " is missing"));
    }
    return {};
  }

  Result<void> no_more_subtrees(db::Database& database) {
    for (auto& rows : subtrees_) {
      DE_TRY(const bool found, rows.step());
      if (found) bad(tree_.size(), "a stored hash of entries that are not there");
    }
    DE_TRY(auto rest, database.prepare("SELECT count(*) FROM subtrees WHERE level < ? OR level >= ?"));
    rest.bind(1, std::int64_t{stored_level});
    rest.bind(2, static_cast<std::int64_t>(stored_level + subtrees_.size()));
    DE_CHECK(rest.step());
    if (rest.integer(0) != 0) bad(tree_.size(), "a stored hash of entries that are not there");
    return {};
  }

  Result<void> head(db::Database& database) {
    auto head = read_head(database);
    if (!head && head.error().code == Errc::corrupt) {
      bad(tree_.size(), head.error().message);
      return {};
    }
    if (!head) return std::unexpected(head.error());
    continued_ = head->continued;
    if (continued_) return {};
    closed_ = !head->running;
    if (const auto& current = signatures_.current(); head->key != (current ? current->text() : "")) {
      bad(tree_.size(), "the head names another key than the last entry of a key does");
      return {};
    }
    if (tree_.size() < head->size) {
      bad(tree_.size(), "missing: the ledger had " + std::to_string(head->size) + " entries");
    } else if (tree_.size() > head->size) {
      report_.entries = head->size;
      bad(head->size, "was not written by the ledger's writer");
    } else if (tree_.size() > 0 && last_hash_ != head->last_hash) {
      report_.entries -= 1;
      bad(report_.entries, "is not the one that was written last");
    }
    return {};
  }

  LedgerReader::State& reader_;
  const LedgerReader::VerifyOptions& options_;
  Signatures signatures_;
  UnsignedTail tail_;
  Report report_;
  std::optional<Bad> breach_;  // what the writer itself found to be wrong
  bool continued_ = false, closed_ = false;
  MerkleTree tree_;
  Sha256Digest last_hash_{};
  Timestamp last_time_{INT64_MIN};
  StoredEntry entry_;
  std::string leaf_;  // reused
  std::uint64_t total_ = 0, noted_size_ = 0;
  std::vector<db::Statement> subtrees_;  // by level: rows in the order in which they are completed
  bool has_note_ = false;
  std::optional<Sha256Digest> expected_note_;  // the next entry has to record it
  std::multimap<std::uint64_t, std::pair<Checkpoint, const Note*>> against_;
};

Result<LedgerReader::Report> LedgerReader::verify(const VerifyOptions& options) const {
  return Walk(*state_, options).run();
}

}  // namespace daemoneye::ledger
