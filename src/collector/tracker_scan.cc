// The tracker's half that reconciles the table with what a scan finds.
#include <algorithm>
#include <utility>

#include "base/text.h"
#include "collector/tracker.h"

namespace daemoneye::collector {
namespace {

using event::EventKind;
using event::EventSource;
using event::ExecutableState;
using event::ProcessStatus;

constexpr std::int64_t ns_per_tick = 10'000'000;

std::string json(std::uint32_t value) { return std::to_string(value); }
std::string json(const std::string& value) { return base::json_quote(value); }
std::string json(ExecutableState state) { return base::json_quote(event::to_string(state)); }

// "field":{"new":…,"old":…} for each field that changed: members of a JSON object without the braces.
class Changes {
 public:
  template <class T>
  void note(const char* field, const std::optional<T>& before, const std::optional<T>& after) {
    if (!after || before == after) return;
    text_ += (text_.empty() ? "\"" : ",\"") + std::string(field) + "\":{\"new\":" + json(*after);
    if (before) text_ += ",\"old\":" + json(*before);
    text_ += '}';
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

constexpr std::string_view missed = R"("missed":true)";

}  // namespace

void Tracker::begin_scan(std::uint64_t scan_id, Moment, bool realtime, sensor::Depth depth) {
  if (users_.refresh()) {
    for (auto& [pid, entry] : entries_) entry.place = places_.renamed(entry.place);
  }
  scan_.id = scan_id;
  scan_.running = true;
  scan_.realtime = realtime;
  scan_.depth = depth;
  scan_.wants_full = scan_.others_hidden = false;
  scan_.found.clear();
  shorten_again_at_ = 0;
}

void Tracker::sample(Entry& entry, const sensor::RawProcess& raw, Moment now) {
  if (raw.resident_bytes) entry.resident_bytes = raw.resident_bytes;
  if (!raw.cpu_ticks) return;
  // The first look counts from the start of the process.
  const std::int64_t since =
      entry.cpu_ticks ? entry.sampled_ns : static_cast<std::int64_t>(entry.start_ticks) * ns_per_tick;
  const std::uint64_t before = entry.cpu_ticks.value_or(0);
  if (now.boot_ns > since && *raw.cpu_ticks >= before) {
    const double busy_ns = static_cast<double>(*raw.cpu_ticks - before) * static_cast<double>(ns_per_tick);
    entry.cpu_usage = 100.0 * busy_ns / static_cast<double>(now.boot_ns - since);
  }
  entry.cpu_ticks = raw.cpu_ticks;
  entry.sampled_ns = now.boot_ns;
}

void Tracker::on_scanned(const sensor::RawProcess& raw, Moment now) {
  if (Entry* known = find(raw.pid, raw.start_ticks)) return reconcile(*known, raw, now);
  if (is_gone(raw.pid, raw.start_ticks)) return;  // it ended while it was read
  // A zombie that the table does not know has ended, and its exit was told.
  if (raw.status == ProcessStatus::zombie && scan_.realtime && !scan_.first) return;
  if (raw.counters_only) {
    const auto told = untracked_.find(raw.start_ticks << 22 | raw.pid);
    if (told != untracked_.end()) told->second.scan_id = scan_.id;
    // What was told already and finds no room gains nothing from a full one.
    scan_.wants_full |= told == untracked_.end() || entries_.size() + owed_.size() < options_.max_processes;
    return;
  }
  Entry fresh = make_entry(raw);
  fresh.place = places_.updated(nullptr, raw);
  fresh.image = make_image(raw);
  fresh.status = raw.status;
  fresh.scan_id = scan_.id;
  sample(fresh, raw, now);
  Entry* entry = insert(fresh, now);
  if (entry == nullptr) {
    if (const auto told = untracked_.find(raw.start_ticks << 22 | raw.pid); told != untracked_.end()) {
      told->second.scan_id = scan_.id;
    } else if (tell(fresh, EventKind::seen, EventSource::scan, now.wall)) {
      remember_untracked(fresh);
    }
    return;
  }
  if (entry->announced) return;  // before there was room for it
  entry->found = true;
  scan_.found.emplace_back(entry->pid, entry->start_ticks);
  if (is_short_of_memory()) announce_found(now.wall);  // so that they can be kept short
}

void Tracker::announce_found(Timestamp now) {
  for (const auto& [pid, start_ticks] : std::exchange(scan_.found, {})) {
    Entry* entry = find(pid, start_ticks);
    if (entry == nullptr) continue;
    entry->found = false;
    if (entry->announced) continue;  // by an event of its own, or by a child's
    announce(*entry, EventSource::scan, now);
    follow_hash(*entry, now, EventSource::scan);
    if (is_short_of_memory()) shorten(*entry->image);
  }
}

void Tracker::abandon_scan(Moment now) {
  announce_found(now.wall);
  scan_.running = false;
}

void Tracker::on_unreadable(std::vector<event::Pid> pids) {
  if (pids.empty()) return;
  for (const auto pid : pids) {
    if (const auto found = entries_.find(pid); found != entries_.end()) found->second.scan_id = scan_.id;
  }
  std::ranges::sort(pids);
  for (auto& [key, told] : untracked_) {
    if (std::ranges::binary_search(pids, static_cast<event::Pid>(key & 0x3f'ffff))) told.scan_id = scan_.id;
  }
}

// What a process runs is another file than we know of. A name that a program gave itself (prctl), arguments that it
// overwrote or a file that was renamed are no new image.
bool Tracker::missed_exec(const Image& image, const sensor::RawProcess& raw) {
  if (raw.counters_only || raw.file.inode == 0 || !raw.executable_path || !image.executable_path) return false;
  const bool other_path = image.executable_path != raw.executable_path;
  // Numbers of two file systems do not compare: sources may see an overlay from above and from below.
  if (image.file.inode != 0 && image.file.device == raw.file.device) {
    return image.file.inode != raw.file.inode || (other_path && image.comm != raw.comm);
  }
  return other_path && raw.executable_state == ExecutableState::ok;
}

// What an event could not tell (the process was gone too soon, or its path could not be read) and a scan can.
void Tracker::complete_image(Entry& entry, const sensor::RawProcess& raw) {
  const Image& known = *entry.image;
  const auto state = newer_state(known, raw);
  const bool other_state = state != known.state;
  const bool path = !known.executable_path && raw.executable_path;
  const bool arguments = !known.arguments && raw.arguments;
  const bool file = raw.file.inode != 0 && !raw.counters_only &&
                    (raw.file.inode != known.file.inode || raw.file.device != known.file.device);
  if (!other_state && !path && !arguments && !file) return;
  auto image = std::make_shared<Image>(known);
  if (path || arguments) {
    auto seen = make_image(raw);
    if (path) image->executable_path = seen->executable_path;
    if (arguments) image->arguments = seen->arguments;
    if (path && known.name == known.comm) image->name = seen->name;
    if (image->detail.empty()) image->detail = seen->detail;
  }
  if (other_state) image->state = state;
  if (file) image->file = raw.file;
  count(*image);
  entry.image = std::move(image);
}

void Tracker::reconcile(Entry& entry, const sensor::RawProcess& raw, Moment now) {
  entry.scan_id = scan_.id;
  if (entry.exec_in_scan == scan_.id) {
    // The event may be younger than the record, although it was heard first: the next scan compares them again.
    sample(entry, raw, now);
    return;
  }
  const auto image_before = entry.image;
  const auto place_before = entry.place;
  static const Place nowhere;
  const Place& place = place_before ? *place_before : nowhere;
  const Image& image = *image_before;
  Changes changes;
  changes.note("egid", place.egid, raw.egid);
  changes.note("euid", place.euid, raw.euid);
  if (!image.executable_path) changes.note("executable_path", image.executable_path, raw.executable_path);
  changes.note("executable_state", image.state, newer_state(image, raw));
  changes.note("gid", place.gid, raw.gid);
  changes.note("uid", place.uid, raw.uid);
  if (raw.counters_only && raw.file.inode != 0 && image.file.inode != 0 &&
      (raw.file.inode != image.file.inode || raw.file.device != image.file.device)) {
    scan_.wants_full = true;  // it executed something, and only a full look can say what
    sample(entry, raw, now);
    return;
  }
  entry.place = places_.updated(entry.place, raw);
  entry.kernel_thread = raw.kernel_thread;
  if (raw.status) entry.status = raw.status;
  sample(entry, raw, now);
  take_parent(entry, raw);
  if (missed_exec(image, raw)) {
    entry.image = make_image(raw);
    announce_ancestors(entry, now.wall, EventSource::scan);
    const bool told = tell(entry, EventKind::exec, EventSource::scan, now.wall, missed);
    entry.announced |= told;
    entry.retell = !told;
    follow_hash(entry, now.wall, EventSource::scan);
    if (is_short_of_memory()) shorten(*entry.image);
    return;
  }
  complete_image(entry, raw);
  if (!entry.announced) {
    announce(entry, EventSource::scan, now.wall);
  } else if (entry.retell) {
    entry.retell = !tell(entry, EventKind::exec, EventSource::scan, now.wall, missed, Refused::kept);
  } else if (!changes.text().empty() && !tell(entry, EventKind::change, EventSource::scan, now.wall, changes.text())) {
    entry.image = image_before;  // the next scan finds the same change, and tells it
    entry.place = place_before;
  }
  if (!raw.counters_only) refresh_hash(entry, raw, now.wall);
}

void Tracker::close_vanished(Moment now) {
  const auto not_vanished = [this](std::uint64_t scan_id) {
    return scan_id == scan_.id || (scan_.others_hidden && scan_id == 0);
  };
  std::vector<event::Pid> vanished;
  for (const auto& [pid, entry] : entries_) {
    if (!not_vanished(entry.scan_id) && entry.born_in_scan != scan_.id) vanished.push_back(pid);
  }
  for (const auto pid : vanished) {
    const auto found = entries_.find(pid);
    Entry gone = std::move(found->second);
    entries_.erase(found);
    close_missed(std::move(gone), now);
  }
  for (auto it = untracked_.begin(); it != untracked_.end();) {
    if (not_vanished(it->second.scan_id)) {
      ++it;
      continue;
    }
    Entry gone;
    gone.pid = static_cast<event::Pid>(it->first & 0x3f'ffff);
    gone.start_ticks = it->first >> 22;
    gone.announced = true;
    auto image = std::make_shared<Image>();
    image->name = it->second.name;
    count(*image);
    gone.image = std::move(image);
    it = untracked_.erase(it);
    close_missed(std::move(gone), now);
  }
}

std::vector<event::LiveUpdate> Tracker::end_scan(Moment now) {
  // What was refused before is told first: it is older than what this scan found.
  tell_owed();
  for (auto& [pid, entry] : entries_) name_parent(entry);
  announce_found(now.wall);
  close_vanished(now);
  std::vector<event::LiveUpdate> updates;
  updates.reserve(entries_.size());
  for (const auto& [pid, entry] : entries_) {
    if (entry.scan_id != scan_.id) continue;
    updates.push_back(
        {key_of(entry), entry.cpu_usage, entry.resident_bytes, entry.status.value_or(ProcessStatus::running)});
  }
  scan_.running = false;
  if (scan_.depth == sensor::Depth::full) scan_.first = false;
  return updates;
}

}  // namespace daemoneye::collector
