// What is kept in memory, in bytes: each object carries its share of an account, which ends with it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>

namespace daemoneye::collector {

// What a text takes beside the object that holds it; short ones fit into that.
inline std::size_t heap_bytes(const std::string& text) {
  static const std::size_t inside = std::string().capacity();
  constexpr std::size_t block_overhead = 16;
  return text.capacity() <= inside ? 0 : text.capacity() + 1 + block_overhead;
}
inline std::size_t heap_bytes(const std::optional<std::string>& text) { return text ? heap_bytes(*text) : 0; }

// Must outlive its shares. One thread.
class Account {
 public:
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

  class Share {
   public:
    Share() = default;
    Share(Account& account, std::size_t bytes) : account_(&account), bytes_(bytes) { account.bytes_ += bytes; }
    Share(const Share& other) : account_(other.account_), bytes_(other.bytes_) {
      if (account_ != nullptr) account_->bytes_ += bytes_;
    }
    Share(Share&& other) noexcept : account_(std::exchange(other.account_, nullptr)), bytes_(other.bytes_) {}
    Share& operator=(Share other) noexcept {
      std::swap(account_, other.account_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Share() {
      if (account_ != nullptr) account_->bytes_ -= bytes_;
    }

   private:
    Account* account_ = nullptr;
    std::size_t bytes_ = 0;
  };

 private:
  std::size_t bytes_ = 0;
};

}  // namespace daemoneye::collector
