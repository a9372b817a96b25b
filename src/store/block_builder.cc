#include "store/block_builder.h"

#include "base/hash.h"
#include "store/block_header.h"
#include "store/column_writers.h"

namespace daemoneye::store {
namespace {

using event::Column;

constexpr std::size_t at(Column column) { return static_cast<std::size_t>(column); }

std::optional<std::int64_t> number(const std::optional<Timestamp>& value) {
  return value ? std::optional(value->ns) : std::nullopt;
}

}  // namespace

struct BlockBuilder::State {
  std::array<IntegerWriter, event::column_count> integers;
  std::array<TextWriter, event::column_count> texts;
  RealWriter cpu_usage;
  KeyWriter process_key, parent_key;
  BlockHeader header;
  std::vector<BatchEntry> batches;
  static constexpr std::size_t process_texts = 13;                   // text columns but `detail`
  std::vector<std::array<std::uint32_t, process_texts>> last_texts;  // an entry of process_key each
  std::uint64_t kinds = 0;                                           // bit an enumerator that occurs
  std::vector<std::uint64_t> ppid_hashes;

  void add(const event::EventView& event) {
    const auto& process = event.process;
    const std::int64_t time = event.time.ns;
    if (event.kind == event::EventKind::gap) header.gap_rows.push_back(header.rows);
    ++header.rows;
    kinds |= std::uint64_t{1} << static_cast<unsigned>(event.kind);

    integer(Column::time, std::optional(time));
    integer(Column::kind, std::optional(event.kind));
    integer(Column::source, std::optional(event.source));
    texts[at(Column::detail)].add(event.detail);
    // What the process's last row said, most of which its next one says again.
    const std::uint32_t entry = process_key.add(process.key);
    if (entry == last_texts.size()) last_texts.emplace_back().fill(null_entry);
    auto& last = last_texts[entry];
    std::size_t next_text = 0;
    const auto text = [&](Column column, std::optional<std::string_view> value) {
      auto& likely = last[next_text++];
      likely = texts[at(column)].add(value, likely);
    };
    if (process.ppid && (ppid_hashes.empty() || process.ppid != last_ppid)) {
      ppid_hashes.push_back(filter_hash(std::int64_t{*process.ppid}));
      last_ppid = process.ppid;
    }
    integer(Column::ppid, process.ppid);
    parent_key.add(process.parent_key);
    text(Column::name, process.name);
    text(Column::comm, process.comm);
    text(Column::executable_path, process.executable_path);
    text(Column::arguments,
         process.arguments ? std::optional<std::string_view>(process.arguments->bytes) : std::nullopt);
    text(Column::cwd, process.cwd);
    integer(Column::uid, process.uid);
    integer(Column::gid, process.gid);
    integer(Column::euid, process.euid);
    integer(Column::loginuid, process.loginuid);
    text(Column::user, process.user);
    integer(Column::session_id, process.session_id);
    text(Column::tty, process.tty);
    difference(Column::start_time, number(process.start_time), time);
    difference(Column::exit_time, number(process.exit_time), time);
    integer(Column::exit_code, process.exit_code);
    integer(Column::exit_signal, process.exit_signal);
    cpu_usage.add(process.cpu_usage);
    integer(Column::memory_usage, process.memory_usage);
    integer(Column::status, std::optional(process.status));
    text(Column::executable_hash, process.executable_hash);
    integer(Column::executable_state, process.executable_state);
    text(Column::cgroup, process.cgroup);
    text(Column::container_id, process.container_id);
    difference(Column::collection_time, process.collection_time.ns, time);
    integer(Column::scan_id, process.scan_id);
    text(Column::parent_name, event.parent_name);
    text(Column::parent_executable_path, event.parent_executable_path);
    text(Column::parent_command_line, event.parent_command_line);
  }

  template <class T>
  void integer(Column column, const std::optional<T>& value) {
    integers[at(column)].add(value);
  }
  void difference(Column column, std::optional<std::int64_t> value, std::int64_t time) {
    integers[at(column)].add_difference(value, time);
  }
  // What a digest is in SQL, in filters and, so far, at rest.
  static std::string hex(std::string_view digest) { return base::to_hex(digest); }

