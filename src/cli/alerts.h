// What the verbs of alerting share.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cli/verbs.h"
#include "ipc/connection.h"
#include "store/alert.h"

namespace daemoneye::cli {

// "high,critical" and --severity given twice mean the same; a word that no alert can have is a slip.
Outcome<std::vector<std::string>> words(const char* flag, const std::vector<std::string>& given,
                                        const std::vector<std::string_view>& allowed);
inline const std::vector<std::string_view> severity_words = {"low", "medium", "high", "critical"};
inline const std::vector<std::string_view> status_words = {"open", "acknowledged", "closed"};

// Asks the agent; an object, or why not.
Outcome<nlohmann::json> ask_agent(ipc::Client& agent, ipc::RequestKind kind, const nlohmann::json& payload,
                                  Deadline deadline);

void add_alert_show(CLI::App& alerts, Action& chosen);

// alerts ack, close, reopen, follow
void add_alert_changes(CLI::App& alerts, Action& chosen);

}  // namespace daemoneye::cli
