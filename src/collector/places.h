// Where and as whom a process runs. Few distinct ones among many processes: a child has its parent's until it changes
// something, and what the first scan finds alike is kept once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>

#include "collector/names.h"
#include "sensor/source.h"

namespace daemoneye::collector {

struct Place {
  std::optional<std::string> cwd, tty, cgroup, container, user;
  std::optional<std::uint32_t> uid, gid, euid, egid, loginuid, session_id;
  std::optional<sensor::Namespaces> namespaces;
  std::string detail;  // its share of an event's `detail`: members of a JSON object without the braces
};

// One thread. What it gives out stays valid without it.
class Places {
 public:
  explicit Places(const UserNames& users) : users_(users) {}

  // `from` (may be null) with what `raw` knows better; `from` itself when that is nothing.
  std::shared_ptr<const Place> updated(const std::shared_ptr<const Place>& from, const sensor::RawProcess& raw);
  // The same place with the name that its uid has now.
  std::shared_ptr<const Place> renamed(const std::shared_ptr<const Place>& from);
  // Namespaces that differ from these are told in `detail`; unless these are known, none are.
  void set_own_namespaces(const sensor::Namespaces& namespaces) { own_ = namespaces; }

  [[nodiscard]] std::size_t size() const { return pool_.size(); }
  // What they take, those that nobody uses any more and that are not let go yet included.
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  struct Hash {
    std::size_t operator()(const std::shared_ptr<const Place>& place) const;
  };
  struct Equal {
    bool operator()(const std::shared_ptr<const Place>& a, const std::shared_ptr<const Place>& b) const;
  };
  std::shared_ptr<const Place> shared(Place place);
  [[nodiscard]] std::string detail_of(const Place& place) const;

  const UserNames& users_;
  std::optional<sensor::Namespaces> own_;
  std::unordered_set<std::shared_ptr<const Place>, Hash, Equal> pool_;
  // When the pool has grown to one of these, what nobody uses any more is let go.
  std::size_t sweep_at_ = 256, sweep_at_bytes_ = least_sweep_bytes;
  static constexpr std::size_t least_sweep_bytes = 256 * 1024;
  std::size_t bytes_ = 0;
};

}  // namespace daemoneye::collector
