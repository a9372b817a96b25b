#include "collector/tracker.h"

#include <nlohmann/json.hpp>

#include "base/text.h"
#include "sensor/masking.h"

namespace daemoneye::collector {
namespace {

using event::EventKind;
using event::EventSource;
using event::ExecutableState;
using event::ProcessStatus;

constexpr std::int64_t ns_per_tick = 10'000'000;  // USER_HZ is 100 on every Linux that /proc promises

// {"field":{"old":…,"new":…}} for each field that changed.
class Changes {
 public:
  template <class T>
  void note(const char* field, const std::optional<T>& before, const std::optional<T>& after) {
    if (!after || before == after) return;
    nlohmann::json change = nlohmann::json::object();
    if (before) change["old"] = *before;
    change["new"] = *after;
    json_[field] = std::move(change);
  }
  [[nodiscard]] bool any() const { return !json_.empty(); }
  [[nodiscard]] std::string text() const { return json_.dump(); }

 private:
  nlohmann::json json_ = nlohmann::json::object();
};

std::optional<std::string> state_name(std::optional<ExecutableState> state) {
  if (!state) return std::nullopt;
  return std::string(event::to_string(*state));
}

}  // namespace

Tracker::Tracker(Options options, event::BootId boot, Timestamp boot_time, Emit emit)
    : options_(std::move(options)), boot_(boot), boot_time_(boot_time), emit_(std::move(emit)) {}

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
    image->arguments = event::Arguments::from_nul_separated(arguments);
    if (raw.arguments_bytes > raw.arguments->size()) image->arguments_bytes = raw.arguments_bytes;
  }
  return image;
}

void Tracker::take_fields(Entry& entry, const sensor::RawProcess& raw) const {
  const auto take = [](auto& field, const auto& value) {
    if (value) field = value;
  };
  take(entry.cwd, raw.cwd);
  take(entry.tty, raw.tty);
  take(entry.uid, raw.uid);
  take(entry.gid, raw.gid);
  take(entry.euid, raw.euid);
  take(entry.loginuid, raw.loginuid);
  take(entry.session_id, raw.session_id);
  take(entry.status, raw.status);
  if (raw.cgroup) {
    entry.cgroup = raw.cgroup;
    entry.container = container_id(*raw.cgroup);
  }
  entry.kernel_thread = raw.kernel_thread;
}

void Tracker::take_parent(Entry& entry, const sensor::RawProcess& raw) const {
  if (entry.parent || raw.ppid == 0) return;
  const auto parent = entries_.find(raw.ppid);
  const bool known = parent != entries_.end() &&
                     (raw.parent_start_ticks == 0 || parent->second.key.start_ticks == raw.parent_start_ticks);
  if (known) {
    entry.parent = parent->second.key;
    entry.parent_image = parent->second.image;
  } else if (raw.parent_start_ticks != 0) {
    entry.parent = make_key(raw.ppid, raw.parent_start_ticks);
  }
}

Tracker::Entry* Tracker::find(event::Pid pid, std::uint64_t ticks) {
  const auto found = entries_.find(pid);
  return found == entries_.end() || found->second.key.start_ticks != ticks ? nullptr : &found->second;
}

Tracker::Entry* Tracker::insert(Entry entry, Timestamp now) {
  if (const auto old = entries_.find(entry.key.pid); old != entries_.end()) {
    if (old->second.key.start_ticks > entry.key.start_ticks) return nullptr;  // late news of one that is gone
    const Entry gone = std::move(old->second);
    entries_.erase(old);
    close_missed(gone, now);
  }
  if (entries_.size() >= options_.max_processes) {
    ++counters_.untracked;
    return nullptr;
  }
  const auto pid = entry.key.pid;
  return &entries_.insert_or_assign(pid, std::move(entry)).first->second;
}

void Tracker::on_event(const sensor::RawEvent& raw, EventSource source) {
  switch (raw.kind) {
    case sensor::RawKind::fork: on_fork(raw, source); break;
    case sensor::RawKind::exec: on_exec(raw, source); break;
    case sensor::RawKind::exit: on_exit(raw, source); break;
  }
}

