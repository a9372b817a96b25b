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

// The alert that is meant: by its id, or by the only id that begins so (4 characters at least). 1: there is none;
// 2: there are several.
Outcome<std::string> find_alert(sql::Connection& connection, const std::string& given, Deadline deadline);
// The same for those that are handed on, to the agent or to a statement: what is not found stays as it was given, for
// something may be left of an alert that is no longer there.
Outcome<std::vector<std::string>> find_alerts(const std::vector<std::string>& given, Invocation& invocation);
// The beginning of an id, for people: find_alert() takes it.
std::string short_id(std::string_view alert_id);
// "11-22 14:10:05", and "2025-11-22" of what is long ago.
std::string short_time(Timestamp time, Timestamp now);

// Asks the agent; an object, or why not.
Outcome<nlohmann::json> ask_agent(ipc::Client& agent, ipc::RequestKind kind, const nlohmann::json& payload,
                                  Deadline deadline);

void add_alert_show(CLI::App& alerts, Action& chosen);

// alerts ack, close, reopen, follow
void add_alert_changes(CLI::App& alerts, Action& chosen);

}  // namespace daemoneye::cli