  void finish_ranges() {
    for (std::size_t i = 0; i < event::column_count; ++i) {
      if (has_number(encoding_of(static_cast<Column>(i)))) header.ranges[i] = integers[i].range();
    }
  }
  void finish_filters() {
    const auto filter = [&](Column column, const std::vector<std::uint64_t>& hashes) {
      header.filters[at(column)].emplace(hashes);
    };
    for (std::size_t i = 0; i < event::column_count; ++i) {
      const auto column = static_cast<Column>(i);
      if (is_filtered(column) && encoding_of(column) == Encoding::text) filter(column, texts[i].hashes());
    }
    std::vector<std::uint64_t> hashes, pids;
    const auto& digests = texts[at(Column::executable_hash)];
    for (std::size_t i = 0; i < digests.size(); ++i) hashes.push_back(filter_hash(hex(digests.text(i))));
    filter(Column::executable_hash, hashes);
    hashes.clear();
    for (const auto& key : process_key.keys()) {
      hashes.push_back(filter_hash(key));
      pids.push_back(filter_hash(std::int64_t{key.pid}));
    }
    filter(Column::process_key, hashes);
    filter(Column::pid, unique(pids));
    hashes.clear();
    for (const auto& key : parent_key.keys()) hashes.push_back(filter_hash(key));
    filter(Column::parent_key, hashes);
    filter(Column::ppid, unique(ppid_hashes));
    hashes.clear();
    for (unsigned kind = 1; kind < 64; ++kind) {
      if ((kinds >> kind & 1) != 0) hashes.push_back(filter_hash(to_string(static_cast<event::EventKind>(kind))));
    }
    filter(Column::kind, hashes);
  }
  static const std::vector<std::uint64_t>& unique(std::vector<std::uint64_t>& hashes) {
    std::sort(hashes.begin(), hashes.end());
    hashes.erase(std::unique(hashes.begin(), hashes.end()), hashes.end());
    return hashes;
  }

  // Its body takes its place, so that nothing lies here twice.
  std::string take_body(Column column) {
    auto made = body(column);
    integers[at(column)] = {};
    texts[at(column)] = {};
    return made;
  }
  std::string body(Column column) const {
    switch (encoding_of(column)) {
      case Encoding::none: return {};
      case Encoding::integer:
      case Encoding::time_based:
      case Encoding::enumerator: return integers[at(column)].finish();
      case Encoding::real: return cpu_usage.finish();
      case Encoding::text:
        if (column == Column::executable_hash) return texts[at(column)].finish(hex);
        return texts[at(column)].finish([](std::string_view text) { return text; });
      case Encoding::key: return column == Column::process_key ? process_key.finish() : parent_key.finish();
    }
    return {};
  }

  std::optional<event::Pid> last_ppid;
};

BlockBuilder::BlockBuilder() : state_(std::make_unique<State>()) {}
BlockBuilder::~BlockBuilder() = default;

void BlockBuilder::add(const BatchEntry& batch, std::span<const event::EventView> events) {
  for (const auto& event : events) state_->add(event);
  state_->batches.push_back(batch);
}

std::size_t BlockBuilder::events() const { return state_->header.rows; }
std::size_t BlockBuilder::batches() const { return state_->batches.size(); }

SealedBlock BlockBuilder::finish() {
  SealedBlock block;
  block.events = state_->header.rows;
  if (const auto& times = state_->integers[at(Column::time)].range(); times.any) {
    block.first_time = Timestamp{times.min};
    block.last_time = Timestamp{times.max};
  }
  state_->finish_ranges();
  state_->finish_filters();
  for (std::size_t i = 0; i < event::column_count; ++i) {
    const auto column = static_cast<Column>(i);
    if (encoding_of(column) != Encoding::none) block.chunks.emplace_back(i, state_->take_body(column));
  }
  block.chunks.emplace_back(header_chunk, encode_header(state_->header));
  block.chunks.emplace_back(batches_chunk, encode_batches(state_->batches));
  block.batches = std::move(state_->batches);
  state_ = std::make_unique<State>();
  return block;
}

}  // namespace daemoneye::store