void Tracker::on_fork(const sensor::RawEvent& raw, EventSource source) {
  if (find(raw.process.pid, raw.process.start_ticks) != nullptr) return;  // a scan was first
  Entry child;
  child.key = make_key(raw.process.pid, raw.process.start_ticks);
  child.first_seen = raw.time;
  take_parent(child, raw.process);
  if (const auto parent = entries_.find(raw.process.ppid);
      parent != entries_.end() && child.parent == parent->second.key) {
    const Entry& from = parent->second;
    child.image = from.image;
    child.cwd = from.cwd;
    child.tty = from.tty;
    child.cgroup = from.cgroup;
    child.container = from.container;
    child.uid = from.uid;
    child.gid = from.gid;
    child.euid = from.euid;
    child.loginuid = from.loginuid;
    child.session_id = from.session_id;
  }
  take_fields(child, raw.process);
  if (!child.image) child.image = make_image(raw.process);
  Entry* entry = insert(std::move(child), raw.time);
  if (entry != nullptr && options_.store_forks) {
    announce_ancestors(*entry, raw.time, source);
    auto event = describe(*entry, raw.time);
    entry->announced = emit(event, EventKind::fork, source, raw.time, {});
  }
}

void Tracker::on_exec(const sensor::RawEvent& raw, EventSource source) {
  Entry* entry = find(raw.process.pid, raw.process.start_ticks);
  Entry untracked;
  if (entry == nullptr) {
    untracked.key = make_key(raw.process.pid, raw.process.start_ticks);
    untracked.first_seen = raw.time;
    take_parent(untracked, raw.process);
    entry = insert(untracked, raw.time);
    if (entry == nullptr) entry = &untracked;  // the event is told all the same
  }
  entry->image = make_image(raw.process);
  take_fields(*entry, raw.process);
  announce_ancestors(*entry, raw.time, source);
  auto event = describe(*entry, raw.time);
  const bool told = emit(event, EventKind::exec, source, raw.time, {});
  entry->announced |= told;  // what was told before stays told: its end must follow
  entry->retell = !told;
  follow_hash(*entry, raw.time, source);
}

bool Tracker::remember_end(const event::ProcessKey& key) {
  if (!ended_.insert(key).second) return false;
  ended_order_.push_back(key);
  if (ended_order_.size() > max_remembered_ends) {
    ended_.erase(ended_order_.front());
    ended_order_.pop_front();
  }
  return true;
}

void Tracker::on_exit(const sensor::RawEvent& raw, EventSource source) {
  if (!remember_end(make_key(raw.process.pid, raw.process.start_ticks))) return;
  if (scan_.running) scan_.ended.insert(make_key(raw.process.pid, raw.process.start_ticks));
  Entry* entry = find(raw.process.pid, raw.process.start_ticks);
  Entry unknown;
  if (entry == nullptr) {
    // It began before we looked, or did not fit the table: what the exit itself tells is all there is.
    unknown.key = make_key(raw.process.pid, raw.process.start_ticks);
    take_parent(unknown, raw.process);
    take_fields(unknown, raw.process);
    unknown.image = make_image(raw.process);
    unknown.announced = true;
    entry = &unknown;
  }
  bool told = true;
  if (entry->announced) {
    auto event = describe(*entry, raw.time);
    event.process.status = ProcessStatus::exited;
    event.process.exit_time = raw.time;
    if (raw.exit_signal != 0)
      event.process.exit_signal = raw.exit_signal;
    else
      event.process.exit_code = raw.exit_code;
    told = emit(event, EventKind::exit, source, raw.time, {});
    if (told && entry->hash_awaited) keep_for_hash(*entry, event);
  }
  // A refused end stays in the table: the next scan does not find the process and tells it then.
  if (told && entry != &unknown) entries_.erase(raw.process.pid);
}

// A process that is told of has told ancestors: a fork that never executed anything is else not a row.
void Tracker::announce_ancestors(const Entry& entry, Timestamp now, EventSource source) {
  std::vector<Entry*> silent;
  const Entry* at = &entry;
  // A parent is older than its child, so the walk ends; the bound is for a table that lies.
  constexpr std::size_t max_depth = 64;
  while (at->parent && silent.size() < max_depth) {
    Entry* parent = find(at->parent->pid, at->parent->start_ticks);
    if (parent == nullptr || parent->announced) break;
    silent.push_back(parent);
    at = parent;
  }
  for (auto it = silent.rbegin(); it != silent.rend(); ++it) {
    auto event = describe(**it, now);
    (*it)->announced = emit(event, EventKind::seen, source, now, {});
    follow_hash(**it, now, source);
  }
}

