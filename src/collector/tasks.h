// The closed table of what the agent may ask of the collector. SQL never gets here.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "collector/tracker.h"
#include "ipc/messages.h"
#include "ledger/ledger.h"

namespace daemoneye::collector {

inline constexpr std::size_t max_task_results = 20000;
inline constexpr std::size_t max_reply_bytes = 4 * 1024 * 1024;

class Tasks {
 public:
  // What is known of this process' abilities, by name; asked anew for each request.
  using Capabilities = std::function<std::map<std::string, std::string>()>;

  Tasks(const Tracker& tracker, ledger::Ledger& ledger, Capabilities capabilities);

  // Never blocks on anything but the ledger's own fsync.
  [[nodiscard]] ipc::Reply handle(const ipc::Request& request);

 private:
  Result<std::string> append_audit(const std::string& payload);
  Result<std::string> enumerate(const ipc::Request& request) const;
  [[nodiscard]] std::string capabilities() const;

  const Tracker& tracker_;
  ledger::Ledger& ledger_;
  Capabilities capabilities_;
};

}  // namespace daemoneye::collector
