#include "store/reader_pool.h"

#include <algorithm>
#include <utility>

namespace daemoneye::store {

ReaderLease::ReaderLease(ReaderLease&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)), reader_(std::move(other.reader_)), reusable_(other.reusable_) {}

ReaderLease& ReaderLease::operator=(ReaderLease&& other) noexcept {
  if (this != &other) {
    give_back();
    pool_ = std::exchange(other.pool_, nullptr);
    reader_ = std::move(other.reader_);
    reusable_ = other.reusable_;
  }
  return *this;
}

void ReaderLease::give_back() {
  if (auto* pool = std::exchange(pool_, nullptr)) pool->give_back(std::move(reader_), reusable_);
  reader_.reset();
}

ReaderPool::ReaderPool(std::string path, std::size_t capacity)
    : path_(std::move(path)), capacity_(std::max<std::size_t>(1, capacity)) {}

// One that was used before, or null: there is a place for one more.
Result<std::unique_ptr<Reader>> ReaderPool::wait_for_place(Deadline deadline, bool may_be_used) {
  Idle surplus;  // closed after the lock is given up
  std::unique_lock held(mutex_);
  if (on_loan_ >= capacity_) ++waits_;
  if (!returned_.wait_until(held, deadline.point(), [&] { return on_loan_ < capacity_; })) {
    ++refused_;
    return fail(Errc::limit_exceeded, path_ + ": all " + std::to_string(capacity_) +
                                          " connections for reading are in use, and none came back in time");
  }
  ++on_loan_;
  if (!may_be_used || idle_.empty()) {
    if (on_loan_ + idle_.size() > capacity_) {
      surplus = std::move(idle_.front());
      idle_.erase(idle_.begin());
    }
    return nullptr;
  }
  auto reader = std::move(idle_.back().reader);
  idle_.pop_back();
  return reader;
}

Result<ReaderLease> ReaderPool::lend(std::unique_ptr<Reader> reader) {
  close_idle();
  if (reader) return ReaderLease(*this, std::move(reader));
  auto opened = Reader::open(path_);
  if (!opened) {
    give_back(nullptr, false);
    return std::unexpected(opened.error());
  }
  return ReaderLease(*this, std::move(*opened));
}

Result<ReaderLease> ReaderPool::take(Deadline deadline) {
  DE_TRY(auto reader, wait_for_place(deadline, true));
  return lend(std::move(reader));
}

Result<ReaderLease> ReaderPool::take_new(Deadline deadline) {
  DE_TRY(auto reader, wait_for_place(deadline, false));
  return lend(std::move(reader));
}

void ReaderPool::give_back(std::unique_ptr<Reader> reader, bool reusable) {
  if (!reusable) reader.reset();
  {
    const std::scoped_lock held(mutex_);
    --on_loan_;
    if (reader) idle_.push_back({std::move(reader), base::SteadyClock::now()});
  }
  returned_.notify_one();
  close_idle();
}

std::vector<ReaderPool::Idle> ReaderPool::take_idle(std::chrono::nanoseconds longer_than) {
  const auto since = base::SteadyClock::now() - longer_than;
  const auto young = std::find_if(idle_.begin(), idle_.end(), [&](const auto& idle) { return idle.since > since; });
  std::vector<Idle> old(std::make_move_iterator(idle_.begin()), std::make_move_iterator(young));
  idle_.erase(idle_.begin(), young);
  return old;
}

void ReaderPool::close_idle(std::chrono::nanoseconds longer_than) {
  std::vector<Idle> old;  // ends after the lock does
  const std::scoped_lock held(mutex_);
  old = take_idle(longer_than);
}

ReaderPool::State ReaderPool::state() const {
  const std::scoped_lock held(mutex_);
  return {capacity_, on_loan_, idle_.size(), waits_, refused_};
}

}  // namespace daemoneye::store