bool Tracker::close_missed(const Entry& entry, Timestamp now) {
  if (!entry.announced) return true;
  // When and how it ended nobody saw: exit_time, exit_code and exit_signal stay unknown.
  auto event = describe(entry, now);
  event.process.status = ProcessStatus::exited;
  return emit(event, EventKind::exit, EventSource::scan, now, R"({"missed":true})");
}

void Tracker::begin_scan(std::uint64_t scan_id, Timestamp now, bool realtime) {
  users_.refresh();
  scan_.id = scan_id;
  scan_.begin = now;
  scan_.running = true;
  scan_.realtime = realtime;
  scan_.ended.clear();
}

void Tracker::sample(Entry& entry, const sensor::RawProcess& raw, Timestamp now) const {
  if (raw.resident_bytes) entry.resident_bytes = raw.resident_bytes;
  if (!raw.cpu_ticks) return;
  // The first look counts from the start of the process.
  const Timestamp since =
      entry.cpu_ticks ? entry.sampled
                      : Timestamp{boot_time_.ns + static_cast<std::int64_t>(entry.key.start_ticks) * ns_per_tick};
  const std::uint64_t before = entry.cpu_ticks.value_or(0);
  if (now.ns > since.ns && *raw.cpu_ticks >= before) {
    const double busy_ns = static_cast<double>(*raw.cpu_ticks - before) * static_cast<double>(ns_per_tick);
    entry.cpu_usage = 100.0 * busy_ns / static_cast<double>(now.ns - since.ns);
  }
  entry.cpu_ticks = raw.cpu_ticks;
  entry.sampled = now;
}

void Tracker::on_scanned(const sensor::RawProcess& raw, Timestamp now) {
  const auto key = make_key(raw.pid, raw.start_ticks);
  if (scan_.ended.contains(key)) return;
  Entry* entry = find(raw.pid, raw.start_ticks);
  if (entry != nullptr) {
    reconcile(*entry, raw, now);
    return;
  }
  // A zombie that the table does not know has ended, and its exit was told.
  if (raw.status == ProcessStatus::zombie && scan_.realtime && !scan_.first) return;
  Entry fresh;
  fresh.key = key;
  fresh.first_seen = now;
  take_parent(fresh, raw);
  take_fields(fresh, raw);
  fresh.image = make_image(raw);
  fresh.scan_id = scan_.id;
  sample(fresh, raw, now);
  entry = insert(fresh, now);
  if (entry == nullptr) {
    scan_.untracked.insert(key);
    if (untracked_told_.contains(key)) return;
  }
  if (entry != nullptr) announce_ancestors(*entry, now, EventSource::scan);
  auto event = describe(entry != nullptr ? *entry : fresh, now);
  const bool told = emit(event, EventKind::seen, EventSource::scan, now, {});
  if (entry != nullptr) {
    entry->announced = told;
    follow_hash(*entry, now, EventSource::scan);
  }
}

void Tracker::reconcile(Entry& entry, const sensor::RawProcess& raw, Timestamp now) {
  entry.scan_id = scan_.id;
  Changes changes;
  changes.note("uid", entry.uid, raw.uid);
  changes.note("gid", entry.gid, raw.gid);
  changes.note("euid", entry.euid, raw.euid);
  const auto state = newer_state(*entry.image, raw);
  changes.note("executable_state", state_name(entry.image->state), state_name(state));
  const bool other_file = raw.executable_path && entry.image->executable_path != raw.executable_path;
  // A name that a program gave itself (prctl) or arguments that it overwrote are not a new image; another file is.
  const bool missed_exec = other_file && raw.file.inode != 0 && raw.executable_state == ExecutableState::ok &&
                           entry.image->executable_path.has_value();
  take_fields(entry, raw);
  sample(entry, raw, now);
  if (missed_exec) {
    entry.image = make_image(raw);
    announce_ancestors(entry, now, EventSource::scan);
    auto event = describe(entry, now);
    const bool told = emit(event, EventKind::exec, EventSource::scan, now, R"({"missed":true})");
    entry.announced |= told;
    entry.retell = !told;
    follow_hash(entry, now, EventSource::scan);
    return;
  }
  if (state != entry.image->state || (!entry.image->executable_path && raw.executable_path)) {
    auto image = std::make_shared<Image>(*entry.image);
    if (state) image->state = state;
    if (!image->executable_path) image->executable_path = raw.executable_path;
    entry.image = std::move(image);
  }
  if (!entry.announced || entry.retell) {
    announce_ancestors(entry, now, EventSource::scan);
    auto event = describe(entry, now);
    const bool told = emit(event, EventKind::seen, EventSource::scan, now, {});
    entry.announced |= told;
    entry.retell = !told;
  } else if (changes.any()) {
    auto event = describe(entry, now);
    emit(event, EventKind::change, EventSource::scan, now, changes.text());
  }
  refresh_hash(entry, raw, now);
}

