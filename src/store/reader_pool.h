// Read-only connections of one process to one store: at most so many at a time, opened when first needed, used again,
// and closed when nobody has wanted them for a while.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/time.h"
#include "store/reader.h"

namespace daemoneye::store {

class ReaderPool;

// A connection on loan. Ends before the pool does, except for one that came from no pool.
class ReaderLease {
 public:
  ReaderLease() = default;
  explicit ReaderLease(std::unique_ptr<Reader> own) : reader_(std::move(own)) {}
  ReaderLease(ReaderLease&& other) noexcept;
  ReaderLease& operator=(ReaderLease&& other) noexcept;
  ~ReaderLease() { give_back(); }

  Reader& operator*() const { return *reader_; }
  Reader* operator->() const { return reader_.get(); }
  [[nodiscard]] Reader* get() const { return reader_.get(); }
  // It is closed in place of being used again: something was registered on it that ends with its user.
  void keep_from_others() { reusable_ = false; }
  void give_back();  // now

 private:
  friend class ReaderPool;
  ReaderLease(ReaderPool& pool, std::unique_ptr<Reader> reader) : pool_(&pool), reader_(std::move(reader)) {}
  ReaderPool* pool_ = nullptr;
  std::unique_ptr<Reader> reader_;
  bool reusable_ = true;
};

class ReaderPool {
 public:
  static constexpr std::size_t default_capacity = 8;
  static constexpr std::chrono::seconds idle_for{30};  // after that a connection that nobody uses is closed

  explicit ReaderPool(std::string path, std::size_t capacity = default_capacity);
  ReaderPool(const ReaderPool&) = delete;
  ReaderPool& operator=(const ReaderPool&) = delete;
  ~ReaderPool() = default;  // when every lease has ended

  // Any thread. Waits while all are on loan; limit_exceeded at the deadline. Otherwise the errors of Reader::open().
  Result<ReaderLease> take(Deadline deadline);
  // The same, opened now.
  Result<ReaderLease> take_new(Deadline deadline);
  // Closes what has been idle for so long; done by take() and by every end of a lease as well.
  void close_idle(std::chrono::nanoseconds longer_than = idle_for);

  struct State {
    std::size_t capacity = 0, on_loan = 0, idle = 0;
    std::uint64_t waits = 0, refused = 0;  // since it was made: had to wait; did so in vain
  };
  [[nodiscard]] State state() const;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  friend class ReaderLease;
  struct Idle {
    std::unique_ptr<Reader> reader;
    base::SteadyClock::time_point since;
  };
  Result<std::unique_ptr<Reader>> wait_for_place(Deadline deadline, bool may_be_used);
  Result<ReaderLease> lend(std::unique_ptr<Reader> reader);
  void give_back(std::unique_ptr<Reader> reader, bool reusable);
  // What is to be closed, which is done without the lock. `mutex_` is held.
  std::vector<Idle> take_idle(std::chrono::nanoseconds longer_than);

  const std::string path_;
  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<Idle> idle_;  // the one used last at the end
  std::size_t on_loan_ = 0;
  std::uint64_t waits_ = 0, refused_ = 0;
};

}  // namespace daemoneye::store
