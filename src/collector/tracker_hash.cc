// The tracker's part of hashing: who waits for which hash, and the `change` events that complete what was told.
#include <nlohmann/json.hpp>

#include "collector/tracker.h"

namespace daemoneye::collector {
namespace {

using event::EventKind;
using event::EventSource;
using event::ExecutableState;
using nlohmann::json;

json change(const std::optional<std::string>& before, const std::string& after) {
  json entry = json::object();
  if (before) entry["old"] = *before;
  entry["new"] = after;
  return entry;
}

// The members alone, as Tracker::tell() takes them.
std::string members(const json& detail) {
  const auto text = detail.dump(-1, ' ', false, json::error_handler_t::replace);
  return text.substr(1, text.size() - 2);
}

// A scan cannot tell a replaced executable from a deleted one, and one of /proc may not look at all.
bool knows_less(ExecutableState state, ExecutableState known) {
  return state == ExecutableState::unreadable ||
         (state == ExecutableState::deleted && known == ExecutableState::replaced);
}

}  // namespace

std::optional<ExecutableState> Tracker::newer_state(const Image& image, const sensor::RawProcess& raw) {
  if (!raw.executable_state || (image.state && knows_less(*raw.executable_state, *image.state))) return image.state;
  return raw.executable_state;
}

void Tracker::follow_hash(Entry& entry, Timestamp now, EventSource source) {
  if (hashes_ == nullptr || entry.kernel_thread) return;
  auto& image = *entry.image;
  entry.hash_awaited = false;
  entry.hash_told = image.hash.has_value();
  if (!image.hash) {
    if (!image.hash_settled) {
      entry.hash_awaited = hashes_->ask({key_of(entry), image.id}, image.file, image.executable_path);
    }
    return;
  }
  if (image.hash_settled || !image.executable_path) return;
  image.hash_settled = true;
  if (image.state.value_or(ExecutableState::ok) != ExecutableState::ok) return;
  if (const auto former = hashes_->note(image.file.device, *image.executable_path, *image.hash)) {
    tell(entry, EventKind::change, source, now, members({{"executable_hash", change(former, *image.hash)}}));
  }
}

void Tracker::refresh_hash(Entry& entry, const sensor::RawProcess& raw, Timestamp now) {
  if (hashes_ == nullptr || entry.kernel_thread || entry.hash_awaited || !entry.announced) return;
  auto& image = *entry.image;
  if (!image.hash && !image.hash_settled) image.hash = hashes_->find(image.file);
  if (image.hash && !entry.hash_told) {  // found out for another process that runs the same file
    entry.hash_told = tell(entry, EventKind::change, EventSource::scan, now,
                           members({{"executable_hash", change(std::nullopt, *image.hash)}}), Refused::kept);
  }
  // Deleted since: perhaps replaced, which only the helper can see.
  const bool deleted = image.state == ExecutableState::deleted && raw.file.inode != 0 && raw.file != image.file;
  if (deleted) image.file = raw.file;
  if (deleted || (!image.hash && !image.hash_settled)) {
    entry.hash_awaited = hashes_->ask({key_of(entry), image.id}, image.file, image.executable_path);
  }
}

void Tracker::keep_for_hash(const Entry& entry, const End& end) {
  if (bytes() >= options_.max_bytes) {
    ++counters_.not_kept_for_hash;
    return;
  }
  if (is_short_of_memory()) shorten(*entry.image);
  ended_unhashed_.insert_or_assign(key_of(entry), Ended{entry, end});
}

void Tracker::on_hash(const Hashes::Outcome& outcome, Timestamp now) {
  const auto complete = [&](const std::optional<std::string>& hash, const std::optional<ExecutableState>& state,
                            const std::optional<std::string>& path) {
    json detail = json::object();
    if (outcome.hash && hash != outcome.hash) detail["executable_hash"] = change(outcome.former, *outcome.hash);
    if (outcome.state && state != outcome.state) {
      detail["executable_state"] = change(state ? std::optional(std::string(event::to_string(*state))) : std::nullopt,
                                          std::string(event::to_string(*outcome.state)));
    }
    if (outcome.path && !path) detail["executable_path"] = change(std::nullopt, *outcome.path);
    return detail;
  };
  // Processes that were forked share one image: what each was told of it is what it was before this outcome.
  struct Before {
    std::optional<std::string> hash, path;
    std::optional<ExecutableState> state;
  };
  std::unordered_map<const Image*, Before> completed;
  const auto take = [&](Image& image) -> const Before& {
    const auto [place, first] = completed.try_emplace(&image, Before{image.hash, image.executable_path, image.state});
    if (first) {
      image.hash_settled = true;
      if (outcome.hash) image.hash = outcome.hash;
      if (outcome.state) image.state = outcome.state;
      if (!image.executable_path) image.executable_path = outcome.path;
      count(image);
    }
    return place->second;
  };
  for (const auto& subject : outcome.subjects) {
    if (Entry* entry = find(subject.key.pid, subject.key.start_ticks);
        entry != nullptr && entry->image->id == subject.image) {
      auto& image = *entry->image;
      entry->hash_awaited = false;
      const auto& before = take(image);
      const auto detail = complete(entry->hash_told ? before.hash : std::nullopt, before.state, before.path);
      if (detail.empty() || !entry->announced) continue;
      const bool told = tell(*entry, EventKind::change, EventSource::scan, now, members(detail));
      entry->hash_told = told && image.hash.has_value();
      continue;
    }
    const auto ended = ended_unhashed_.find(subject.key);
    if (ended == ended_unhashed_.end() || ended->second.entry.image->id != subject.image) continue;
    auto [entry, end] = std::move(ended->second);
    ended_unhashed_.erase(ended);
    const auto& before = take(*entry.image);  // its end may still be owed: then that tells it as well
    const auto detail = complete(std::nullopt, before.state, before.path);
    if (detail.empty()) continue;
    describe_end(entry, end);
    event_.process.collection_time = now;
    event_.kind = EventKind::change;
    event_.source = EventSource::scan;
    event_.time = now;
    event_.detail = '{' + members(detail) + '}';
    emit(Refused::lost);
  }
}

}  // namespace daemoneye::collector
