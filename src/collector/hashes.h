// What is known of executables' hashes: by file, and the last one by path. Asks the hashing helper for what is not
// known, once a file however many processes wait for it. One thread: the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/time.h"
#include "event/process.h"
#include "observe/health.h"
#include "sensor/hash_cache.h"
#include "sensor/hasher.h"

namespace daemoneye::collector {

class Hashes {
 public:
  struct Options {
    std::size_t files = 8192, paths = 8192;       // remembered; about 250 bytes each, and a path's length
    std::size_t waiting = 8192;                   // processes that wait for a hash
    std::size_t waiting_bytes = 4 * 1024 * 1024;  // and what their requests may take
    std::string problem;                          // why there is no helper, or what it lacks
    std::map<std::string, std::string> details;   // of the helper, for health
  };
  // One run of one image by one process.
  struct Subject {
    event::ProcessKey key;
    std::uint64_t image = 0;
  };
  // What the helper found out, and who waited for it.
  struct Outcome {
    std::vector<Subject> subjects;
    std::optional<event::ExecutableState> state;
    std::optional<std::string> hash;
    std::optional<std::string> former;  // another hash that was seen last at the same path
    std::optional<std::string> path;
    std::string error;
  };
  struct Counters {
    std::uint64_t hits = 0;      // known at once
    std::uint64_t asked = 0;     // requests to the helper
    std::uint64_t joined = 0;    // waits for a request that is on its way
    std::uint64_t refused = 0;   // no room to wait; the next scan tries again
    std::uint64_t hopeless = 0;  // not asked: this file was too large or held the helper up before
    std::uint64_t changed = 0;   // another hash than the last of the same path
  };

  // `hasher` may be null: then nothing is hashed, and health says `problem`.
  Hashes(Options options, std::unique_ptr<sensor::Hasher> hasher);

  Result<void> start(EventLoop& loop, std::function<void(const Outcome&)> on_outcome);
  void stop();

  // The hash of this very file, when it is known.
  [[nodiscard]] std::optional<std::string> find(const sensor::FileIdentity& file);
  // Asks for it; the outcome names `subject`. False: it will not come.
  bool ask(const Subject& subject, const sensor::FileIdentity& file, const std::optional<std::string>& path);
  // That `path` on `device` holds `hash` now; gives the one before, when it was another.
  std::optional<std::string> note(std::uint64_t device, const std::string& path, const std::string& hash);
  // A file that an operator asks about. `done` is called at most once, in the loop's thread, perhaps at once.
  void hash_path(const std::string& path, std::function<void(Result<std::string>)> done);

  void set_cpu_percent(unsigned percent) {
    if (hasher_) hasher_->set_cpu_percent(percent);
  }

  [[nodiscard]] const Counters& counters() const { return counters_; }
  [[nodiscard]] observe::ComponentHealth health() const;
  void publish_metrics();

 private:
  // The device tells apart what containers have at the same path.
  struct PathKey {
    std::uint64_t device = 0;
    std::string path;
  };
  struct PathView {
    std::uint64_t device = 0;
    std::string_view path;
  };
  struct PathHash {
    using is_transparent = void;
    std::size_t operator()(const auto& key) const {
      return std::hash<std::string_view>{}(key.path) ^ static_cast<std::size_t>(key.device * 0x9e3779b97f4a7c15ULL);
    }
  };
  struct PathEqual {
    using is_transparent = void;
    bool operator()(const auto& a, const auto& b) const { return a.device == b.device && a.path == b.path; }
  };
  struct Pending {
    sensor::FileIdentity file;
    std::optional<std::string> path;
    std::vector<Subject> subjects;
    std::function<void(Result<std::string>)> done;  // an operator's
  };
  void take(const sensor::HashAnswer& answer);
  static std::size_t bytes_of(const Pending& pending);

  Options options_;
  std::unique_ptr<sensor::Hasher> hasher_;
  std::function<void(const Outcome&)> on_outcome_;
  sensor::LruMap<sensor::FileIdentity, std::string, sensor::FileIdentityHash> files_;
  sensor::LruMap<PathKey, std::string, PathHash, PathEqual> paths_;
  sensor::LruMap<sensor::FileIdentity, bool, sensor::FileIdentityHash> hopeless_;
  std::unordered_map<std::uint64_t, Pending> pending_;  // by request
  std::unordered_map<sensor::FileIdentity, std::uint64_t, sensor::FileIdentityHash> on_the_way_;
  std::size_t waiting_ = 0, waiting_bytes_ = 0;
  std::uint64_t last_request_ = 0;
  Counters counters_;
  struct Published {
    Counters own;
    sensor::HasherCounters helper;
    std::uint64_t evictions = 0;
  } published_;
};

}  // namespace daemoneye::collector
