#include "agent/requests.h"

#include <pwd.h>

namespace daemoneye::apps {

using nlohmann::json;

std::string dump(const json& document) { return document.dump(-1, ' ', false, json::error_handler_t::replace); }

std::string name_of(uid_t uid) {
  passwd entry{};
  passwd* found = nullptr;
  std::vector<char> buffer(16 * 1024);
  if (getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) return found->pw_name;
  return "uid " + std::to_string(uid);
}

std::optional<std::vector<std::string>> texts(const json& document, const char* key, std::size_t most,
                                              std::size_t max_bytes) {
  std::vector<std::string> list;
  const auto found = document.find(key);
  if (found == document.end()) return list;
  if (!found->is_array() || found->size() > most) return std::nullopt;
  for (const auto& item : *found) {
    if (!item.is_string() || item.get_ref<const std::string&>().size() > max_bytes) return std::nullopt;
    list.push_back(item.get<std::string>());
  }
  return list;
}

}  // namespace daemoneye::apps
