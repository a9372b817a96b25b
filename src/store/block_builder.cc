#include "store/block_builder.h"

#include "store/block_header.h"
#include "store/column_writers.h"

namespace daemoneye::store {
namespace {

using event::Column;

constexpr std::size_t at(Column column) { return static_cast<std::size_t>(column); }

std::optional<std::string_view> view(const std::optional<std::string>& text) {
  return text ? std::optional<std::string_view>(*text) : std::nullopt;
}
template <class T>
std::optional<std::int64_t> number(const std::optional<T>& value) {
  return value ? std::optional(static_cast<std::int64_t>(*value)) : std::nullopt;
}
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
  IntegerRange times;
  std::uint64_t kinds = 0;  // bit an enumerator that occurs
  std::vector<std::uint64_t> ppid_hashes;

  void add(const event::ProcessEvent& event) {
    const auto& process = event.process;
    const std::int64_t time = event.time.ns;
    if (event.kind == event::EventKind::gap) header.gap_rows.push_back(header.rows);
    ++header.rows;
    times.add(time);
    kinds |= std::uint64_t{1} << static_cast<unsigned>(event.kind);

    integer(Column::time, time);
    enumerator(Column::kind, static_cast<std::int64_t>(event.kind));
    enumerator(Column::source, static_cast<std::int64_t>(event.source));
    text(Column::detail, event.detail);
    process_key.add(process.key);
    if (process.ppid && (ppid_hashes.empty() || process.ppid != last_ppid)) {
      ppid_hashes.push_back(filter_hash(std::int64_t{*process.ppid}));
      last_ppid = process.ppid;
    }
    integer(Column::ppid, number(process.ppid));
    parent_key.add(process.parent_key);
    text(Column::name, process.name);
    text(Column::comm, view(process.comm));
    text(Column::executable_path, view(process.executable_path));
    text(Column::arguments,
         process.arguments ? std::optional<std::string_view>(process.arguments->nul_terminated()) : std::nullopt);
    text(Column::cwd, view(process.cwd));
    integer(Column::uid, number(process.uid));
    integer(Column::gid, number(process.gid));
    integer(Column::euid, number(process.euid));
    integer(Column::loginuid, number(process.loginuid));
    text(Column::user, view(process.user));
    integer(Column::session_id, number(process.session_id));
    text(Column::tty, view(process.tty));
    integer(Column::start_time, number(process.start_time), time);
    integer(Column::exit_time, number(process.exit_time), time);
    integer(Column::exit_code, number(process.exit_code));
    integer(Column::exit_signal, number(process.exit_signal));
    cpu_usage.add(process.cpu_usage);
    integer(Column::memory_usage, number(process.memory_usage));
    enumerator(Column::status, static_cast<std::int64_t>(process.status));
    text(Column::executable_hash, view(process.executable_hash));
    enumerator(Column::executable_state, process.executable_state
                                             ? std::optional(static_cast<std::int64_t>(*process.executable_state))
                                             : std::nullopt);
    text(Column::cgroup, view(process.cgroup));
    text(Column::container_id, view(process.container_id));
    integer(Column::collection_time, process.collection_time.ns, time);
    integer(Column::scan_id, number(process.scan_id));
    text(Column::parent_name, view(event.parent_name));
    text(Column::parent_executable_path, view(event.parent_executable_path));
    text(Column::parent_command_line, view(event.parent_command_line));
  }

  void integer(Column column, std::optional<std::int64_t> value, std::optional<std::int64_t> base = std::nullopt) {
    integers[at(column)].add(value, base);
    if (value) header.ranges[at(column)].add(*value);
  }
  void enumerator(Column column, std::optional<std::int64_t> value) { integers[at(column)].add(value); }
  void text(Column column, std::optional<std::string_view> value) { texts[at(column)].add(value); }

  void finish_filters() {
    const auto filter = [&](Column column, const std::vector<std::uint64_t>& hashes) {
      header.filters[at(column)].emplace(hashes);
    };
    for (std::size_t i = 0; i < event::column_count; ++i) {
      const auto column = static_cast<Column>(i);
      if (is_filtered(column) && encoding_of(column) == Encoding::text) filter(column, texts[i].hashes());
    }
    std::vector<std::uint64_t> hashes, pids;
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

  std::string body(Column column) const {
    switch (encoding_of(column)) {
      case Encoding::none: return {};
      case Encoding::integer:
      case Encoding::time_based:
      case Encoding::enumerator: return integers[at(column)].finish();
      case Encoding::real: return cpu_usage.finish();
      case Encoding::text: return texts[at(column)].finish();
      case Encoding::key: return column == Column::process_key ? process_key.finish() : parent_key.finish();
    }
    return {};
  }

  std::optional<event::Pid> last_ppid;
};

BlockBuilder::BlockBuilder() : state_(std::make_unique<State>()) {}
BlockBuilder::~BlockBuilder() = default;

void BlockBuilder::add(const BatchEntry& batch, const std::vector<event::ProcessEvent>& events) {
  for (const auto& event : events) state_->add(event);
  state_->batches.push_back(batch);
}

std::size_t BlockBuilder::events() const { return state_->header.rows; }
std::size_t BlockBuilder::batches() const { return state_->batches.size(); }

SealedBlock BlockBuilder::finish() {
  SealedBlock block;
  block.events = state_->header.rows;
  if (state_->times.any) {
    block.first_time = Timestamp{state_->times.min};
    block.last_time = Timestamp{state_->times.max};
  }
  state_->finish_filters();
  for (std::size_t i = 0; i < event::column_count; ++i) {
    const auto column = static_cast<Column>(i);
    if (encoding_of(column) != Encoding::none) block.chunks.emplace_back(i, state_->body(column));
  }
  block.chunks.emplace_back(header_chunk, encode_header(state_->header));
  block.chunks.emplace_back(batches_chunk, encode_batches(state_->batches));
  block.batches = std::move(state_->batches);
  state_ = std::make_unique<State>();
  return block;
}

}  // namespace daemoneye::store
