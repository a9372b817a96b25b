// What the ledger is told of bundles: which one is in force, who brought it, and when it changed without a word.
#pragma once

#include <sys/types.h>

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/time.h"

namespace daemoneye::apps {

// Loop thread only.
class BundleAudit {
 public:
  // False: it cannot be kept.
  using Audit = std::function<bool(const std::string& action, const std::string& payload, std::optional<uid_t> by)>;
  BundleAudit(std::string bundle_path, Audit audit) : path_(std::move(bundle_path)), audit_(std::move(audit)) {}

  // Records what is in force when it is another one than was recorded last: at the start, and when rules changed.
  void look();
  // What an operator's import asks (ipc::RequestKind::bundle). True: another bundle is in force now, and recorded.
  Result<bool> answer(uid_t by, const std::string& payload);
  // One who may not change anything wanted to put a bundle in force.
  void denied(uid_t by);

 private:
  void refused(uid_t by, nlohmann::json payload);
  Result<bool> taken_back(uid_t by, const nlohmann::json& asked);

  std::string path_;
  Audit audit_;
  std::string told_;  // digest of the bundle; empty: none
  struct Refusals {
    base::SteadyClock::time_point hour{};
    unsigned in_hour = 0;
    std::uint64_t unrecorded = 0;
  } refusals_;
};

}  // namespace daemoneye::apps