std::vector<event::LiveUpdate> Tracker::end_scan(Timestamp now) {
  std::vector<event::LiveUpdate> updates;
  std::vector<event::Pid> vanished;
  updates.reserve(entries_.size());
  for (const auto& [pid, entry] : entries_) {
    if (entry.scan_id == scan_.id) {
      event::LiveUpdate update{entry.key, entry.cpu_usage, entry.resident_bytes,
                               entry.status.value_or(ProcessStatus::running)};
      updates.push_back(update);
    } else if (entry.first_seen < scan_.begin) {
      vanished.push_back(pid);
    }
  }
  for (const auto pid : vanished) {
    if (close_missed(entries_.at(pid), now)) entries_.erase(pid);
  }
  untracked_told_ = std::move(scan_.untracked);
  scan_.untracked.clear();
  scan_.running = false;
  scan_.first = false;
  scan_.ended.clear();
  return updates;
}

event::ProcessEvent Tracker::describe(const Entry& entry, Timestamp now) const {
  event::ProcessEvent event;
  auto& process = event.process;
  process.key = entry.key;
  if (entry.parent) {
    process.ppid = entry.parent->pid;
    process.parent_key = entry.parent;
  }
  const Image& image = *entry.image;
  process.name = image.name;
  process.comm = image.comm;
  process.executable_path = image.executable_path;
  process.arguments = image.arguments;
  process.executable_state = image.state;
  process.executable_hash = image.hash;
  process.cwd = entry.cwd;
  process.uid = entry.uid;
  process.gid = entry.gid;
  process.euid = entry.euid;
  process.loginuid = entry.loginuid;
  if (entry.uid) process.user = users_.find(*entry.uid);
  process.session_id = entry.session_id;
  process.tty = entry.tty;
  process.start_time = Timestamp{boot_time_.ns + static_cast<std::int64_t>(entry.key.start_ticks) * ns_per_tick};
  process.cpu_usage = entry.cpu_usage;
  process.memory_usage = entry.resident_bytes;
  process.status = entry.status.value_or(ProcessStatus::running);
  process.cgroup = entry.cgroup;
  process.container_id = entry.container;
  process.collection_time = now;
  if (entry.scan_id != 0) process.scan_id = entry.scan_id;
  if (entry.parent_image) {
    event.parent_name = entry.parent_image->name;
    event.parent_executable_path = entry.parent_image->executable_path;
    if (entry.parent_image->arguments) event.parent_command_line = entry.parent_image->arguments->command_line();
  }
  if (image.arguments_bytes != 0) {
    event.detail = R"({"arguments_bytes":)" + std::to_string(image.arguments_bytes) + "}";
  }
  return event;
}

bool Tracker::emit(event::ProcessEvent& event, EventKind kind, EventSource source, Timestamp time, std::string detail) {
  event.kind = kind;
  event.source = source;
  event.time = time;
  if (!detail.empty()) event.detail = std::move(detail);
  for (const auto& predicate : options_.exclude) {
    if (predicate.matches(event)) {
      ++counters_.excluded;
      return true;
    }
  }
  const bool taken = emit_(event);
  ++(taken ? counters_.emitted : counters_.refused);
  return taken;
}

void Tracker::for_each(const std::function<void(const event::ProcessEvent&)>& each) const {
  const auto now = base::wall_now();
  for (const auto& [pid, entry] : entries_) each(describe(entry, now));
}

}  // namespace daemoneye::collector
