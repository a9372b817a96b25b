#include "collector/tracker.h"

#include <algorithm>

#include "base/text.h"
#include "sensor/masking.h"

namespace daemoneye::collector {
namespace {

using event::EventKind;
using event::EventSource;
using event::ProcessStatus;

constexpr std::int64_t ns_per_tick = 10'000'000;  // USER_HZ is 100 on every Linux that /proc promises

// pids end at 2^22 on Linux, and 2^42 ticks are 1,394 years.
std::uint64_t packed(event::Pid pid, std::uint64_t start_ticks) { return start_ticks << 22 | pid; }

void add_member(std::string& text, std::string_view key, std::string_view json) {
  if (!text.empty()) text += ',';
  text += '"';
  text += key;
  text += "\":";
  text += json;
}

// What an image tells beyond the columns: members of a JSON object, without the braces.
std::string image_detail(const sensor::RawProcess& raw, std::string text) {
  if (raw.file.inode != 0) {
    // As in struct stat: glibc's makedev() for a 32-bit kernel device number.
    const auto major = (raw.file.device >> 8 & 0xfff) | (raw.file.device >> 32 & 0xffff'f000);
    const auto minor = (raw.file.device & 0xff) | (raw.file.device >> 12 & 0xffff'ff00);
    add_member(text, "device", '"' + std::to_string(major) + ':' + std::to_string(minor) + '"');
  }
  if (raw.filename && raw.filename != raw.executable_path) {
    add_member(text, "filename", base::json_quote(*raw.filename));
  }
  if (raw.file.inode != 0) add_member(text, "inode", std::to_string(raw.file.inode));
  if (raw.links && *raw.links != 1) add_member(text, "links", std::to_string(*raw.links));
  return text;
}

}  // namespace

Tracker::Tracker(Options options, event::BootId boot, Timestamp boot_time, Emit emit)
    : options_(std::move(options)), boot_(boot), boot_time_(boot_time), emit_(std::move(emit)) {
  counters_.excluded_by.resize(options_.exclude.size());
  if (options_.own_namespaces) places_.set_own_namespaces(*options_.own_namespaces);
}

std::shared_ptr<Tracker::Image> Tracker::make_image(const sensor::RawProcess& raw) {
  auto image = std::make_shared<Image>();
  image->name = process_name(raw);
  image->comm = raw.comm;
  image->executable_path = raw.executable_path;
  image->state = raw.executable_state;
  image->id = ++last_image_;
  image->file = raw.file;
  if (hashes_ != nullptr && !raw.kernel_thread) image->hash = hashes_->find(raw.file);
  if (raw.arguments) {
    std::string arguments = *raw.arguments;
    if (options_.mask_arguments && sensor::mask_arguments(image->name, arguments)) ++counters_.masked;
    image->arguments = event::Arguments::adopt(std::move(arguments));
  }
  image->arguments_bytes = raw.arguments_bytes;
  const bool cut = raw.arguments && raw.arguments_bytes > raw.arguments->size();
  image->detail = image_detail(raw, cut ? shortened_detail(raw.arguments_bytes) : "");
  count(*image);
  return image;
}

Tracker::Entry Tracker::make_entry(const sensor::RawProcess& raw) const {
  Entry entry;
  entry.pid = raw.pid;
  entry.start_ticks = raw.start_ticks;
  entry.kernel_thread = raw.kernel_thread;
  if (scan_.running) entry.born_in_scan = scan_.id;
  take_parent(entry, raw);
  return entry;
}

// The first one that is known stays: what forked it, and not who adopted it later.
void Tracker::take_parent(Entry& entry, const sensor::RawProcess& raw) const {
  if (entry.parent_pid == 0 && raw.ppid != 0) {
    const auto parent = entries_.find(raw.ppid);
    const bool known = parent != entries_.end() && parent->second.start_ticks <= raw.start_ticks;
    if (raw.parent_start_ticks != 0 || known) {
      entry.parent_pid = raw.ppid;
      entry.parent_ticks = raw.parent_start_ticks != 0 ? raw.parent_start_ticks : parent->second.start_ticks;
    }
  }
  name_parent(entry);
}

// A parent may come into the table after its child: when we start, and where pids have wrapped. Once its image is
// known it is kept, whatever the parent executes later.
void Tracker::name_parent(Entry& entry) const {
  if (entry.parent_pid == 0 || entry.parent_image) return;
  const auto parent = entries_.find(entry.parent_pid);
  if (parent == entries_.end() || !is_instance(parent->second, entry.parent_ticks)) return;
  entry.parent_ticks = parent->second.start_ticks;
  entry.parent_image = parent->second.image;
}

Tracker::Entry* Tracker::find(event::Pid pid, std::uint64_t start_ticks) {
  const auto found = entries_.find(pid);
  return found == entries_.end() || !is_instance(found->second, start_ticks) ? nullptr : &found->second;
}

bool Tracker::is_gone(event::Pid pid, std::uint64_t start_ticks) {
  if (ends_.find(pid, start_ticks) != nullptr) return true;
  const auto now = entries_.find(pid);
  return now != entries_.end() && now->second.start_ticks > start_ticks && !is_instance(now->second, start_ticks);
}

Tracker::Entry* Tracker::insert(Entry entry, Moment now) {
  if (const auto old = entries_.find(entry.pid); old != entries_.end()) {
    Entry gone = std::move(old->second);
    entries_.erase(old);
    close_missed(std::move(gone), now);
  }
  if (is_short_of_memory()) shorten_all();
  if (entries_.size() + owed_.size() >= options_.max_processes || bytes() >= options_.max_bytes) {
    ++counters_.untracked;
    return nullptr;
  }
  if (const auto told = untracked_.find(packed(entry.pid, entry.start_ticks)); told != untracked_.end()) {
    entry.announced = true;
    untracked_.erase(told);
  }
  const auto pid = entry.pid;
  return &entries_.insert_or_assign(pid, std::move(entry)).first->second;
}

void Tracker::retune(bool mask_arguments, bool store_forks, std::vector<predicate::Predicate> exclude) {
  options_.mask_arguments = mask_arguments;
  options_.store_forks = store_forks;
  options_.exclude = std::move(exclude);
  counters_.excluded_by.assign(options_.exclude.size(), 0);  // the sum of all goes on
}

void Tracker::on_event(const sensor::RawEvent& raw, EventSource source) {
  switch (raw.kind) {
    case sensor::RawKind::fork: on_fork(raw, source); break;
    case sensor::RawKind::exec: on_exec(raw, source); break;
    case sensor::RawKind::exit: on_exit(raw, source); break;
  }
}

void Tracker::on_fork(const sensor::RawEvent& raw, EventSource source) {
  const auto& process = raw.process;
  if (find(process.pid, process.start_ticks) != nullptr) return;  // a scan was first
  if (is_gone(process.pid, process.start_ticks)) return;
  Entry child = make_entry(process);
  child.started_by_stamp = source == EventSource::netlink;
  const auto parent = child.parent_pid == 0 ? entries_.end() : entries_.find(process.ppid);
  if (parent != entries_.end() && parent->second.start_ticks == child.parent_ticks) {
    child.image = parent->second.image;
    child.place = places_.updated(parent->second.place, process);
  } else {
    child.image = make_image(process);
    child.place = places_.updated(nullptr, process);
  }
  child.status = process.status;
  Entry* entry = insert(std::move(child), {raw.time, 0});
  if (entry != nullptr && options_.store_forks && !entry->announced) {
    announce_ancestors(*entry, raw.time, source);
    entry->announced = tell(*entry, EventKind::fork, source, raw.time);
    entry->retell = !entry->announced;
  }
}

void Tracker::on_exec(const sensor::RawEvent& raw, EventSource source) {
  const auto& process = raw.process;
  Entry* entry = find(process.pid, process.start_ticks);
  Entry untracked;
  bool in_table = true;
  if (entry == nullptr) {
    if (is_gone(process.pid, process.start_ticks)) return on_late_exec(raw, source);
    untracked = make_entry(process);
    untracked.image = make_image(process);
    entry = insert(untracked, {raw.time, 0});
    in_table = entry != nullptr;
    if (!in_table) entry = &untracked;  // the event is told all the same
  } else {
    // Told a second time, or older than what is known to run.
    if (raw.boot_ns != 0 && raw.boot_ns <= entry->exec_stamp) {
      ++counters_.late;
      return;
    }
    entry->image = make_image(process);
  }
  entry->exec_stamp = raw.boot_ns;
  entry->place = places_.updated(entry->place, process);
  entry->kernel_thread = process.kernel_thread;
  if (process.status) entry->status = process.status;
  announce_ancestors(*entry, raw.time, source);
  const bool told = tell(*entry, EventKind::exec, source, raw.time);
  entry->announced |= told;  // what was told before stays told: its end must follow
  entry->retell = !told;
  if (scan_.running) entry->exec_in_scan = scan_.id;
  follow_hash(*entry, raw.time, source);
  if (!in_table && told) remember_untracked(*entry);
  if (is_short_of_memory()) shorten(*entry->image);
}

// Its process has ended. When that was not told, both are told now.
void Tracker::on_late_exec(const sensor::RawEvent& raw, EventSource source) {
  const End* end = ends_.find(raw.process.pid, raw.process.start_ticks);
  if (end == nullptr || end->start_ticks != raw.process.start_ticks || end->told) {
    ++counters_.late;
    return;
  }
  Entry entry = make_entry(raw.process);
  entry.image = make_image(raw.process);
  entry.place = places_.updated(nullptr, raw.process);
  announce_ancestors(entry, raw.time, source);
  if (!tell(entry, EventKind::exec, source, raw.time)) return;
  End told = *end;
  told.told = true;
  ends_.remember(told);
  tell_end(std::move(entry), told, source);
}

void Tracker::on_exit(const sensor::RawEvent& raw, EventSource source) {
  const auto pid = raw.process.pid;
  const auto ticks = raw.process.start_ticks;
  if (is_gone(pid, ticks)) {
    ++counters_.late;
    return;
  }
  End end{.pid = pid,
          .start_ticks = ticks,
          .time = raw.time,
          .exit_code = raw.exit_code,
          .exit_signal = raw.exit_signal,
          .known = true,
          .told = false};
  const auto found = entries_.find(pid);
  if (found == entries_.end() || found->second.start_ticks != ticks) return on_unknown_exit(raw, source, end);
  Entry gone = std::move(found->second);
  entries_.erase(found);
  // Its start found no room, or waits for the end of the scan: now is the last moment to tell of it.
  if (!gone.announced && (gone.retell || gone.found)) announce(gone, source, raw.time);
  end.told = gone.announced;
  ends_.remember(end);
  tell_end(std::move(gone), end, source);
}

// It began before we looked, its start was lost, or it did not fit the table: what the exit itself tells is all there
// is. What was never told is told first, so that every end has a start.
void Tracker::on_unknown_exit(const sensor::RawEvent& raw, EventSource source, const End& end) {
  Entry entry = make_entry(raw.process);
  entry.image = make_image(raw.process);
  entry.place = places_.updated(nullptr, raw.process);
  if (const auto told = untracked_.find(packed(entry.pid, entry.start_ticks)); told != untracked_.end()) {
    entry.announced = true;
    untracked_.erase(told);
  } else {
    entry.announced = tell(entry, EventKind::seen, source, raw.time);
  }
  End told = end;
  told.told = entry.announced;
  ends_.remember(told);
  if (const auto former = entries_.find(entry.pid);
      former != entries_.end()) {  // an earlier instance, whose end was lost
    Entry gone = std::move(former->second);
    entries_.erase(former);
    tell_end(std::move(gone), {.pid = entry.pid, .time = raw.time}, EventSource::scan);
  }
  if (entry.announced) tell_end(std::move(entry), told, source);
}

void Tracker::tell_end(Entry entry, const End& end, EventSource source) {
  if (!entry.announced && !end.told) return;
  const bool told = emit_end(entry, end, source);
  if (entry.hash_awaited) keep_for_hash(entry, end);
  if (!told) owed_.push_back({std::move(entry), end, source});
}

bool Tracker::emit_end(Entry& entry, const End& end, EventSource source) {
  describe_end(entry, end);
  event_.kind = EventKind::exit;
  event_.source = end.known ? source : EventSource::scan;
  event_.time = end.time;
  event_.detail.clear();
  const bool shortened = entry.image->shortened;
  if (!end.known || shortened) {
    event_.detail = '{';
    if (shortened) event_.detail += shortened_detail(entry.image->arguments_bytes);
    // When and how it ended nobody saw.
    if (!end.known) event_.detail += shortened ? R"(,"missed":true)" : R"("missed":true)";
    event_.detail += '}';
  }
  return emit(Refused::kept);
}

void Tracker::describe_end(Entry& entry, const End& end) {
  describe(entry, end.time);
  event_.process.status = ProcessStatus::exited;
  if (!end.known) return;
  event_.process.exit_time = end.time;
  if (end.exit_signal != 0)
    event_.process.exit_signal = end.exit_signal;
  else
    event_.process.exit_code = end.exit_code;
}

void Tracker::tell_owed() {
  while (!owed_.empty()) {
    auto& [entry, end, source] = owed_.front();
    if (!emit_end(entry, end, source)) return;
    owed_.pop_front();
  }
}

std::optional<Timestamp> Tracker::owed_since() const {
  if (owed_.empty()) return std::nullopt;
  return std::ranges::min_element(owed_, {}, [](const OwedEnd& owed) { return owed.end.time; })->end.time;
}

void Tracker::announce(Entry& entry, EventSource source, Timestamp time) {
  announce_ancestors(entry, time, source);
  const auto if_refused = entry.retell ? Refused::kept : Refused::lost;
  entry.announced = tell(entry, EventKind::seen, source, time, {}, if_refused);
  entry.retell = !entry.announced;
}

// Ended without an event that told so.
void Tracker::close_missed(Entry entry, Moment now) {
  if (!entry.announced && (entry.retell || entry.found)) announce(entry, EventSource::scan, now.wall);
  const End end{.pid = entry.pid, .start_ticks = entry.start_ticks, .time = now.wall, .told = entry.announced};
  ends_.remember(end);
  tell_end(std::move(entry), end, EventSource::scan);
}

// A process that is told of has told ancestors: a fork that never executed anything is else not a row.
void Tracker::announce_ancestors(const Entry& entry, Timestamp now, EventSource source) {
  if (entry.parent_pid == 0) return;
  Entry* parent = find(entry.parent_pid, entry.parent_ticks);
  if (parent == nullptr || parent->announced) return;
  std::vector<Entry*> silent;
  // A parent is older than its child, so the walk ends; the bound is for a table that lies.
  constexpr std::size_t max_depth = 64;
  while (parent != nullptr && !parent->announced && silent.size() < max_depth) {
    silent.push_back(parent);
    parent = parent->parent_pid == 0 ? nullptr : find(parent->parent_pid, parent->parent_ticks);
  }
  for (auto it = silent.rbegin(); it != silent.rend(); ++it) {
    const auto if_refused = (*it)->retell ? Refused::kept : Refused::lost;
    (*it)->announced = tell(**it, EventKind::seen, source, now, {}, if_refused);
    (*it)->retell = !(*it)->announced;
    follow_hash(**it, now, source);
  }
}

bool Tracker::tell(Entry& entry, EventKind kind, EventSource source, Timestamp time, std::string_view detail,
                   Refused if_refused) {
  describe(entry, time);
  event_.kind = kind;
  event_.source = source;
  event_.time = time;
  event_.detail.clear();
  for (const std::string_view part :
       {detail, kind == EventKind::change ? std::string_view() : std::string_view(entry.image->detail),
        kind == EventKind::change || !entry.place ? std::string_view() : std::string_view(entry.place->detail)}) {
    if (part.empty()) continue;
    event_.detail += event_.detail.empty() ? '{' : ',';
    event_.detail += part;
  }
  if (!event_.detail.empty()) event_.detail += '}';
  const bool taken = emit(if_refused);
  entry.image->told |= taken && kind != EventKind::change;
  return taken;
}

void Tracker::describe(Entry& entry, Timestamp now) {
  name_parent(entry);
  auto& process = event_.process;
  process.key = key_of(entry);
  if (entry.parent_pid != 0) {
    process.ppid = entry.parent_pid;
    process.parent_key = event::ProcessKey{boot_, entry.parent_pid, entry.parent_ticks};
  } else {
    process.ppid.reset();
    process.parent_key.reset();
  }
  const Image& image = *entry.image;
  process.name = image.name;
  process.comm = image.comm;
  process.executable_path = image.executable_path;
  process.arguments = image.arguments;
  process.executable_state = image.state;
  process.executable_hash = image.hash;
  static const Place nowhere;
  const Place& place = entry.place ? *entry.place : nowhere;
  process.cwd = place.cwd;
  process.uid = place.uid;
  process.gid = place.gid;
  process.euid = place.euid;
  process.loginuid = place.loginuid;
  process.user = place.user;
  process.session_id = place.session_id;
  process.tty = place.tty;
  process.cgroup = place.cgroup;
  process.container_id = place.container;
  process.start_time = Timestamp{boot_time_.ns + static_cast<std::int64_t>(entry.start_ticks) * ns_per_tick};
  process.exit_time.reset();
  process.exit_code.reset();
  process.exit_signal.reset();
  process.cpu_usage = entry.cpu_usage;
  process.memory_usage = entry.resident_bytes;
  process.status = entry.status.value_or(ProcessStatus::running);
  process.collection_time = now;
  process.scan_id.reset();
  if (entry.scan_id != 0) process.scan_id = entry.scan_id;
  if (entry.parent_image) {
    const Image& parent = *entry.parent_image;
    event_.parent_name = parent.name;
    event_.parent_executable_path = parent.executable_path;
    if (parent.arguments) {
      // Arguments::command_line() into the buffer that is there.
      const std::string& bytes = parent.arguments->nul_terminated();
      auto& line = event_.parent_command_line ? *event_.parent_command_line : event_.parent_command_line.emplace();
      line.assign(bytes, 0, bytes.empty() ? 0 : bytes.size() - 1);
      std::ranges::replace(line, '\0', ' ');
    } else {
      event_.parent_command_line.reset();
    }
  } else {
    event_.parent_name.reset();
    event_.parent_executable_path.reset();
    event_.parent_command_line.reset();
  }
}

bool Tracker::emit(Refused if_refused) {
  for (std::size_t i = 0; i < options_.exclude.size(); ++i) {
    if (options_.exclude[i].matches(event_)) {
      ++counters_.excluded;
      ++counters_.excluded_by[i];
      return true;
    }
  }
  const bool taken = emit_(event_, if_refused);
  if (taken)
    ++counters_.emitted;
  else if (if_refused == Refused::lost)
    ++counters_.refused;
  return taken;
}

std::vector<event::Pid> Tracker::pids() const {
  std::vector<event::Pid> pids;
  pids.reserve(entries_.size());
  for (const auto& [pid, entry] : entries_) pids.push_back(pid);
  return pids;
}

const event::ProcessEvent* Tracker::look_up(event::Pid pid) {
  const auto found = entries_.find(pid);
  if (found == entries_.end()) return nullptr;
  const auto now = base::wall_now();
  describe(found->second, now);
  event_.kind = EventKind::seen;
  event_.time = now;
  event_.detail.clear();
  return &event_;
}

}  // namespace daemoneye::collector
