// What the store holds of each sink's alerts: how many wait, since when, how many were given up. On a connection of its
// own: whoever asks waits for nobody. Counting a long outbox takes a while, so the answer may be one of shortly before.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "store/reader.h"

namespace daemoneye::alert {

class StoredCounts {
 public:
  // What takes no longer than `quick` is counted whenever it is asked for.
  StoredCounts(std::string store_path, std::vector<std::string> sinks, std::chrono::nanoseconds quick);

  struct Waiting {
    std::uint64_t alerts = 0;
    std::optional<Timestamp> oldest;
  };
  struct Counts {
    std::map<std::string, Waiting> waiting;             // of the sinks
    std::map<std::string, std::uint64_t> dead_letters;  // of any sink
  };
  // Any thread.
  Result<Counts> get();

 private:
  Result<Counts> count();

  const std::string path_;
  const std::vector<std::string> sinks_;
  const std::chrono::nanoseconds quick_;
  std::mutex mutex_;
  std::unique_ptr<store::Reader> reader_;  // opened when it is first needed
  Result<Counts> last_;
  base::SteadyClock::time_point good_until_;
};

}  // namespace daemoneye::alert
