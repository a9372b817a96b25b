// A row of a block as the event it was: the inverse of block_builder.cc.
#include "store/block.h"

namespace daemoneye::store {
namespace {

using event::Column;

struct Enumerator {
  std::optional<std::uint32_t> number;
};
void set(Enumerator& out, const ColumnData& data, std::size_t row) {
  if (data.rows[row] != null_entry) out.number = data.rows[row];
}
template <class T>
void set(std::optional<T>& out, const ColumnData& data, std::size_t row) {
  if (data.is_present(row)) out = static_cast<T>(data.integers[row]);
}
void set(std::optional<Timestamp>& out, const ColumnData& data, std::size_t row) {
  if (data.is_present(row)) out = Timestamp{data.integers[row]};
}
void set(std::optional<double>& out, const ColumnData& data, std::size_t row) {
  if (data.is_present(row)) out = data.reals[row];
}
void set(std::optional<std::string>& out, const ColumnData& data, std::size_t row) {
  if (data.rows[row] != null_entry) out = std::string(data.entries[data.rows[row]]);
}
void set(std::string& out, const ColumnData& data, std::size_t row) {
  if (data.rows[row] != null_entry) out = data.entries[data.rows[row]];
}
void set(std::optional<event::ProcessKey>& out, const ColumnData& data, std::size_t row) {
  if (data.rows[row] != null_entry) out = data.keys[data.rows[row]];
}

}  // namespace

Result<event::ProcessEvent> Block::event(std::size_t row) {
  if (row >= header_.rows) return fail(Errc::internal, "row beyond the block");
  event::ProcessEvent event;
  auto& process = event.process;
  Result<void> status;
  const auto field = [&](Column column, auto& out) {
    if (!status) return;
    auto column_data = stored(column);
    if (!column_data)
      status = std::unexpected(column_data.error());
    else
      set(out, **column_data, row);
  };
  std::optional<Timestamp> time, collection_time;
  Enumerator kind, source, process_status, state;
  std::optional<event::ProcessKey> key;
  field(Column::time, time);
  field(Column::kind, kind);
  field(Column::source, source);
  field(Column::detail, event.detail);
  field(Column::process_key, key);
  field(Column::ppid, process.ppid);
  field(Column::parent_key, process.parent_key);
  field(Column::name, process.name);
  field(Column::comm, process.comm);
  field(Column::executable_path, process.executable_path);
  std::optional<std::string> arguments;
  field(Column::arguments, arguments);
  field(Column::cwd, process.cwd);
  field(Column::uid, process.uid);
  field(Column::gid, process.gid);
  field(Column::euid, process.euid);
  field(Column::loginuid, process.loginuid);
  field(Column::user, process.user);
  field(Column::session_id, process.session_id);
  field(Column::tty, process.tty);
  field(Column::start_time, process.start_time);
  field(Column::exit_time, process.exit_time);
  field(Column::exit_code, process.exit_code);
  field(Column::exit_signal, process.exit_signal);
  field(Column::cpu_usage, process.cpu_usage);
  field(Column::memory_usage, process.memory_usage);
  field(Column::status, process_status);
  field(Column::executable_hash, process.executable_hash);
  field(Column::executable_state, state);
  field(Column::cgroup, process.cgroup);
  field(Column::container_id, process.container_id);
  field(Column::collection_time, collection_time);
  field(Column::scan_id, process.scan_id);
  field(Column::parent_name, event.parent_name);
  field(Column::parent_executable_path, event.parent_executable_path);
  field(Column::parent_command_line, event.parent_command_line);
  DE_CHECK(std::move(status));
  if (!time || !kind.number || !source.number || !process_status.number || !collection_time || !key) {
    return fail(Errc::corrupt, "an event without time, kind or key");
  }
  if (event::to_string(static_cast<event::EventKind>(*kind.number)) == "unknown") {
    return fail(Errc::corrupt, "an event of a kind that does not exist");
  }
  event.time = *time;
  event.kind = static_cast<event::EventKind>(*kind.number);
  event.source = static_cast<event::EventSource>(*source.number);
  process.key = *key;
  process.status = static_cast<event::ProcessStatus>(*process_status.number);
  process.collection_time = *collection_time;
  if (state.number) process.executable_state = static_cast<event::ExecutableState>(*state.number);
  if (arguments) process.arguments = event::Arguments::from_nul_separated(*arguments);
  return event;
}

}  // namespace daemoneye::store
