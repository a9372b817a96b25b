#include "sql/runtime.h"

#include <algorithm>
#include <set>

namespace daemoneye::sql {
namespace {

constexpr std::chrono::milliseconds report_interval{100};
// SQLite asks for plans far more often than it takes one, but a statement has at most 100 tables.
constexpr std::size_t max_steps_noted = 20'000;

}  // namespace

void Runtime::begin(const RunOptions& options, Timestamp now) {
  now_ = now;
  deadline_ = options.deadline;
  stop_ = options.stop;
  history_ = options.history;
  only_rows_ = options.only_rows;
  stop_reason_ = Stop::none;
  touched_.reset();
  scanned_ = {};
  error_.reset();
  recursion_steps_ = 0;
  instances_.forget();
  patience_ = options.patience_with_joins;
  timing_ = options.explain;
  report_ = options.progress;
  progress_ = {};
  next_report_ = base::SteadyClock::now() + report_interval;
}

void Runtime::keep_plan(bool keep) {
  steps_.clear();
  kept_rows_.clear();
  keep_plan_ = keep;
}

std::size_t Runtime::add_step(Step step) {
  if (!keep_plan_ || steps_.size() >= max_steps_noted) return 0;
  steps_.push_back(std::move(step));
  return steps_.size();
}

Step& Runtime::step(std::size_t number) {
  return number == 0 || number > steps_.size() ? unnoted_ : steps_[number - 1];
}

void Runtime::expect_blocks(const event::TimeRange& range) {
  if (!report_) return;
  // Progress is a courtesy: what cannot be counted is not told.
  if (const auto blocks = reader_->blocks_in(range)) progress_.blocks_total += *blocks;
}

void Runtime::pass_block() {
  if (!report_) return;
  ++progress_.blocks_done;
  progress_.blocks_total = std::max(progress_.blocks_total, progress_.blocks_done);
  const auto now = base::SteadyClock::now();
  if (now < next_report_) return;
  next_report_ = now + report_interval;
  report_(progress_);
}

bool Runtime::should_stop() {
  if (stop_reason_ == Stop::none) {
    if (stop_.stop_requested())
      stop_reason_ = Stop::cancelled;
    else if (deadline_.expired())
      stop_reason_ = Stop::timeout;
  }
  return stop_reason_ != Stop::none;
}

std::optional<Error> Runtime::stopped() const {
  switch (stop_reason_) {
    case Stop::none: return std::nullopt;
    case Stop::timeout: return Error{Errc::timeout, "the statement did not end before its deadline"};
    case Stop::cancelled: return Error{Errc::cancelled, "the statement was cancelled"};
  }
  return std::nullopt;
}

event::TimeRange Runtime::clamp(event::TimeRange range) const {
  if (history_.from && (!range.from || *range.from < *history_.from)) range.from = history_.from;
  if (history_.to && (!range.to || *range.to > *history_.to)) range.to = history_.to;
  return range;
}

void Runtime::touch(const event::TimeRange& range) {
  if (!touched_) {
    touched_ = range;
    return;
  }
  if (touched_->from)
    touched_->from = range.from ? std::optional(std::min(*touched_->from, *range.from)) : std::nullopt;
  if (touched_->to) touched_->to = range.to ? std::optional(std::max(*touched_->to, *range.to)) : std::nullopt;
}

void Runtime::add(const store::ScanStats& stats, Step& step) {
  step.blocks_read += stats.blocks_read;
  step.blocks_skipped += stats.blocks_skipped;
  step.blocks_total += stats.blocks_read + stats.blocks_skipped;
  step.tail_batches_read += stats.tail_batches_read;
  step.rows_scanned += stats.rows;
  scanned_.blocks_read += stats.blocks_read;
  scanned_.blocks_skipped += stats.blocks_skipped;
  scanned_.tail_batches_read += stats.tail_batches_read;
  scanned_.rows += stats.rows;
  for (const auto& damage : stats.damage) {
    const bool known = std::ranges::find(scanned_.damage, damage) != scanned_.damage.end();
    if (!known && scanned_.damage.size() < max_damage_kept) scanned_.damage.push_back(damage);
  }
}

Result<std::optional<store::Reader::Instance>> Runtime::find_instance(const event::ProcessKey& key, Step& step) {
  store::ScanStats stats;
  const auto range = clamp({});
  DE_TRY(auto found, reader_->find_instance(key, range, stats));
  add(stats, step);
  if (!found) {
    touch(range);  // all of history was searched
  } else {
    const auto seen_at = found->exit_id ? found->event.time : now_;
    touch({seen_at, seen_at});
  }
  return found;
}

// The same process is asked for by many rows and rules; each time, what is missing of it counts.
Result<Runtime::Link> Runtime::link(const std::string& process_key) {
  auto known = links_.find(process_key);
  if (known == links_.end()) {
    Link link;
    if (const auto key = event::parse_process_key(process_key)) {
      DE_TRY(const auto found, reader_->find_instance(*key, {}, link.met));
      if (found) {
        const auto& event = found->event;
        link.known = true;
        link.name = event.process.name;
        if (event.process.parent_key) link.parent_key = event::to_string(*event.process.parent_key);
        link.parent_name = event.parent_name;
        if (found->exit_id) link.looked_at = {event.time, event.time};
      } else {
        link.looked_at = event::TimeRange{};  // all of history
      }
    }
    constexpr std::size_t max_links = 16 * 1024;
    if (links_.size() >= max_links) links_.clear();
    known = links_.emplace(process_key, std::move(link)).first;
  }
  const auto& link = known->second;
  if (link.looked_at) touch(clamp(*link.looked_at));
  add(link.met, unnoted_);
  return link;
}

Result<bool> Runtime::has_ancestor(const std::string& process_key, std::string_view name) {
  std::set<std::string> seen{process_key};
  std::string current = process_key;
  for (std::size_t depth = 0; depth < max_lineage_depth; ++depth) {
    DE_TRY(const auto here, link(current));
    if (here.parent_name == name) return true;
    if (!here.known || !here.parent_key || !seen.insert(*here.parent_key).second) return false;
    current = *here.parent_key;
    DE_TRY(const auto parent, link(current));
    if (parent.known && parent.name == name) return true;
  }
  return false;
}

Result<std::vector<event::ProcessEvent>> walk_lineage(store::Reader& reader, const event::ProcessKey& key,
                                                      std::size_t max_depth, store::ScanStats& stats) {
  std::vector<event::ProcessEvent> line;
  std::set<event::ProcessKey> seen;
  std::optional<event::ProcessKey> next = key;
  while (next && line.size() <= max_depth && seen.insert(*next).second) {
    DE_TRY(auto found, reader.find_instance(*next, {}, stats));
    if (!found) break;
    next = found->event.process.parent_key;
    line.push_back(std::move(found->event));
  }
  return line;
}

void Runtime::set_driving(std::vector<DrivingRow> rows) {
  driving_ = std::move(rows);
  driving_time_ = {};
  for (const auto& row : driving_) {
    const Timestamp time = row.event->time;
    if (!driving_time_.from || time < *driving_time_.from) driving_time_.from = time;
    if (!driving_time_.to || time > *driving_time_.to) driving_time_.to = time;
  }
  for (auto& values : driving_values_) values.clear();
}

const event::Value& Runtime::driving_value(std::size_t row, event::Column column, bool of_processes) {
  auto& values = driving_values_[of_processes ? 1 : 0];
  if (values.empty()) values.resize(driving_.size() * event::column_count);
  auto& value = values[row * event::column_count + static_cast<std::size_t>(column)];
  if (value) return *value;
  const auto& [event_id, event] = driving_[row];
  const bool ended = of_processes && event->kind == event::EventKind::exit;
  value = ended && column == event::Column::status ? event::Value(std::string("exited"))
                                                   : event::column_value(*event, event_id, column);
  if (ended && column == event::Column::exit_time && std::holds_alternative<std::monostate>(*value)) {
    value = event->time.ns;
  }
  return *value;
}

}  // namespace daemoneye::sql
