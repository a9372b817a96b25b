// The tracker's memory: what it keeps, counted, and what it lets go first when that becomes too much.
#include "collector/tracker.h"

namespace daemoneye::collector {
namespace {

constexpr std::size_t node_bytes = 32;  // what a hash table takes for an entry beside it

}  // namespace

std::string Tracker::shortened_detail(std::uint64_t arguments_bytes) {
  return "\"arguments_bytes\":" + std::to_string(arguments_bytes) + ",\"arguments_truncated\":true";
}

void Tracker::count(Image& image) {
  constexpr std::size_t overhead = 32;  // of the block that is shared
  const auto arguments = image.arguments ? heap_bytes(image.arguments->nul_terminated()) : 0;
  image.share = {account_, sizeof image + overhead + heap_bytes(image.name) + heap_bytes(image.comm) +
                               heap_bytes(image.executable_path) + arguments + heap_bytes(image.detail) +
                               heap_bytes(image.hash)};
}

void Tracker::shorten(Image& image) {
  if (!image.told || !image.arguments || image.arguments->nul_terminated().size() <= kept_argument_bytes) return;
  const auto& whole = image.arguments->nul_terminated();
  const auto end = whole.rfind('\0', kept_argument_bytes - 1);
  std::string kept(whole, 0, end == std::string::npos ? kept_argument_bytes - 1 : end);
  image.arguments.reset();  // a text that is assigned to keeps what it had taken
  image.arguments = event::Arguments::from_nul_separated(kept);
  image.shortened = true;
  const auto says = shortened_detail(image.arguments_bytes);
  if (!image.detail.starts_with(says)) {  // the kernel's side may have cut them before
    image.detail = image.detail.empty() ? says : says + ',' + image.detail;
  }
  ++counters_.shortened;
  count(image);
}

void Tracker::shorten_all() {
  if (bytes() < shorten_again_at_) return;
  const auto shorten_of = [this](Entry& entry) {
    shorten(*entry.image);
    if (entry.parent_image) shorten(*entry.parent_image);
  };
  for (auto& [pid, entry] : entries_) shorten_of(entry);
  for (auto& [key, ended] : ended_unhashed_) shorten_of(ended.entry);
  for (auto& owed : owed_) shorten_of(owed.entry);
  shorten_again_at_ = bytes() + options_.max_bytes / 8;
}

std::size_t Tracker::bytes() const {
  return account_.bytes() + places_.bytes() + entries_.size() * (sizeof(Entry) + node_bytes) +
         owed_.size() * sizeof(OwedEnd) + ended_unhashed_.size() * (sizeof(Ended) + node_bytes);
}

void Tracker::remember_untracked(const Entry& entry) {
  // Beyond this nothing is left to remember with: the end of such a process is told only by its exit event.
  if (untracked_.size() >= 4 * options_.max_processes || bytes() >= options_.max_bytes / 8 * 9) return;
  untracked_.try_emplace(
      entry.start_ticks << 22 | entry.pid,
      Untracked{
          entry.image->name, scan_.id, {account_, sizeof(Untracked) + node_bytes + heap_bytes(entry.image->name)}});
}

}  // namespace daemoneye::collector
