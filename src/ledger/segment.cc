#include "ledger/segment.h"

#include <sqlite3.h>

#include <algorithm>
#include <bit>
#include <filesystem>

namespace daemoneye::ledger {
namespace {

using base::Sha256Digest;

Result<Sha256Digest> digest_at(const db::Statement& row, int column, const char* what) {
  Sha256Digest digest{};
  const auto bytes = row.blob(column);
  if (bytes.size() != digest.size()) return fail(Errc::corrupt, std::string(what) + " is not 32 bytes");
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return digest;
}

constexpr int max_field_bytes = 1024 * 1024;

// Between making the file and its first commit. A crash there may leave a rollback journal, which only a writer may
// play back: before the first commit there is no write-ahead log. What has tables is begun, whatever its mark says.
bool is_not_begun(const std::string& path, const Error& error) {
  if (error.code == Errc::not_found || std::filesystem::exists(path + "-journal")) return true;
  if (error.code != Errc::invalid_input) return false;
  const auto unmarked = db::Database::open(path, {.application_id = 0});
  if (!unmarked) return false;
  auto tables = (*unmarked)->prepare("SELECT count(*) FROM sqlite_schema");
  const auto found = tables ? tables->step() : Result<bool>(false);
  return found && *found && tables->integer(0) == 0;
}

std::uint64_t blocks_end(std::uint64_t size) { return size & ~(stored_leaves - 1); }

}  // namespace

Result<std::optional<Segment>> Segment::open(const std::string& path, std::uint64_t number) {
  auto database = db::Database::open(path, {.application_id = application_id});
  if (!database && number > 0 && is_not_begun(path, database.error())) return std::nullopt;
  if (!database) return std::unexpected(database.error());
  // No field of an honest ledger is longer; what is would be copied before it could be looked at.
  sqlite3_limit((*database)->raw(), SQLITE_LIMIT_LENGTH, max_field_bytes);
  std::int64_t version = 0;
  {
    DE_TRY(auto row, (*database)->prepare("PRAGMA user_version"));
    DE_TRY(const bool found, row.step());
    if (found) version = row.integer(0);
  }
  const auto known = static_cast<std::int64_t>(schema_steps().size());
  if (version > known) return fail(Errc::invalid_input, path + ": made by a newer version");
  if (version > 0 && version < known) {
    DE_TRY(const auto forward, read_segment_start(**database));
    if (forward) return fail(Errc::corrupt, path + ": says that it is of an earlier version, and is not");
    return fail(Errc::unavailable,
                path + ": made by an earlier version; procmond brings it forward when it is started");
  }
  DE_TRY(auto start, read_segment_start(**database));
  if (!start && number == 0) return fail(Errc::corrupt, path + ": holds no ledger");
  if (!start || (number > 0 && start->number == 0 && start->first == 0)) return std::nullopt;
  if (start->number != number) return fail(Errc::corrupt, path + ": is another part of a ledger");
  return std::optional<Segment>(Segment(std::move(*database), std::move(*start)));
}

Result<std::vector<Sha256Digest>> Segment::leaf_hashes(std::uint64_t from, std::uint64_t to) const {
  return read_leaf_hashes(*database_, start_, from, to);
}

Result<Sha256Digest> Segment::subtree(unsigned level, std::uint64_t number) const {
  return read_subtree(*database_, level, number);
}

Result<std::vector<Sha256Digest>> read_leaf_hashes(db::Database& database, const SegmentStart& start,
                                                   std::uint64_t from, std::uint64_t to) {
  std::vector<Sha256Digest> hashes;
  const std::uint64_t tail_begin = blocks_end(start.first);
  if (from < tail_begin) return fail(Errc::internal, "these entries are in an earlier segment");
  for (; from < to && from < start.first; ++from) hashes.push_back(start.tail[from - tail_begin]);
  if (from >= to) return hashes;
  DE_TRY(auto rows,
         database.prepare("SELECT sequence, entry_hash FROM entries WHERE sequence >= ? AND sequence < ? ORDER BY "
                          "sequence"));
  rows.bind(1, static_cast<std::int64_t>(from)).bind(2, static_cast<std::int64_t>(to));
  for (; from < to; ++from) {
    DE_TRY(const bool found, rows.step());
    if (!found || static_cast<std::uint64_t>(rows.integer(0)) != from) {
      return fail(Errc::corrupt, database.path() + ": entry " + std::to_string(from) + " is missing");
    }
    DE_TRY(const auto hash, digest_at(rows, 1, "an entry's hash"));
    hashes.push_back(hash);
  }
  return hashes;
}

Result<Sha256Digest> read_subtree(db::Database& database, unsigned level, std::uint64_t number) {
  DE_TRY(auto row, database.prepare("SELECT hash FROM subtrees WHERE level = ? AND number = ?"));
  row.bind(1, static_cast<std::int64_t>(level)).bind(2, static_cast<std::int64_t>(number));
  DE_TRY(const bool found, row.step());
  if (!found) {
    return fail(Errc::corrupt, database.path() + ": the hash of entries " + std::to_string(number << level) + " to " +
                                   std::to_string(((number + 1) << level) - 1) + " is missing");
  }
  return digest_at(row, 0, "a subtree's hash");
}

Result<MerkleTree> tree_at_start(const SegmentStart& start) {
  DE_TRY(auto tree, MerkleTree::of(blocks_end(start.first), start.peaks));
  for (const auto& hash : start.tail) tree.add(hash);
  return tree;
}

Result<MerkleTree> tree_of(db::Database& database, const SegmentStart& start, std::uint64_t size) {
  const std::uint64_t end = blocks_end(size);
  if (size < start.first) return fail(Errc::corrupt, database.path() + ": the head is before the segment begins");
  std::vector<Sha256Digest> peaks;
  std::uint64_t begin = 0;
  for (unsigned level = 64; level-- > stored_level;) {
    if ((end >> level & 1) == 0) continue;
    const std::uint64_t next = begin + (std::uint64_t{1} << level);
    // Subtrees that end before the segment begins are the first of those that were complete there, too.
    if (next <= start.first) {
      if (peaks.size() >= start.peaks.size()) return fail(Errc::corrupt, database.path() + ": a subtree is missing");
      peaks.push_back(start.peaks[peaks.size()]);
    } else {
      DE_TRY(const auto hash, read_subtree(database, level, begin >> level));
      peaks.push_back(hash);
    }
    begin = next;
  }
  DE_TRY(auto tree, MerkleTree::of(end, std::move(peaks)));
  DE_TRY(const auto leaves, read_leaf_hashes(database, start, end, size));
  for (const auto& leaf : leaves) tree.add(leaf);
  return tree;
}

}  // namespace daemoneye::ledger
