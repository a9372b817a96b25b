#include "alert/stored_counts.h"

namespace daemoneye::alert {
namespace {

// Counting takes no more than a tenth of the time, however often it is asked for.
constexpr int share_of_time = 10;

}  // namespace

StoredCounts::StoredCounts(std::string store_path, std::vector<std::string> sinks, std::chrono::nanoseconds quick)
    : path_(std::move(store_path)), sinks_(std::move(sinks)), quick_(quick) {}

Result<StoredCounts::Counts> StoredCounts::get() {
  const std::scoped_lock lock(mutex_);
  const auto begin = base::SteadyClock::now();
  if (begin < good_until_) return last_;
  last_ = count();
  if (!last_) reader_.reset();
  const auto end = base::SteadyClock::now();
  good_until_ = end - begin < quick_ ? end : end + (end - begin) * share_of_time;
  return last_;
}

Result<StoredCounts::Counts> StoredCounts::count() {
  if (!reader_) {
    DE_TRY(reader_, store::Reader::open(path_));
  }
  Counts counts;
  for (const auto& sink : sinks_) {
    auto& waiting = counts.waiting[sink];
    DE_TRY(waiting.alerts, reader_->outbox_depth(sink));
    DE_TRY(waiting.oldest, reader_->oldest_undelivered(sink));
  }
  DE_TRY(counts.dead_letters, reader_->dead_letter_counts());
  return counts;
}

}  // namespace daemoneye::alert
