// What one piece of work on this thread may take of SQLite: memory, and room in temporary files. SQLite's own heap
// limit is the process's, so that one greedy query would starve the writer beside it; an account is the thread's, and
// who has none is not bounded.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

namespace daemoneye::db {

class VfsFile;

class Account {
 public:
  enum class Limit : std::uint8_t { none, memory, temporary };

  // Counts from now on what SQLite allocates and frees on this thread, and what it writes to temporary files; an
  // allocation that would pass the limit fails in SQLite as want of memory, a write as a full disk. Accounts nest: the
  // innermost counts. 0: no limit.
  Account(std::uint64_t memory_limit, std::uint64_t temporary_limit);
  ~Account();
  Account(const Account&) = delete;
  Account& operator=(const Account&) = delete;

  [[nodiscard]] static Account* current();
  // For memory of our own that belongs to the work; a negative number gives it back. False: it would be too much.
  bool take(std::int64_t bytes);
  bool take_temporary(std::int64_t bytes);
  // Asked before each large piece of memory: `refuse` true, SQLite does not get it. So work on long texts, during which
  // nothing else of ours is asked, comes to an end.
  void refuse_large_when(std::function<bool()> refuse) { refuse_ = std::move(refuse); }
  [[nodiscard]] bool refuses(std::int64_t bytes) const {
    constexpr std::int64_t large = 256 * 1024;
    return bytes >= large && refuse_ && refuse_();
  }
  [[nodiscard]] bool has_taken_half() const {
    return memory_limit_ != 0 && used_ > static_cast<std::int64_t>(memory_limit_ / 2);
  }
  [[nodiscard]] Limit reached() const { return reached_; }
  [[nodiscard]] std::uint64_t memory_limit() const { return memory_limit_; }
  [[nodiscard]] std::uint64_t temporary_limit() const { return temporary_limit_; }
  [[nodiscard]] std::uint64_t peak() const { return static_cast<std::uint64_t>(peak_); }
  [[nodiscard]] std::uint64_t temporary_written() const { return temporary_written_; }

 private:
  Account* outer_;
  std::uint64_t memory_limit_, temporary_limit_;
  std::int64_t used_ = 0, peak_ = 0;  // below 0 while memory from before is freed
  std::int64_t temporary_ = 0;
  std::uint64_t temporary_written_ = 0;
  Limit reached_ = Limit::none;
  std::function<bool()> refuse_;
};

// Whether SQLite's allocator is the one that counts: set up before main(), for SQLite takes it only before its first
// use.
bool accounts_installed();

// A temporary file of SQLite's whose growth counts on the account of the thread that writes it.
std::unique_ptr<VfsFile> make_temporary_file(std::unique_ptr<std::byte[]> storage);

}  // namespace daemoneye::db
