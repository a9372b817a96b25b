// What the answers to operators' requests have in common.
#pragma once

#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace daemoneye::apps {

// The user's name, or "uid N".
std::string name_of(uid_t uid);
// A list of texts, each of at most `max_bytes`, empty when the key is missing; nothing when it is anything else.
std::optional<std::vector<std::string>> texts(const nlohmann::json& document, const char* key, std::size_t most,
                                              std::size_t max_bytes);
// In one line; bytes that are not UTF-8 are replaced.
std::string dump(const nlohmann::json& document);

}  // namespace daemoneye::apps
