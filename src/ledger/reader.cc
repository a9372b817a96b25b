#include "ledger/reader.h"

#include <fcntl.h>

#include <algorithm>
#include <limits>

#include "ledger/format.h"
#include "ledger/journal.h"
#include "ledger/reader_state.h"

namespace daemoneye::ledger {
namespace {

constexpr std::uint64_t largest = std::numeric_limits<std::int64_t>::max();

}  // namespace

Result<void> LedgerReader::State::refresh() {
  while (true) {
    const std::uint64_t next = segments.size();
    DE_TRY(auto segment, Segment::open(segment_path(path, next), next));
    if (!segment) return {};
    segments.push_back(std::move(*segment));
  }
}

Segment& LedgerReader::State::segment_of(std::uint64_t sequence) {
  auto found = segments.begin();
  for (auto next = found + 1; next != segments.end() && next->start().first <= sequence; ++next) found = next;
  return *found;
}

Result<base::Sha256Digest> LedgerReader::State::node(unsigned level, std::uint64_t number) {
  const std::uint64_t begin = number << level, end = (number + 1) << level;
  auto& segment = segment_of(end - 1);
  if (level >= stored_level) return segment.subtree(level, number);
  DE_TRY(const auto leaves, segment.leaf_hashes(begin, end));
  MerkleTree tree;
  for (const auto& leaf : leaves) tree.add(leaf);
  return tree.root();
}

Result<base::Sha256Digest> LedgerReader::State::hash_before(std::uint64_t sequence) {
  if (sequence == 0) return base::Sha256Digest{};
  auto& segment = segment_of(sequence - 1);
  if (sequence - 1 < segment.start().first) return segment.start().previous_hash;
  DE_TRY(const auto hashes, segment.leaf_hashes(sequence - 1, sequence));
  return hashes.front();
}

Result<std::uint64_t> LedgerReader::State::size() {
  DE_CHECK(refresh());
  DE_TRY(const auto head, read_head(newest().database()));
  return head.size;
}

LedgerReader::LedgerReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
LedgerReader::~LedgerReader() = default;

Result<std::unique_ptr<LedgerReader>> LedgerReader::open(const std::string& path) {
  auto state = std::make_unique<State>();
  state->path = path;
  DE_TRY(auto first, Segment::open(path, 0));
  state->segments.push_back(std::move(*first));
  DE_CHECK(state->refresh());
  return std::unique_ptr<LedgerReader>(new LedgerReader(std::move(state)));
}

Result<std::uint64_t> LedgerReader::size() const { return state_->size(); }

Result<void> LedgerReader::read(std::uint64_t from, std::uint64_t count,
                                const std::function<bool(const Entry&)>& each) const {
  // In pieces, so that a slow receiver holds no snapshot of the file (and so no space) while it works.
  constexpr std::uint64_t piece = 256;
  std::optional<base::Sha256Digest> previous;
  DE_CHECK(state_->refresh());
  while (count > 0 && from <= largest) {
    std::vector<Entry> entries;
    auto& segment = state_->segment_of(from);
    {
      DE_TRY(auto rows, segment.database().prepare("SELECT " + std::string(entry_columns) +
                                                   " FROM entries WHERE sequence >= ? ORDER BY sequence LIMIT ?"));
      rows.bind(1, static_cast<std::int64_t>(from)).bind(2, static_cast<std::int64_t>(std::min(count, piece)));
      StoredEntry stored;
      for (;;) {
        DE_TRY(const bool found, rows.step());
        if (!found) break;
        if (auto read = stored.read(rows); !read) {
          return fail(Errc::corrupt, segment.database().path() + ": entry " + std::to_string(rows.integer(0)) + ": " +
                                         read.error().message);
        }
        if (!previous || stored.sequence != from + entries.size()) {
          auto before = state_->hash_before(stored.sequence);
          previous = before ? *before : base::Sha256Digest{};  // after a hole; verify() names it
        }
        entries.push_back(stored.entry(*previous));
        previous = stored.hash;
      }
    }
    for (const auto& entry : entries) {
      // Beyond a hole [from, from+count) may end earlier than the rows do.
      if (entry.sequence - from >= count) return {};
      if (!each(entry)) return {};
    }
    const bool last_segment = &segment == &state_->newest();
    if (entries.size() < std::min(count, piece) && last_segment) return {};
    std::uint64_t next = entries.empty() ? from : entries.back().sequence + 1;
    if (!last_segment && entries.size() < std::min(count, piece)) {
      next = std::max(next, (&segment + 1)->start().first);
    }
    count -= std::min(count, next - from);
    from = next;
  }
  return {};
}

Result<std::optional<std::string>> LedgerReader::checkpoint_covering(std::uint64_t size) const {
  DE_CHECK(state_->refresh());
  // The newest: what it proves includes what earlier ones prove.
  for (auto segment = state_->segments.rbegin(); segment != state_->segments.rend(); ++segment) {
    DE_TRY(auto row, segment->database().prepare("SELECT note FROM checkpoints WHERE size >= ? ORDER BY size DESC "
                                                 "LIMIT 1"));
    row.bind(1, static_cast<std::int64_t>(std::min(size, largest)));
    DE_TRY(const bool found, row.step());
    if (!found) continue;
    if (row.text(0).size() > max_note_bytes) return fail(Errc::corrupt, "a checkpoint is too long");
    return std::string(row.text(0));
  }
  return std::nullopt;
}

Result<base::Sha256Digest> LedgerReader::root(std::uint64_t size) const {
  DE_CHECK(state_->refresh());
  return root_at(size, [this](unsigned level, std::uint64_t number) { return state_->node(level, number); });
}

Result<MerkleTree> LedgerReader::tree(std::uint64_t size) const {
  DE_CHECK(state_->refresh());
  std::vector<base::Sha256Digest> peaks;
  std::uint64_t begin = 0;
  for (unsigned level = 64; level-- > 0;) {
    if ((size >> level & 1) == 0) continue;
    DE_TRY(const auto hash, state_->node(level, begin >> level));
    peaks.push_back(hash);
    begin += std::uint64_t{1} << level;
  }
  return MerkleTree::of(size, std::move(peaks));
}

namespace {

Result<Checkpoint> checkpoint_in(const std::string& bytes) {
  DE_TRY(const auto note, Note::parse(bytes));
  return Checkpoint::parse(note.text);
}

}  // namespace

Result<Proof> LedgerReader::prove_entry(std::uint64_t sequence) const {
  DE_TRY(const auto total, size());
  if (sequence >= total) {
    return fail(Errc::invalid_input, "the ledger has " + std::to_string(total) + " entries, from 0 on; there is no " +
                                         std::to_string(sequence));
  }
  DE_TRY(const auto note, checkpoint_covering(sequence + 1));
  if (!note) {
    return fail(Errc::unavailable, "entry " + std::to_string(sequence) +
                                       " is not under a signed checkpoint yet (audit.checkpoint_interval_s)");
  }
  DE_TRY(const auto checkpoint, checkpoint_in(*note));
  Proof proof{.kind = Proof::Kind::inclusion, .index = sequence, .checkpoint = *note};
  bool found = false;
  DE_CHECK(read(sequence, 1, [&](const Entry& entry) {
    found = entry.sequence == sequence;
    proof.time_ns = entry.time.ns;
    proof.actor = entry.actor;
    proof.action = entry.action;
    proof.payload = entry.payload;
    proof.previous_hash = entry.previous_hash;
    return false;
  }));
  if (!found) return fail(Errc::corrupt, "entry " + std::to_string(sequence) + " is missing");
  DE_TRY(proof.hashes, inclusion_proof(sequence, checkpoint.size, [this](unsigned level, std::uint64_t number) {
           return state_->node(level, number);
         }));
  return proof;
}

Result<Proof> LedgerReader::prove_consistency(std::uint64_t from) const {
  DE_TRY(const auto note, checkpoint_covering(from));
  if (!note) {
    DE_TRY(const auto total, size());
    if (from > total) {
      return fail(Errc::invalid_input,
                  "the ledger has " + std::to_string(total) + " entries, fewer than " + std::to_string(from));
    }
    return fail(Errc::unavailable, "no signed checkpoint covers " + std::to_string(from) + " entries yet");
  }
  DE_TRY(const auto checkpoint, checkpoint_in(*note));
  Proof proof{.kind = Proof::Kind::consistency, .from = from, .checkpoint = *note};
  const auto node = [this](unsigned level, std::uint64_t number) { return state_->node(level, number); };
  DE_TRY(proof.from_root, root_at(from, node));
  DE_TRY(proof.hashes, consistency_proof(from, checkpoint.size, node));
  return proof;
}

Result<std::vector<Ledger::BatchDigest>> LedgerReader::journaled() const {
  DE_CHECK(state_->refresh());
  DE_TRY(const auto head, read_head(state_->newest().database()));
  const auto path = journal_path(state_->path);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return fail_errno(path, errno);
  DE_TRY(auto found, Journal::read(fd.get(), head.generation));
  return std::move(found.batches);
}

}  // namespace daemoneye::ledger
